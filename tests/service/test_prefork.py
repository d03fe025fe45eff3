"""The prefork server: its processes behave as those of `spawn`, but start with everything imported."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import psutil  # type: ignore[import-untyped]
import pytest

from dagster_offload.service.prefork import allows_prefork, prefork_command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the prefork server is for Linux only")

# Sets a value that only processes forked from the prefork server have: `builtins.known`.
PRELUDE = dedent(
    """
    import builtins, multiprocessing, os, signal, sys, time
    from pathlib import Path
    from dagster_offload.service.prefork import start_prefork_server

    def knows(queue): queue.put((getattr(builtins, "known", None), os.getpid()))
    def starts_another(queue):
        other = multiprocessing.get_context("spawn").Process(target=knows, args=(queue,))
        other.start()
        other.join()
    def exits(code): sys.exit(code)
    def dies(): os.kill(os.getpid(), signal.SIGKILL)
    def prints(): print("printed by the process", flush=True)
    def waits(queue, event):
        queue.put(os.getpid())
        event.wait(300)
        queue.put("woken")
    def sleeps(queue):
        queue.put(os.getpid())
        time.sleep(600)

    if __name__ == "__main__":
        builtins.known = "known"
        start_prefork_server(Path(sys.argv[1]))
        context = multiprocessing.get_context("spawn")
        def started(target, *given):
            process = context.Process(target=target, args=given)
            process.start()
            return process
    """
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path has about 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="offload-") as name:
        yield Path(name)


def run(folder: Path, script: str) -> list[str]:
    """Run the script in a process with a prefork server. Returns the lines it prints."""
    process = start(folder, script)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return printed.splitlines()


def start(folder: Path, script: str) -> "subprocess.Popen[str]":
    main = folder / "main.py"
    main.write_text(PRELUDE + "".join(f"    {line}\n" for line in dedent(script).strip().splitlines()))
    return subprocess.Popen(
        [sys.executable, main, folder / "runs.sock"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_new_process_starts_with_the_servers_memory(folder: Path) -> None:
    script = """
    queue = context.Queue()
    processes = [started(knows, queue) for _ in range(5)]
    answers = [queue.get() for _ in processes]
    for process in processes: process.join()
    print({known for known, _ in answers}, len({pid for _, pid in answers} | {os.getpid()}))
    """
    assert run(folder, script) == ["{'known'} 6"]


def test_a_process_started_by_a_new_process_has_that_memory_too(folder: Path) -> None:
    script = """
    queue = context.Queue()
    started(starts_another, queue).join(240)
    print(queue.get()[0])
    """
    assert run(folder, script) == ["known"]


def test_the_exit_code_is_reported(folder: Path) -> None:
    script = """
    for process in (started(exits, 7), started(exits, 0), started(dies)):
        process.join(240)
        print(process.exitcode)
    """
    assert run(folder, script) == ["7", "0", str(-signal.SIGKILL.value)]


def test_events_and_output_work_as_in_a_spawned_process(folder: Path) -> None:
    script = """
    queue, event = context.Queue(), context.Event()
    process = started(waits, queue, event)
    queue.get()
    event.set()
    print(queue.get(), flush=True)
    process.join(240)
    started(prints).join(240)
    """
    assert run(folder, script) == ["woken", "printed by the process"]


def test_a_process_starts_as_usual_after_the_server_was_killed(folder: Path) -> None:
    script = """
    queue = context.Queue()
    process = started(knows, queue)
    _, pid = queue.get()
    process.join(240)
    import psutil
    [server] = [p for p in psutil.Process().children() if "main.py" in " ".join(p.cmdline())]
    server.kill()
    server.wait()
    process = started(knows, queue)
    known, _ = queue.get()
    process.join(240)
    print(known, process.exitcode)
    """
    assert run(folder, script) == ["None 0"]


ASKED_PROGRAM = "import builtins, sys; print(getattr(builtins, 'known', None), sys.argv[2:], flush=True); sys.exit(3)"


def test_a_command_can_be_a_copy_of_the_server_with_its_own_output_and_exit_code(folder: Path) -> None:
    script = f"""
    import subprocess
    from dagster_offload.service.prefork import prefork_command
    command = prefork_command(Path(sys.argv[1]), {ASKED_PROGRAM!r}, "one", "two words")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    print(done.stdout.strip(), done.returncode)
    """
    assert run(folder, script) == ["known ['one', 'two words'] 3"]


def test_such_a_command_starts_as_usual_without_a_server(folder: Path) -> None:
    command = prefork_command(folder / "none.sock", ASKED_PROGRAM, "one", "two words")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert (done.stdout.strip(), done.returncode) == ("None ['one', 'two words']", 3)


def test_a_command_that_spawn_did_not_start_runs_without_the_server(folder: Path) -> None:
    script = """
    import subprocess
    caller = Path(sys.argv[1]).with_suffix(".sh")
    subprocess.run([caller, "-c", "import builtins; print(getattr(builtins, 'known', None))"], check=True)
    """
    assert run(folder, script) == ["None"]


def test_killing_the_client_kills_the_forked_process(folder: Path) -> None:
    script = """
    queue = context.Queue()
    process = started(sleeps, queue)
    pid = queue.get()
    process.kill()
    process.join(240)
    until = time.monotonic() + 240
    while time.monotonic() < until and Path(f"/proc/{pid}").exists(): time.sleep(0.05)
    print(process.exitcode, Path(f"/proc/{pid}").exists())
    """
    assert run(folder, script) == [f"{-signal.SIGKILL} False"]


def test_after_the_end_of_its_parent_the_server_reports_how_its_processes_end_and_then_ends(folder: Path) -> None:
    socket_file = folder / "runs.sock"
    program = "import os, sys; print(os.getppid(), flush=True); sys.exit(int(sys.stdin.readline()))"
    with start(folder, "print('started', flush=True); time.sleep(600)") as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        command = prefork_command(socket_file, program)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            prefork_server = psutil.Process(int(client.stdout.readline()))
            parent.kill()
            await_refusal(socket_file)
            assert prefork_server.is_running()
            client.communicate("0\n")
        assert client.returncode == 0
        assert gone(prefork_server)


def await_refusal(socket_file: Path, seconds: float = 240.0) -> None:
    """Wait until nothing listens at the socket."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(socket_file))
            except ConnectionRefusedError:
                return
        time.sleep(0.05)
    pytest.fail("the server still listens")


def test_a_process_with_threads_starts_no_server(folder: Path) -> None:
    script = """
    import threading
    multiprocessing.set_executable(sys.executable)
    is_over = threading.Event()
    threading.Thread(target=is_over.wait).start()
    other = Path(sys.argv[1]).with_name("other.sock")
    start_prefork_server(other)
    print(other.exists())
    is_over.set()
    """
    assert run(folder, script) == ["False"]


def gone(process: psutil.Process, seconds: float = 240.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_only_the_owner_may_run_the_client_program(folder: Path) -> None:
    run(folder, "print(1)")
    assert os.stat(folder / "runs.sh").st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("flags", "expected"), [(0, True), (os.ST_NOEXEC | os.ST_NOSUID, False)])
def test_a_folder_that_is_mounted_noexec_allows_no_prefork_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, flags: int, expected: bool
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _folder: SimpleNamespace(f_flag=flags))  # only root can mount one
    assert allows_prefork(folder) is expected


CODE_SERVER = """
import sys
from pathlib import Path
from dagster_offload.service import code_server

code_server.main = lambda: print(Path(sys.argv[2]).with_name("runs.sock").exists())  # instead of serving
code_server.serve()
"""


@pytest.mark.parametrize(
    ("variables", "has_server"),
    [({}, True), ({"OFFLOAD_PREFORK": "off"}, False), ({"OFFLOAD_PREFORK": "sometimes"}, False)],
)
def test_the_code_server_starts_a_prefork_server_unless_it_is_turned_off(
    folder: Path, variables: dict[str, str], has_server: bool
) -> None:
    environment = {**os.environ, "OFFLOAD_HOME": str(folder / "home"), **variables}
    command = [sys.executable, "-c", CODE_SERVER, "--socket", str(folder / "code.sock")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{has_server}\n"), done.stderr
    assert ("OFFLOAD_PREFORK" in done.stderr) == ("sometimes" in variables.values())
