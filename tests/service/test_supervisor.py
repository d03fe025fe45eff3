"""The supervisor with real processes: it keeps its children running and leaves none behind."""

import contextlib
import errno
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from dagster_offload.service import home as home_module
from dagster_offload.service import supervisor as supervisor_module
from dagster_offload.service.supervisor import Child, StopRequest, Supervisor, ending
from tests.support.acceptance import is_running, wait_for
from tests.support.patience import PATIENCE_SECONDS

# Supervises two children (the first has a child itself) and prints their process ids.
SUPERVISING = """
import sys
from pathlib import Path
from dagster_offload.service.supervisor import Child, StopRequest, Supervisor, stop_on_signals

log, stop = Path(sys.argv[1]), StopRequest()
with stop_on_signals(stop), Supervisor(lambda line: None) as supervisor:
    supervisor.start(Child("parent", ("/bin/sh", "-c", "sleep 1000 & echo $! >> " + sys.argv[1] + "; sleep 1000"), log))
    supervisor.start(Child("single", ("sleep", "1000"), log))
    print(*(running.process.pid for running in supervisor._running.values()), flush=True)
    while not stop.wait(0.2):
        supervisor.check()
print("stopped", flush=True)
"""

# Starts a child, prints its process id and is killed before it knows it.
KILLED_AT_A_START = """
import os, signal, subprocess, sys
from pathlib import Path
from dagster_offload.service.supervisor import Child, Supervisor

supervisor, start = Supervisor(lambda line: None), subprocess.Popen

def start_and_die(*arguments, **options):
    print(start(*arguments, **options).pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

subprocess.Popen = start_and_die
supervisor.start(Child("single", ("sleep", "1000"), Path(sys.argv[1])))
"""


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def supervisor(messages: list[str]) -> Iterator[Supervisor]:
    with Supervisor(messages.append) as supervisor:
        yield supervisor


def pid_of(supervisor: Supervisor, name: str) -> int:
    """The process id of a child."""
    return supervisor._running[name].process.pid


def watch_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    def check() -> bool:
        supervisor.check()
        return condition()

    wait_for(check, "the supervisor's next step")


def test_a_killed_child_is_restarted(supervisor: Supervisor, messages: list[str], tmp_path: Path) -> None:
    supervisor.start(Child("sleeper", ("sleep", "1000"), tmp_path / "log"))
    first = pid_of(supervisor, "sleeper")
    os.kill(first, signal.SIGKILL)
    watch_until(supervisor, lambda: pid_of(supervisor, "sleeper") != first)
    wait_for(lambda: psutil.Process(pid_of(supervisor, "sleeper")).name() == "sleep", "its program")
    assert messages == [f"sleeper ended (killed by SIGKILL); restarting it in 1 s. Log: {tmp_path / 'log'}"]


# Answers one connection on the inherited socket with its process id, and ends.
ANSWERING_ONCE = """
import os, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as listener:
    connection, _ = listener.accept()
    connection.sendall(str(os.getpid()).encode())
"""


def test_a_child_that_ended_unused_starts_again_at_the_next_connection(
    supervisor: Supervisor, messages: list[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        argv = (sys.executable, "-c", ANSWERING_ONCE, str(listener.fileno()))
        supervisor.start(Child("server", argv, tmp_path / "log", listener=listener))
        first = pid_of(supervisor, "server")
        assert answer_of(supervisor, listener) == first
        watch_until(supervisor, lambda: not psutil.pid_exists(first))
        supervisor.check()
        assert pid_of(supervisor, "server") == first, "it is not started without a connection"
        second = answer_of(supervisor, listener)
        assert second == pid_of(supervisor, "server") != first
    assert messages == []


def test_a_child_with_a_socket_that_was_killed_is_restarted_without_a_connection(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        argv = (sys.executable, "-c", ANSWERING_ONCE, str(listener.fileno()))
        supervisor.start(Child("server", argv, tmp_path / "log", listener=listener))
        first = pid_of(supervisor, "server")
        os.kill(first, signal.SIGKILL)
        watch_until(supervisor, lambda: pid_of(supervisor, "server") != first)


def answer_of(supervisor: Supervisor, listener: socket.socket) -> int:
    """Connect, and let the supervisor check until there is an answer."""
    with socket.create_connection(listener.getsockname()) as connection:
        watch_until(supervisor, lambda: bool(select.select([connection], [], [], 0)[0]))
        return int(connection.recv(100))


def test_restarts_of_a_child_that_keeps_ending_back_off(
    supervisor: Supervisor, messages: list[str], tmp_path: Path
) -> None:
    supervisor.start(Child("broken", ("false",), tmp_path / "log"))
    watch_until(supervisor, lambda: len(messages) == 3)
    assert [line.partition("restarting it in ")[2].partition(" s")[0] for line in messages] == ["1", "2", "4"]


def test_a_failed_restart_is_retried_with_the_same_back_off(
    supervisor: Supervisor, messages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    log = tmp_path / "log"
    supervisor.start(Child("sleeper", ("sleep", "1000"), log))
    first = pid_of(supervisor, "sleeper")
    with monkeypatch.context() as full:
        full.setattr(subprocess, "Popen", refuse)
        os.kill(first, signal.SIGKILL)
        watch_until(supervisor, lambda: len(messages) == 2)
    assert messages[1] == (f"sleeper cannot be started ({os.strerror(errno.EAGAIN)}); restarting it in 2 s. Log: {log}")
    watch_until(supervisor, lambda: pid_of(supervisor, "sleeper") != first)


def test_a_child_may_fail_more_than_a_thousand_times(
    supervisor: Supervisor, messages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(supervisor_module, "MAX_BACKOFF_SECONDS", 0.0)
    supervisor.start(Child("broken", ("false",), tmp_path / "log"))
    monkeypatch.setattr(subprocess, "Popen", refuse)
    watch_until(supervisor, lambda: len(messages) > 1)
    for _ in range(1100):  # a night of waits of 30 s
        supervisor.check()
    assert len(messages) > 1100


def test_a_failed_restart_of_the_watchdog_is_retried_at_the_next_check(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = watchdog_of(psutil.Process())
    before.kill()
    wait_for(lambda: watchdogs_of(psutil.Process()) == [], "the end of the watchdog")
    with monkeypatch.context() as full:
        full.setattr(subprocess, "Popen", refuse)
        supervisor.check()
    assert watchdogs_of(psutil.Process()) == []
    watch_until(supervisor, lambda: watchdogs_of(psutil.Process()) != [])


def watchdogs_of(supervising: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in supervising.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if is_running(child) and "watchdog.py" in " ".join(child.cmdline()):
                found.append(child)
    return found


def watchdog_of(supervising: psutil.Process) -> psutil.Process:
    """Wait for the watchdog: just forked, it still has its parent's command line."""
    wait_for(lambda: watchdogs_of(supervising) != [], "the watchdog")
    [watchdog] = watchdogs_of(supervising)
    return watchdog


def test_a_large_log_is_emptied_even_if_the_disk_has_no_room_for_a_copy(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = tmp_path / "log"
    log.write_bytes(b"x" * 100)
    monkeypatch.setattr(home_module, "MAX_LOG_BYTES", 99)
    monkeypatch.setattr(supervisor_module, "CHECK_LOGS_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(shutil, "copyfile", full)
    supervisor.start(Child("sleeper", ("sleep", "1000"), log))
    supervisor.check()
    assert log.stat().st_size == 0


def test_a_stop_ends_children_and_their_children(supervisor: Supervisor, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    supervisor.start(Child("parent", ("/bin/sh", "-c", f"sleep 1000 & echo $! > {pids}; wait"), tmp_path / "log"))
    wait_for(lambda: pids.exists() and pids.read_text().endswith("\n"), "the grandchild")
    grandchild = psutil.Process(int(pids.read_text()))
    supervisor.stop()
    wait_for(lambda: not is_running(grandchild), "the end of the grandchild")


def test_a_stop_ends_a_child_that_ignores_sigterm(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stubborn = ("/bin/sh", "-c", f"trap '' TERM; touch {ready}; while true; do sleep 1; done")
    supervisor = Supervisor(lambda line: None, grace_seconds=0.2)
    supervisor.start(Child("stubborn", stubborn, tmp_path / "log"))
    wait_for(ready.exists, "the child")
    child = psutil.Process(pid_of(supervisor, "stubborn"))
    supervisor.stop()
    assert not is_running(child)


def test_a_restart_kills_a_child_that_ignores_sigterm(messages: list[str], tmp_path: Path) -> None:
    ready, log = tmp_path / "ready", tmp_path / "log"
    stubborn = ("/bin/sh", "-c", f"trap '' TERM; touch {ready}; while true; do sleep 1; done")
    with Supervisor(messages.append, grace_seconds=0.2) as supervisor:
        supervisor.start(Child("stubborn", stubborn, log))
        wait_for(ready.exists, "the child")
        first = pid_of(supervisor, "stubborn")
        supervisor.restart("stubborn")
        watch_until(supervisor, lambda: pid_of(supervisor, "stubborn") != first)
    assert messages == [f"stubborn did not end at SIGTERM: killed. Log: {log}"]


def test_kill_9_of_the_supervisor_leaves_no_process_behind(tmp_path: Path) -> None:
    process, children = supervising(tmp_path)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_running, children)), "the end of the children")


def test_kill_9_of_the_supervisor_in_the_moment_it_starts_a_child_leaves_no_process_behind(tmp_path: Path) -> None:
    command = (sys.executable, "-c", KILLED_AT_A_START, str(tmp_path / "log"))
    process = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert process.returncode == -signal.SIGKILL
    with contextlib.suppress(psutil.NoSuchProcess):
        child = psutil.Process(int(process.stdout))
        wait_for(lambda: not is_running(child), "the end of the child")


def test_kill_9_of_the_supervisor_and_its_first_watchdog_leaves_no_process_behind(tmp_path: Path) -> None:
    process, children = supervising(tmp_path)
    supervising_process = psutil.Process(process.pid)
    watchdog = watchdog_of(supervising_process)
    watchdog.kill()
    wait_for(lambda: any(other.pid != watchdog.pid for other in watchdogs_of(supervising_process)), "another watchdog")
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_running, children)), "the end of the children")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_cleanly_even_if_the_shell_ignored_interrupts(tmp_path: Path, signum: signal.Signals) -> None:
    process, children = supervising(tmp_path, prefix=("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh"))
    process.send_signal(signum)
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert output.decode().strip() == "stopped"
    assert process.returncode == 0
    wait_for(lambda: not any(map(is_running, children)), "the end of the children")


def supervising(tmp_path: Path, prefix: tuple[str, ...] = ()) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    log = tmp_path / "log"
    # The tests may run under nohup, which passes SIGHUP on as ignored.
    reset_hangup = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    command = (*prefix, sys.executable, "-c", reset_hangup + SUPERVISING, str(log))
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    wait_for(lambda: log.exists() and log.read_text().endswith("\n"), "the grandchild")
    pids.append(int(log.read_text()))
    return process, [psutil.Process(pid) for pid in pids]


def test_a_stop_request_ends_a_wait_at_once() -> None:
    stop = StopRequest()
    stop()
    assert stop.wait(PATIENCE_SECONDS)
    assert not stop.is_impatient
    stop()
    assert stop.is_impatient


def test_exit_codes_and_signals_are_described() -> None:
    assert ending(1) == "exit code 1"
    assert ending(-signal.SIGKILL) == "killed by SIGKILL"
