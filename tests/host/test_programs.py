"""Programs of the owner's: no shell, and none of what they start outlives their time limit."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.host.programs import Program
from tests.support.patience import PATIENCE_SECONDS

# The grandchild holds the pipe `alive` open as long as it lives.
PARENT = "import subprocess, time; subprocess.Popen(['sleep', '600'], stdout=open('alive', 'w')); time.sleep(600)"


def program(code: str, folder: Path, timeout: float = 60.0) -> Program:
    return Program([sys.executable, "-c", code], timeout, folder)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "alive")
    return tmp_path / "alive"


def test_the_exit_code_or_the_signal_is_returned(tmp_path: Path) -> None:
    assert program("raise SystemExit(3)", tmp_path).run() == 3
    assert program("import os; os.kill(os.getpid(), 9)", tmp_path).run() == -9


def test_without_an_input_the_program_reads_nothing(tmp_path: Path) -> None:
    assert program("import sys; raise SystemExit(len(sys.stdin.read()))", tmp_path).run() == 0


def test_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    assert Program(["touch", "$HOME; touch b"], 60.0, tmp_path).run() == 0
    assert [file.name for file in tmp_path.iterdir()] == ["$HOME; touch b"]


def test_what_a_program_started_is_killed_with_it_at_its_time_limit(tmp_path: Path, pipe: Path) -> None:
    is_started = threading.Event()

    def read() -> None:
        with pipe.open("rb") as alive:  # opens when the grandchild does
            is_started.set()
            alive.read()

    ended, timeout = threading.Thread(target=read, daemon=True), 0.5
    ended.start()
    while not is_started.is_set():  # a busy machine may not start the grandchild in this time
        timeout *= 2
        with pytest.raises(subprocess.TimeoutExpired):
            program(PARENT, tmp_path, timeout=timeout).run()
    ended.join(PATIENCE_SECONDS)
    assert not ended.is_alive()


def test_another_thread_can_kill_a_program(tmp_path: Path, pipe: Path) -> None:
    running, codes = program(PARENT, tmp_path, timeout=600.0), list[int]()
    runner = threading.Thread(target=lambda: codes.append(running.run()), daemon=True)
    runner.start()
    with pipe.open("rb") as alive:  # opens when the grandchild does
        running.kill()
        runner.join(PATIENCE_SECONDS)
        assert alive.read() == b""
    assert codes == [-9]


def test_a_program_that_is_killed_while_it_starts_does_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    start, killing = subprocess.Popen, threading.Thread(target=lambda: running.kill())

    def start_slowly(*arguments: Any, **options: Any) -> Any:
        process = start(*arguments, **options)
        killing.start()  # the program runs, and `Program` does not know it yet
        killing.join(0.2)
        return process

    running = Program(["sleep", "600"], 60.0)
    monkeypatch.setattr(subprocess, "Popen", start_slowly)
    assert running.run() == -9
    killing.join(PATIENCE_SECONDS)


def test_a_program_that_was_killed_before_its_start_does_not_start(tmp_path: Path) -> None:
    running = Program(["touch", "started"], 60.0, tmp_path)
    running.kill()
    assert running.run() == -9
    assert list(tmp_path.iterdir()) == []
