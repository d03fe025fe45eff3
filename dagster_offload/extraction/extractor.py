"""Extract text in a child process, so that a document that hangs, crashes or uses up memory cannot harm the parent.

`Extractor` owns one child. It starts the child when needed, and a new one after a kill. The child (`child`) reads the
files. The parent enforces the limits and decides whether a failure is a fault of the document or of the machine.
`protocol` describes the messages between the two.
"""

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from dagster_offload.errors import ChangedWhileRead, ExtractionFailed, ExtractorUnavailable, MachineFault, OcrWanted
from dagster_offload.extraction.limits import MAX_BYTES, keeps_much
from dagster_offload.extraction.ocr.tesseract import NO_READER, Reader
from dagster_offload.extraction.private_folder import make_private_folder
from dagster_offload.extraction.protocol import (
    CRASH,
    OUT_OF_MEMORY,
    Answer,
    Changed,
    Crashed,
    Extracted,
    MachineFailed,
    Message,
    PageRead,
    PagesWanted,
    Ready,
    Refused,
    Request,
    Unopened,
    request_line,
    take_message,
)
from dagster_offload.host.python_process import environment_without_secrets, python_command
from dagster_offload.library.files import extension
from dagster_offload.library.too_large import DEFAULT_MAX_BYTES
from dagster_offload.text.sizes import shown_size
from dagster_offload.text.system_errors import words_of

TIME_LIMIT_SECONDS = 120.0
PAGE_LIMIT_SECONDS = 120.0  # for each page that OCR reads; a dense page takes 10 s on a slow machine
START_LIMIT_SECONDS = 60.0
PIPE_BYTES = 65_536  # as many a pipe holds on Linux
# The child is replaced after this many documents, or when it keeps too much memory. This limits leaks. A start takes 0.3 s.
DOCUMENTS_PER_CHILD = 10_000
MEMORY_CHECKED_EVERY = 50  # documents

_SIMPLER = "If a viewer shows it, split it or export it as PDF"
# The last messages of Rust, C++ and the allocator when they get no memory.
_OUT_OF_MEMORY = (b"memory allocation of", b"bad_alloc", b"out of memory", b"cannot allocate memory", b"memoryerror")


OnPage = Callable[[PageRead], None]


class Extractor:
    """One child process that extracts one file at a time. A context manager; each thread needs its own.

    The child dies with this process, and on Linux with the thread that started it (the death signal is per thread).
    """

    def __init__(
        self,
        time_limit_seconds: float = TIME_LIMIT_SECONDS,
        memory_limit_bytes: int = MAX_BYTES,
        *,
        page_limit_seconds: float = PAGE_LIMIT_SECONDS,
        most_bytes: int = DEFAULT_MAX_BYTES,
        reader: Reader = NO_READER,
        home: Path | None = None,
    ) -> None:
        """`home` holds the child's private folder if no temporary folder of the system is suitable."""
        self.time_limit_seconds = time_limit_seconds
        self.memory_limit_bytes = memory_limit_bytes
        self.page_limit_seconds = page_limit_seconds
        self.most_bytes = most_bytes
        self._reader = reader
        self._home = home
        self._child: _Child | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the child. A concurrent `extract` in another thread raises `ExtractorUnavailable`."""
        self._is_closed = True
        if (child := self._child) is not None:
            child.kill()
        with self._lock:  # wait until no thread reads from the child's pipes
            self._drop_child()

    @property
    def child_pid(self) -> int | None:
        """The pid of the child, or None if none is running."""
        return None if self._child is None else self._child.process.pid

    def extract(
        self,
        path: Path,
        expected_digest: str | None = None,
        *,
        library: Path | None = None,
        known_pages: Mapping[int, str] | None = None,
        on_page: OnPage | None = None,
        pages: Collection[int] | None = None,
    ) -> Extracted:
        """Extract the text of a file. Blocks for at most the time limit, plus the page limit for each page that OCR
        reads, plus the start of a child (under a second).

        `on_page` is called when OCR begins a page and again when the page is read. `known_pages` are texts that the
        same reader has already read, by page number from 1. They are not read again. `pages` are those that OCR may read
        now; None = all. If it names pages, they are read, and the text is not put together.

        The child opens a file of a `library` below that folder without following links, so a link that is created
        meanwhile cannot lead out of the library.

        Raises:
            OcrWanted: `pages` is not None, and it names pages or OCR must read others that are not known.
            ExtractionFailed: the file gives no text. Final for a file that is broken, protected, too large or of an
                unsupported type. Not final after a timeout, a crash or when memory ran out.
            ChangedWhileRead: the SHA-256 of the bytes is not `expected_digest`. The child reads the bytes once, so
                no text is ever stored for other bytes than its own.
            OSError: the file cannot be opened or read. Nothing else raises it.
            ExtractorUnavailable: no child can be started.
            MachineFault: this machine cannot read such a file in its present state.
        """
        with self._lock:
            request = Request(
                path=os.fspath(path.absolute()),
                library=None if library is None else os.fspath(library.absolute()),
                digest=expected_digest,
                most_bytes=self.most_bytes,
                file_type=extension(path.name),
                reader=self._reader,
                known_pages=dict(known_pages or {}),
                pages=None if pages is None else tuple(pages),
            )
            return self._extracted_or_error(self._send(request, on_page), path)

    def _send(self, request: Request, on_page: OnPage | None) -> Answer:
        child = self._ready_child()
        try:
            answer = child.send(request, self.time_limit_seconds, self.page_limit_seconds, on_page)
        except BaseException:
            # The child's next answer would belong to this request.
            self._drop_child()
            raise
        if answer is None:
            ran_out_of_memory, kind = child.ran_out_of_memory(), f"{child.describe_exit()}{child.describe_page()}"
            self._drop_child()
            if self._is_closed:
                raise ExtractorUnavailable("the extractor was closed during the extraction")
            return Crashed(OUT_OF_MEMORY if ran_out_of_memory else CRASH, kind)
        if isinstance(answer, Crashed) or child.is_worn_out():
            self._drop_child()
        return answer

    def _extracted_or_error(self, answer: Answer, path: Path) -> Extracted:
        match answer:
            case Extracted():
                return answer
            case PagesWanted(numbers, of):
                raise OcrWanted(numbers, of)
            case Changed():
                raise ChangedWhileRead(f"{path.name} changed since its digest was taken; the next scan reads it again")
            case Unopened(number):
                raise OSError(number, os.strerror(number), os.fspath(path))
            case MachineFailed(reason):
                raise MachineFault(reason)
            case Refused(code, message, is_final):
                raise ExtractionFailed(code, message, is_final=is_final)
            case Crashed(code) if code == OUT_OF_MEMORY:
                limit = shown_size(self.memory_limit_bytes)
                raise ExtractionFailed(
                    code, f"the extractor needs more than its memory limit of {limit} for this file: split it"
                )
            case Crashed(code, kind):
                raise ExtractionFailed(code, f"the extractor crashed on this file ({kind}). {_SIMPLER}")

    def _ready_child(self) -> "_Child":
        # A child that died while idle (its thread ended, or a person killed it) is not a document fault.
        if self._child is not None and self._child.process.poll() is not None:
            self._drop_child()
        if self._child is None:
            self._refuse_when_closed()
            try:
                self._child = _Child(self.memory_limit_bytes, self._home)
            except OSError as error:  # must not be mistaken for an OSError of the file
                reason = words_of(error)
                raise ExtractorUnavailable(f"the extractor process does not start: {reason}") from error
            try:
                self._refuse_when_closed()  # close() may have run before the child existed
                self._child.wait_until_ready()
            except BaseException:
                self._drop_child()
                raise
        return self._child

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise ExtractorUnavailable("the extractor is closed")

    def _drop_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()


class _Child:
    """The process, its private folder, and the pipes to it."""

    def __init__(self, memory_limit_bytes: int, home: Path | None) -> None:
        self.request_count = 0
        self.memory_limit_bytes = memory_limit_bytes
        self.page: PageRead | None = None  # the page that OCR is reading
        self.folder = make_private_folder(home)
        self.errors: IO[bytes] = tempfile.TemporaryFile(dir=self.folder.name)  # noqa: SIM115 - closed by close()
        arguments = [str(os.getpid()), str(memory_limit_bytes)]
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                python_command("-m", "dagster_offload.extraction.child", *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                cwd="/",
                env=environment_without_secrets() | {"TMPDIR": self.folder.name},
                start_new_session=True,  # a process group that can be killed, and that Ctrl-C does not reach
            )
        except OSError:
            self.errors.close()
            self.folder.cleanup()
            raise
        self._received = bytearray()
        self._readable = select.poll()
        self._readable.register(self.process.stdout or -1, select.POLLIN)

    def wait_until_ready(self) -> None:
        try:
            answer = self._receive(time.monotonic() + START_LIMIT_SECONDS)
        except TimeoutError:
            answer = None
        if answer is None:
            # Safe to quote: the child has not read a document yet.
            errors = self._last_errors().decode(errors="replace").strip().splitlines()
            raise ExtractorUnavailable(
                f"the extractor process does not start: {errors[-1] if errors else 'no reason given'}"
            )

    def send(
        self,
        request: Request,
        time_limit_seconds: float,
        page_limit_seconds: float,
        on_page: OnPage | None,
    ) -> Answer | None:
        """Return the child's answer, or None if it died. Raises `ExtractionFailed` after the time limit."""
        self.request_count += 1
        self.page = None
        assert self.process.stdin is not None  # noqa: S101 - for the type checker
        limit, deadline = time_limit_seconds, time.monotonic() + time_limit_seconds
        try:
            self.process.stdin.write(request_line(request))
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        try:
            while isinstance(answer := self._receive(deadline), PageRead):
                self.page = answer if answer.text is None else None
                if on_page is not None:
                    on_page(answer)
                limit = time_limit_seconds if self.page is None else page_limit_seconds
                deadline = time.monotonic() + limit
        except TimeoutError:
            code = "extraction_timeout" if self.page is None else "ocr_timeout"
            message = f"no text after {limit:g} s{self.describe_page()}: the extractor was stopped. {_SIMPLER}"
            raise ExtractionFailed(code, message) from None
        assert not isinstance(answer, Ready)  # noqa: S101 - it is sent once, before the first request
        return answer

    def is_worn_out(self) -> bool:
        """Whether a new child should read the next document."""
        if self.request_count % MEMORY_CHECKED_EVERY == 0 and keeps_much(self.process.pid, self.memory_limit_bytes):
            return True
        return self.request_count >= DOCUMENTS_PER_CHILD

    def describe_page(self) -> str:
        return "" if self.page is None else f" at page {self.page.number} of {self.page.of}"

    def kill(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.folder.cleanup()

    def ran_out_of_memory(self) -> bool:
        self.process.wait()
        last = self._last_errors().lower()
        return any(sign in last for sign in _OUT_OF_MEMORY)

    def describe_exit(self) -> str:
        """The name of the signal that ended the child, or its exit code."""
        code = self.process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _last_errors(self) -> bytes:
        self.process.poll()
        end = self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, end - 4096))
        return self.errors.read()

    def _receive(self, deadline: float) -> Message | None:
        """Return the next message, or None if the child closes the pipe first. Raises `TimeoutError`."""
        assert self.process.stdout is not None  # noqa: S101 - for the type checker
        while (message := take_message(self._received)) is None:
            if not self._readable.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            read = os.read(self.process.stdout.fileno(), PIPE_BYTES)
            if not read:
                return None
            self._received += read
        return message
