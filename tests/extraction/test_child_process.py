"""The extractor's child process: a document that harms it harms neither the parent nor another document."""

import errno
import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from dagster_offload.errors import ExtractionFailed, ExtractorUnavailable, MachineFault
from dagster_offload.extraction import child as extraction_child
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.extraction.self_test import EMPTY_PDF
from tests.support.extraction import failure
from tests.support.patience import PATIENCE_SECONDS

SECRET = "xylophone-4711"
UNPRIVILEGED_UID = 65534
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memory limits and death signals")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def started(extractor: Extractor, folder: Path) -> int:
    """The pid of the extractor's child, after it has read one file."""
    extractor.extract(write(folder / "first.txt", b"first"))
    assert extractor.child_pid is not None
    return extractor.child_pid


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition in another process that sends no event."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.005)


def has_unread_request(pid: int) -> bool:
    with open(f"/proc/{pid}/fd/0", "rb") as pipe:
        return bool(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"))[0] > 0)


def stop(pid: int) -> None:
    """Stop the process and wait until it has stopped. Until then it could still accept a request."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "the child stops")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@linux_only
def test_a_child_that_hangs_is_killed_after_the_time_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"text")
    with Extractor() as extractor:
        pid = started(extractor, tmp_path)
        stop(pid)
        extractor.time_limit_seconds = 0.2
        error = failure(extractor, path)
        assert (error.code, error.is_final) == ("extraction_timeout", False)
        assert "0.2 s" in error.message
        assert not is_alive(pid)
        extractor.time_limit_seconds = 240.0
        assert extractor.extract(path).text == "text"


@linux_only
def test_a_crash_of_the_child_fails_the_document_and_the_child_is_replaced(
    own_extractor: Extractor, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.txt", b"text")
    with ThreadPoolExecutor(1) as thread:
        pid = thread.submit(started, own_extractor, tmp_path).result()
        stop(pid)
        crashed = thread.submit(failure, own_extractor, path)
        wait_until(lambda: has_unread_request(pid), "the request reaches the child")
        os.kill(pid, signal.SIGKILL)
        error = crashed.result()
        assert (error.code, error.is_final) == ("extraction_crash", False)
        assert "SIGKILL" in error.message
        assert thread.submit(own_extractor.extract, path).result().text == "text"


@linux_only
def test_a_child_that_dies_while_idle_fails_no_document(own_extractor: Extractor, tmp_path: Path) -> None:
    pid = started(own_extractor, tmp_path)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert own_extractor.extract(write(tmp_path / "a.txt", b"text")).text == "text"
    assert own_extractor.child_pid != pid


@linux_only
@pytest.mark.parametrize("name", ["huge.txt", "huge.pdf"])
def test_a_file_too_big_for_the_memory_limit_fails_and_the_next_one_is_read(tmp_path: Path, name: str) -> None:
    huge = tmp_path / name
    with huge.open("wb") as file:
        file.truncate(2 * 1024**3)  # sparse: takes no disk
    with Extractor(memory_limit_bytes=700 * 1024**2, most_bytes=4 * 1024**3) as extractor:
        error = failure(extractor, huge)
        assert (error.code, error.is_final) == ("extraction_memory", False)
        assert extractor.extract(write(tmp_path / "a.txt", b"text")).text == "text"


@pytest.mark.slow
@linux_only
def test_running_out_of_memory_is_distinguished_from_a_crash(tmp_path: Path) -> None:
    page = write(tmp_path / "wide.html", b"<p>" + b"some words <b>and more</b> " * 6_000_000)
    with Extractor(memory_limit_bytes=1000 * 1024**2) as extractor:
        error = failure(extractor, page)
        assert (error.code, error.is_final) == ("extraction_memory", False)


@pytest.mark.parametrize(("present", "after"), [(-998, 500), (0, 500), (500, 500), (999, 999)])
def test_the_oom_score_of_the_child_is_raised_and_never_lowered(tmp_path: Path, present: int, after: int) -> None:
    score = write(tmp_path / "oom_score_adj", b"%d\n" % present)
    extraction_child.raise_oom_score(score)
    assert int(score.read_text()) == after


def test_a_child_starts_even_if_its_oom_score_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_given: object) -> int:
        raise PermissionError(13, "Permission denied")

    extraction_child.raise_oom_score(tmp_path / "no proc here")
    score = write(tmp_path / "oom_score_adj", b"0\n")
    monkeypatch.setattr(Path, "write_text", refused)
    extraction_child.raise_oom_score(score)
    assert score.read_text() == "0\n"


@pytest.mark.root
@linux_only
def test_a_child_that_inherits_a_higher_oom_score_keeps_it(tmp_path: Path) -> None:
    """As in a Kubernetes pod without a memory request, where no process may lower its score."""
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from dagster_offload.extraction.child import raise_oom_score\n"
        "own = Path('/proc/self/oom_score_adj')\n"
        "own.write_text('900')\n"
        f"os.setgroups([]); os.setgid({UNPRIVILEGED_UID}); os.setuid({UNPRIVILEGED_UID})\n"
        "raise_oom_score(own)\n"
        "print(own.read_text())\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "900", ran.stderr


def test_a_child_that_cannot_be_started_is_not_a_document_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_given: object, **_options: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with (
        Extractor() as extractor,
        pytest.raises(ExtractorUnavailable, match=r"does not start: Resource temporarily unavailable"),
    ):
        extractor.extract(write(tmp_path / "a.txt", b"text"))


@linux_only
def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", b"text")
    script = (
        "import sys, pathlib\n"
        "from dagster_offload.extraction.extractor import Extractor\n"
        "extractor = Extractor()\n"
        "extractor.extract(pathlib.Path(sys.argv[1]))\n"
        "print(extractor.child_pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "a.txt")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        stop(pid)  # so that it cannot see its stdin end
        parent.kill()
    wait_until(lambda: not is_alive(pid), "the child dies")


def test_the_child_ends_when_its_stdin_does() -> None:
    arguments = [str(os.getpid()), str(4 * 1024**3)]
    child = subprocess.Popen(
        [sys.executable, "-m", "dagster_offload.extraction.child", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.read(8)  # it is ready
    assert child.returncode == 0


@linux_only
def test_closing_ends_an_extraction_in_another_thread(own_extractor: Extractor, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        pid = thread.submit(started, own_extractor, tmp_path).result()
        stop(pid)
        waiting: Future[Extracted] = thread.submit(own_extractor.extract, tmp_path / "first.txt")
        wait_until(lambda: has_unread_request(pid), "the request reaches the child")
        own_extractor.close()
        with pytest.raises(ExtractorUnavailable):
            waiting.result()
    assert not is_alive(pid)
    with pytest.raises(ExtractorUnavailable):
        own_extractor.extract(tmp_path / "first.txt")


KEYS = ("OFFLOAD_DEEP_API_KEY", "HOOK_TOKEN", "PGPASSWORD", "LD_SDK_KEY", "NIX_CONFIG", "PYTHONANYWHERE_API_TOKEN")


@linux_only
def test_the_child_inherits_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.setenv(name, SECRET)
    with Extractor() as extractor:
        environment = Path(f"/proc/{started(extractor, tmp_path)}/environ").read_bytes().split(b"\0")
    assert [
        entry for entry in environment if entry.startswith(tuple(map(str.encode, KEYS))) or SECRET.encode() in entry
    ] == []


@linux_only
def test_only_a_file_that_needs_pdfium_loads_it(tmp_path: Path) -> None:
    with Extractor() as extractor:
        maps = Path(f"/proc/{started(extractor, tmp_path)}/maps")
        assert "pdfium" not in maps.read_text()
        extractor.extract(write(tmp_path / "a.pdf", EMPTY_PDF))
        assert "pdfium" in maps.read_text()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise ImportError('no wheel', name=__name__)", "no wheel"),
        (
            "raise OSError('failed to map segment from shared object: Operation not permitted')",
            "failed to map segment from shared object: Operation not permitted",
        ),
    ],
)
def test_without_pdfium_a_pdf_waits_and_a_text_file_is_read(
    fault: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = f"the library pypdfium2 cannot be imported ({reason}): install dagster-offload again"
    write(tmp_path / "pypdfium2.py", fault.encode())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Extractor() as extractor:
        with pytest.raises(MachineFault, match=re.escape(message)):
            extractor.extract(write(tmp_path / "a.pdf", EMPTY_PDF))
        assert extractor.extract(write(tmp_path / "a.txt", b"text")).text == "text"


def test_too_little_memory_to_load_pdfium_is_no_fault_of_its_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "pypdfium2.py", b"raise OSError('libpdfium.so: failed to map segment from shared object')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Extractor() as extractor, pytest.raises(ExtractionFailed) as raised:
        extractor.extract(write(tmp_path / "a.pdf", EMPTY_PDF))
    assert raised.value.code == "extraction_memory"


@linux_only
def test_a_child_that_keeps_much_memory_is_replaced(
    own_extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster_offload.extraction.extractor.MEMORY_CHECKED_EVERY", 2)
    monkeypatch.setattr("dagster_offload.extraction.extractor.keeps_much", lambda *_: True)
    first = started(own_extractor, tmp_path)
    own_extractor.extract(tmp_path / "first.txt")
    assert own_extractor.child_pid is None
    own_extractor.extract(tmp_path / "first.txt")
    assert own_extractor.child_pid not in (None, first)


@linux_only
def test_a_child_is_replaced_after_a_number_of_documents(
    own_extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster_offload.extraction.extractor.DOCUMENTS_PER_CHILD", 2)
    threads, pids = threading.active_count(), []
    for _ in range(4):
        pids.append(started(own_extractor, tmp_path) if own_extractor.child_pid is None else own_extractor.child_pid)
        own_extractor.extract(tmp_path / "first.txt")
    assert len(set(pids)) > 1
    assert threading.active_count() <= threads
