"""The health check of the image asks the web server only while it runs, so it neither starts it nor keeps it running."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dagster_offload.service import home as home_module
from dagster_offload.service import processes
from dagster_offload.service.home import RunningUp, hold_up_lock
from dagster_offload.service.ui import access, health_check
from tests.support.sink_servers import serving


def check(home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "dagster_offload.service.ui.health_check"],
        env={**os.environ, "OFFLOAD_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def up_at(home: Path, address: str) -> Iterator[None]:
    """The lock of a running `up` whose UI has this address."""
    with hold_up_lock(home) as lock:
        lock.write(replace(RunningUp.of_this_process(), address=address))
        yield


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[None]:
    """A process that looks like the web server."""
    waiting = "import sys; sys.stdin.read()"
    words = (processes.UI_PROGRAM, "--home", str(tmp_path / "home"))
    with subprocess.Popen([sys.executable, "-c", waiting, *words], stdin=subprocess.PIPE) as process:
        yield
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_web_server_that_runs_is_asked_below_the_prefix_of_the_ui(
    tmp_path: Path, web_server: None, status: int, code: int
) -> None:
    answers = serving(lambda asked: (status if asked.path == "/offload/healthz" else 404, None))
    with answers as address, up_at(tmp_path / "home", f"{address}/offload"):
        checked = check(tmp_path / "home")
    assert checked.returncode == code, checked.stderr


def test_a_web_server_that_hangs_is_unhealthy(tmp_path: Path, web_server: None) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, up_at(tmp_path / "home", f"http://127.0.0.1:{silent.getsockname()[1]}"):
        checked = check(tmp_path / "home")
    assert (checked.returncode, checked.stderr) == (1, "the UI does not answer: timed out\n")


def test_a_web_server_that_ended_because_no_page_was_open_is_not_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with up_at(tmp_path / "home", f"http://127.0.0.1:{listener.getsockname()[1]}"):
            checked = check(tmp_path / "home")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert checked.returncode == 0, checked.stderr


def test_an_up_that_starts_or_does_not_run_is_unhealthy(tmp_path: Path) -> None:
    assert "No such file" in check(tmp_path / "home").stderr
    with up_at(tmp_path / "home", ""):
        assert check(tmp_path / "home").stderr == "`up` starts\n"
    assert check(tmp_path / "home").stderr == "`up` does not run\n"


def test_it_knows_the_names_that_the_others_use() -> None:
    assert health_check.LOCK_NAME == home_module.LOCK_NAME
    assert health_check.UI_PROGRAM == processes.UI_PROGRAM
    assert health_check.HEALTH_PATH == access.HEALTH_PATH
