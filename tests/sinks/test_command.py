"""A program as a sink: its input, its exit codes, its time limit."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from dagster_offload.sinks.command import Command
from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.sinks.message import Message
from tests.support.acceptance import wait_for
from tests.support.patience import PATIENCE_SECONDS

MESSAGE = Message("key-1", "script", "a.txt", "v1", {"document": "a.txt", "summary": "난방비"})


def program(code: str, folder: Path, timeout: float = 30.0) -> Command:
    return Command([sys.executable, "-c", code], timeout, folder)


def test_a_program_reads_the_record_as_json_in_the_home(tmp_path: Path) -> None:
    program("import sys; open('got', 'wb').write(sys.stdin.buffer.read())", tmp_path).send(MESSAGE)
    got = json.loads((tmp_path / "got").read_text(encoding="utf-8"))
    assert (got["idempotency_key"], got["record"]) == ("key-1", {"document": "a.txt", "summary": "난방비"})


@pytest.mark.rule("sink-3")
@pytest.mark.parametrize(
    ("code", "blame", "reason"),
    [
        ("raise SystemExit(1)", Blame.REFUSED, "exit code 1"),
        ("raise SystemExit(75)", Blame.UNAVAILABLE, "exit code 75: not now"),
        ("import os; os.kill(os.getpid(), 9)", Blame.REFUSED, "ended by signal 9"),
    ],
)
def test_the_exit_code_says_what_became_of_the_record(tmp_path: Path, code: str, blame: Blame, reason: str) -> None:
    with pytest.raises(SinkFault) as caught:
        program(code, tmp_path).send(MESSAGE)
    assert (caught.value.blame, caught.value.reason) == (blame, reason)


def test_a_program_that_does_not_exist_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(SinkFault) as caught:
        Command([str(tmp_path / "nothing")], 30.0, tmp_path).send(MESSAGE)
    assert caught.value.blame is Blame.MISCONFIGURED
    assert caught.value.reason.startswith(
        f"{tmp_path}/nothing cannot be started: No such file or directory: check its path"
    )


def test_a_program_is_killed_with_all_that_it_started_at_its_time_limit(tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    # The grandchild holds the pipe open as long as it lives.
    code = "import subprocess, time; subprocess.Popen(['sleep', '600'], stdout=open('alive', 'w')); time.sleep(600)"
    is_started, has_ended = threading.Event(), threading.Event()

    def read_to_the_end() -> None:
        with fifo.open("rb") as alive:  # opens when the grandchild does
            is_started.set()
            alive.read()
        has_ended.set()

    threading.Thread(target=read_to_the_end, daemon=True).start()
    timeout = 0.5
    while not is_started.is_set():  # a busy machine may not start the grandchild in this time
        timeout *= 2
        with pytest.raises(SinkFault, match=f"not finished within {timeout:g} s"):
            program(code, tmp_path, timeout=timeout).send(MESSAGE)
    assert has_ended.wait(PATIENCE_SECONDS)


def test_a_program_that_does_not_read_its_input_may_still_succeed(tmp_path: Path) -> None:
    large = Message("key-1", "script", "a.txt", "v1", {"document": "a.txt", "text": "x" * 1_000_000})
    program("pass", tmp_path).send(large)


SENDING = """
import sys
from pathlib import Path
from dagster_offload.sinks.command import Command
from dagster_offload.sinks.message import Message

code = "import time; alive = open('alive', 'w'); time.sleep(600)"
Command([sys.executable, "-c", code], 600.0, Path()).send(Message("key-1", "script", "a.txt", "v1", {}))
"""


def test_a_program_ends_after_kill_9_of_its_sender(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "alive")
    sender = subprocess.Popen([sys.executable, "-c", SENDING], cwd=tmp_path)
    with (tmp_path / "alive").open("rb") as alive:  # opens when the program does
        watched = psutil.Process(sender.pid)
        wait_for(lambda: len(watched.children()) == 2, "the program and its watchdog")
        sender.kill()
        sender.wait()
        assert alive.read() == b""
