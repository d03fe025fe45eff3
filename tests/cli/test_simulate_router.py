"""`simulate-router` as a person starts it: in the foreground, until a signal."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from dagster_offload.cli.simulate_router import command
from dagster_offload.simulator.server import Router

pytestmark = pytest.mark.slow


START = "from dagster_offload.cli.simulate_router import command; command()"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_asleep_until_a_signal_ends_it(stop: signal.Signals) -> None:
    command_line = [sys.executable, "-c", START, "--port", "0", "--asleep"]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert told is not None
            assert httpx.get(f"{told[0]}/health", trust_env=False).json() == {"status": "upstream_cold"}
            process.send_signal(stop)
            process.wait()
        finally:
            process.kill()


def test_a_port_in_use_is_one_clear_line(router: Router) -> None:
    result = CliRunner().invoke(command, ["--port", str(router.port)])
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{router.port}" in result.output
    assert "Traceback" not in result.output


def test_a_script_that_makes_no_sense_is_wrong_usage(tmp_path: Path) -> None:
    script = tmp_path / "day.json"
    script.write_text('[{"set": {"mode": "sleepy"}}]')
    result = CliRunner().invoke(command, ["--port", "0", "--script", str(script)])
    assert result.exit_code == 2
    assert "mode" in result.output


def test_help_shows_examples() -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "/admin/state" in result.output
    assert "after_answers" in result.output
