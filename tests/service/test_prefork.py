"""New processes are forked from a twin that has imported everything: as `spawn` makes them, but for what they know."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import psutil  # type: ignore[import-untyped]
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are spawned as ever")

# What the twin's process knows and a fresh interpreter does not.
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
        event.wait(60)
        queue.put("woken")
    def sleeps(queue):
        queue.put(os.getpid())
        time.sleep(60)

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
    """What a process with a twin prints, a line each."""
    process = start(folder, script)
    printed, said = process.communicate()
    assert process.returncode == 0, said
    return printed.splitlines()


def start(folder: Path, script: str) -> "subprocess.Popen[str]":
    main = folder / "main.py"
    main.write_text(PRELUDE + "".join(f"    {line}\n" for line in dedent(script).strip().splitlines()))
    return subprocess.Popen(
        [sys.executable, main, folder / "runs.sock"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_new_process_knows_what_its_twin_knows(folder: Path) -> None:
    script = """
    queue = context.Queue()
    processes = [started(knows, queue) for _ in range(5)]
    found = [queue.get() for _ in processes]
    for process in processes: process.join()
    print({known for known, _ in found}, len({pid for _, pid in found} | {os.getpid()}))
    """
    assert run(folder, script) == ["{'known'} 6"]


def test_what_a_new_process_starts_knows_it_too(folder: Path) -> None:
    script = """
    queue = context.Queue()
    started(starts_another, queue).join(30)
    print(queue.get()[0])
    """
    assert run(folder, script) == ["known"]


@pytest.mark.parametrize(("target", "code"), [("exits, 7", 7), ("exits, 0", 0), ("dies", -signal.SIGKILL)])
def test_how_it_ends_is_told(folder: Path, target: str, code: int) -> None:
    script = f"""
    process = started({target})
    process.join(30)
    print(process.exitcode)
    """
    assert run(folder, script) == [str(int(code))]


def test_events_reach_it_and_its_output_is_ours(folder: Path) -> None:
    script = """
    queue, event = context.Queue(), context.Event()
    process = started(waits, queue, event)
    queue.get()
    event.set()
    print(queue.get(), flush=True)
    process.join(30)
    started(prints).join(30)
    """
    assert run(folder, script) == ["woken", "printed by the process"]


def test_without_its_twin_a_process_starts_as_ever(folder: Path) -> None:
    script = """
    queue = context.Queue()
    process = started(knows, queue)
    _, pid = queue.get()
    process.join(30)
    import psutil
    [twin] = [p for p in psutil.Process().children() if "main.py" in " ".join(p.cmdline())]
    twin.kill()
    twin.wait()
    process = started(knows, queue)
    known, _ = queue.get()
    process.join(30)
    print(known, process.exitcode)
    """
    assert run(folder, script) == ["None 0"]


def test_what_is_no_process_of_multiprocessings_starts_as_ever(folder: Path) -> None:
    script = """
    import subprocess
    caller = Path(sys.argv[1]).with_suffix(".sh")
    subprocess.run([caller, "-c", "import builtins; print(getattr(builtins, 'known', None))"], check=True)
    """
    assert run(folder, script) == ["None"]


def test_killing_what_stands_for_it_ends_it(folder: Path) -> None:
    script = """
    queue = context.Queue()
    process = started(sleeps, queue)
    pid = queue.get()
    process.kill()
    process.join(30)
    until = time.monotonic() + 120
    while time.monotonic() < until and Path(f"/proc/{pid}").exists(): time.sleep(0.05)
    print(process.exitcode, Path(f"/proc/{pid}").exists())
    """
    assert run(folder, script) == [f"{-signal.SIGKILL} False"]


def test_the_twin_ends_with_its_process_and_what_was_forked_goes_on(folder: Path) -> None:
    script = """
    queue = context.Queue()
    process = started(sleeps, queue)
    print(queue.get(), flush=True)
    time.sleep(60)
    """
    with start(folder, script) as process:
        assert process.stdout is not None
        forked = psutil.Process(int(process.stdout.readline()))
        try:
            prefork_server = forked.parent()
            assert prefork_server is not None
            process.kill()
            assert gone(prefork_server)
            assert forked.is_running()
        finally:
            forked.kill()


def test_a_process_with_threads_has_no_twin(folder: Path) -> None:
    script = """
    import threading
    multiprocessing.set_executable(sys.executable)
    threading.Thread(target=time.sleep, args=(0.5,)).start()
    other = Path(sys.argv[1]).with_name("other.sock")
    start_prefork_server(other)
    print(other.exists())
    """
    assert run(folder, script) == ["False"]


def gone(process: psutil.Process, seconds: float = 120.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_only_the_owner_may_start_what_is_started(folder: Path) -> None:
    run(folder, "print(1)")
    assert os.stat(folder / "runs.sh").st_mode & 0o777 == 0o700
