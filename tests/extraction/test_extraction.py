"""The extractor's limits: a document that harms the child does not harm the parent, and no document text leaks."""

import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import ChangedWhileRead, ExtractionFailed, ExtractorUnavailable
from dagster_offload.extraction import child as extraction_child
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.ocr.tesseract import NO_READER
from dagster_offload.extraction.protocol import Answer, Crashed, Extracted, Request, Unopened
from dagster_offload.stages.graph import Outcome

FILES = Path(__file__).parent / "files"
SECRET = "xylophone-4711"
UNPRIVILEGED_UID = 65534
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memory limits and death signals")


@pytest.fixture(scope="module")
def shared() -> Iterator[Extractor]:
    """One child for the tests that do not harm it."""
    with Extractor() as extractor:
        yield extractor


@pytest.fixture
def extractor() -> Iterator[Extractor]:
    with Extractor() as own:
        yield own


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
    deadline = time.monotonic() + 120
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


def failure(extractor: Extractor, path: Path) -> ExtractionFailed:
    with pytest.raises(ExtractionFailed) as failed:
        extractor.extract(path)
    return failed.value


# Outcomes


@pytest.mark.parametrize(
    ("name", "content", "outcome"),
    [
        ("nothing.pdf", b"", Outcome.EMPTY),
        ("blank.txt", b" \r\n\t\n", Outcome.EMPTY),
        ("blank.html", b"<html><body> <p></p></body></html>", Outcome.NO_TEXT),
        ("note.txt", b"a note", Outcome.OK),
        ("note", b"a note", Outcome.OK),
    ],
)
def test_the_outcome_follows_from_the_content_of_the_file(
    shared: Extractor, tmp_path: Path, name: str, content: bytes, outcome: Outcome
) -> None:
    assert shared.extract(write(tmp_path / name, content)).outcome == outcome


def test_a_picture_needs_ocr(shared: Extractor, tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    one_white_pixel = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0\xff")) + chunk(b"IEND", b"")
    found = shared.extract(write(tmp_path / "page.png", one_white_pixel))
    metadata = {"mime": "image/png", "pages_to_ocr": 1, "reason": "this file is a picture. OCR is not set up here"}
    assert found == Extracted(Outcome.NEEDS_OCR, "", metadata)


def test_text_is_normalized_for_storage(shared: Extractor, tmp_path: Path) -> None:
    content = "\ufeffone  \r\ntwo\0\t\rthree\x0cfour\n\n\n\n\n각\n".encode()
    found = shared.extract(write(tmp_path / "a.txt", content))
    assert found.text == "one\ntwo\nthree\nfour\n\n\n각"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("안녕", "cp949"), ("회의록: 5월 20일 (월) 오전", "cp949"), ("안녕 hello", "utf-16"), ("안녕", "utf-8-sig")],
)
def test_short_korean_texts_are_decoded_in_their_own_encoding(
    shared: Extractor, tmp_path: Path, text: str, encoding: str
) -> None:
    assert shared.extract(write(tmp_path / "a.txt", text.encode(encoding))).text == text


def test_the_content_of_a_file_takes_precedence_over_its_name(shared: Extractor, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "really-a-zip.txt", "w") as archive:
        archive.writestr("a.txt", "a")
    for name, content in [
        ("table.xls", b"<html><body><table><tr><td>cell</td></tr></table></body></html>"),
        ("letter.doc", rb"{\rtf1\ansi cell\par}"),
        ("letter.txt", rb"{\rtf1\ansi cell\par}"),
    ]:
        assert "cell" in shared.extract(write(tmp_path / name, content)).text
    assert failure(shared, tmp_path / "really-a-zip.txt").code == "unsupported_type"


# Faults


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("a.pdf", "broken_file"),
        ("a.docx", "broken_file"),
        ("a.xlsx", "broken_file"),
        ("a.ppt", "broken_file"),
        ("a.hwp", "broken_file"),
        ("a.epub", "broken_file"),
        ("a.ipynb", "broken_file"),
        ("a.png", "broken_file"),
        ("a.eml", "broken_file"),
        ("a", "unsupported_type"),
    ],
)
def test_a_broken_file_fails_finally_and_no_message_quotes_its_text(
    shared: Extractor, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, code: str
) -> None:
    content = f"{SECRET}\n".encode() * 50 + (bytes(range(256)) * 4 if name == "a" else b"")
    error = failure(shared, write(tmp_path / name, content))
    assert (error.code, error.is_final) == (code, True)
    messages = f"{error} {error!r} {error.__cause__!r} {error.__context__!r} {capfd.readouterr()}"
    assert SECRET not in messages


def test_a_password_protected_pdf_is_reported_as_such(shared: Extractor) -> None:
    error = failure(shared, FILES / "password_protected.pdf")
    assert (error.code, error.is_final) == ("password_protected", True)
    assert "password" in error.message


def test_a_file_that_cannot_be_opened_is_an_os_error(shared: Extractor, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.pdf"):
        shared.extract(tmp_path / "missing.pdf")
    with pytest.raises(IsADirectoryError):
        shared.extract(tmp_path)


def test_text_of_bytes_with_another_digest_is_never_returned(shared: Extractor, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"one")
    before = sha256(b"one").hexdigest()
    assert shared.extract(path, before).text == "one"
    path.write_bytes(b"two")
    with pytest.raises(ChangedWhileRead):
        shared.extract(path, before)


def test_a_pipe_instead_of_a_file_does_not_block(shared: Extractor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(ChangedWhileRead):
        shared.extract(tmp_path / "a.txt")


def test_only_opening_the_file_is_reported_as_an_error_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error inside a reader is a document fault, unless the system reports a machine fault."""
    path = write(tmp_path / "a.txt", b"text")
    request = Request(
        path=str(path), library=None, digest=None, most_bytes=1024**2, file_type="txt", reader=NO_READER, known_pages={}
    )

    def answered_when_reading_raises(error: OSError) -> Answer:
        def broken(*_given: object) -> Any:
            raise error

        monkeypatch.setattr(extraction_child, "read_file", broken)
        return extraction_child._answer(request, lambda _page: None)

    for error, code in [
        (OSError(f"cannot identify {SECRET}"), "extraction_crash"),  # as Pillow raises it, without a number
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "extraction_memory"),
    ]:
        answer = answered_when_reading_raises(error)
        assert isinstance(answer, Crashed)
        assert answer.code == code
        assert SECRET not in str(answer)
    missing = replace(request, path=str(tmp_path / "missing.txt"))
    assert extraction_child._answer(missing, lambda _page: None) == Unopened(errno.ENOENT)


def test_a_folder_replaced_by_a_link_after_its_digest_is_not_read(shared: Extractor, tmp_path: Path) -> None:
    library = tmp_path / "library"
    (library / "letters").mkdir(parents=True)
    path = write(library / "letters" / "a.txt", b"a letter")
    assert shared.extract(path, library=library).text == "a letter"
    (library / "letters").rename(tmp_path / "aside")
    (library / "letters").symlink_to(tmp_path / "secrets")
    (tmp_path / "secrets").mkdir()
    write(tmp_path / "secrets" / "a.txt", SECRET.encode())
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        shared.extract(path, library=library)
    assert SECRET in shared.extract(path).text, "without a library, the link is followed"


def test_a_link_inside_the_library_is_read(shared: Extractor, tmp_path: Path) -> None:
    (tmp_path / ".store").mkdir()
    write(tmp_path / ".store" / "x", b"annexed")
    (tmp_path / "a.txt").symlink_to(".store/x")
    assert shared.extract(tmp_path / "a.txt", library=tmp_path).text == "annexed"


# Faults of the child


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
        extractor.time_limit_seconds = 60.0
        assert extractor.extract(path).text == "text"


@linux_only
def test_a_crash_of_the_child_fails_the_document_and_the_child_is_replaced(
    extractor: Extractor, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.txt", b"text")
    with ThreadPoolExecutor(1) as thread:
        pid = thread.submit(started, extractor, tmp_path).result()
        stop(pid)
        crashed = thread.submit(failure, extractor, path)
        wait_until(lambda: has_unread_request(pid), "the request reaches the child")
        os.kill(pid, signal.SIGKILL)
        error = crashed.result()
        assert (error.code, error.is_final) == ("extraction_crash", False)
        assert "SIGKILL" in error.message
        assert thread.submit(extractor.extract, path).result().text == "text"


@linux_only
def test_a_child_that_dies_while_idle_fails_no_document(extractor: Extractor, tmp_path: Path) -> None:
    pid = started(extractor, tmp_path)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert extractor.extract(write(tmp_path / "a.txt", b"text")).text == "text"
    assert extractor.child_pid != pid


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
def test_closing_ends_an_extraction_in_another_thread(extractor: Extractor, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        pid = thread.submit(started, extractor, tmp_path).result()
        stop(pid)
        waiting: Future[Extracted] = thread.submit(extractor.extract, tmp_path / "first.txt")
        wait_until(lambda: has_unread_request(pid), "the request reaches the child")
        extractor.close()
        with pytest.raises(ExtractorUnavailable):
            waiting.result()
    assert not is_alive(pid)
    with pytest.raises(ExtractorUnavailable):
        extractor.extract(tmp_path / "first.txt")


@linux_only
@pytest.mark.parametrize("name", ["OFFLOAD_DEEP_API_KEY", "HOOK_TOKEN", "PGPASSWORD"])
def test_the_child_inherits_no_key(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRET)
    with Extractor() as extractor:
        pid = started(extractor, tmp_path)
        assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


@linux_only
def test_a_child_is_replaced_after_a_number_of_documents(
    extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster_offload.extraction.extractor.DOCUMENTS_PER_CHILD", 2)
    threads, pids = threading.active_count(), []
    for _ in range(4):
        pids.append(started(extractor, tmp_path) if extractor.child_pid is None else extractor.child_pid)
        extractor.extract(tmp_path / "first.txt")
    assert len(set(pids)) > 1
    assert threading.active_count() <= threads
