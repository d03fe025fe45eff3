"""`simulate-router` in the foreground, until a signal stops it."""

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
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("stop", "exit_code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_serves_until_a_signal_stops_it_quietly(stop: signal.Signals, exit_code: int) -> None:
    command_line = [sys.executable, "-m", "dagster_offload.cli", "simulate-router", "--port", "0", "--asleep"]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert address is not None
            assert httpx.get(f"{address[0]}/health", trust_env=False, timeout=PATIENCE_SECONDS).json() == {
                "status": "upstream_cold"
            }
            process.send_signal(stop)
            assert process.communicate() == ("", "")
            assert process.returncode == exit_code
        finally:
            process.kill()


def test_a_port_in_use_is_reported_in_one_line(router: Router) -> None:
    result = CliRunner().invoke(command, ["--port", str(router.port)])
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{router.port}" in result.output
    assert "--port 0 for a free one" in result.output
    assert "Traceback" not in result.output


def test_an_invalid_script_is_wrong_usage(tmp_path: Path) -> None:
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
    assert '"answers"' in result.output
