"""The child process of `extractor.Extractor`: reads one file at a time, answers with its text, may be killed.

`protocol` describes the messages. It holds itself to a memory limit and ends when its parent does. What a reader
says about a fault is never passed on, because it may quote the document; only the kind of fault is.
"""

import errno
import hashlib
import os
import resource
import select
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from dagster_offload.extraction.machine import MACHINE_ERRNOS, MachineUnfit, describe
from dagster_offload.extraction.protocol import (
    CRASH,
    OUT_OF_MEMORY,
    Answer,
    Changed,
    Crashed,
    MachineFailed,
    Message,
    PageRead,
    Ready,
    Refused,
    Request,
    Unopened,
    frame,
    parse_request,
)
from dagster_offload.extraction.readers import read_file
from dagster_offload.extraction.refusals import FileRefused
from dagster_offload.extraction.scans import Pictures
from dagster_offload.extraction.tesseract import death_with_parent
from dagster_offload.library.handles import open_file
from dagster_offload.library.sizes import too_large

_OUT_OF_MEMORY_SCORE = 500  # of -1000 (never ended) to 1000 (first of all)


def main() -> None:
    """Serve requests until the parent closes stdin. Arguments: the parent's pid and the memory limit in bytes."""
    parent, memory_limit = int(sys.argv[1]), int(sys.argv[2])
    _end_with(parent)
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def send(message: Message) -> None:
        answers.write(frame(message))
        answers.flush()

    _limit_memory(memory_limit)
    send(Ready())
    for line in sys.stdin.buffer:
        answer = _answer(parse_request(line), send)
        send(answer)
        if isinstance(answer, Crashed):
            return


def _answer(request: Request, on_page: Callable[[PageRead], None]) -> Answer:
    try:
        try:
            data = _read(request)
        except OSError as error:
            return Unopened(error.errno or errno.EIO)
        if data is None or request.digest not in (None, hashlib.sha256(data).hexdigest()):
            return Changed()
        pictures = Pictures(reader=request.reader, known=request.known_pages, on_page=on_page)
        return read_file(data, request.path, request.file_type, pictures)
    except FileRefused as refused:
        return Refused(refused.code, refused.message, refused.is_final)
    except MachineUnfit as unfit:
        return MachineFailed(str(unfit))
    except MemoryError:
        return Crashed(OUT_OF_MEMORY)
    except BaseException as error:  # noqa: BLE001 - every error is reported to the parent
        number = (error.errno or 0) if isinstance(error, OSError) else 0
        if number == errno.ENOMEM:
            return Crashed(OUT_OF_MEMORY)
        if number in MACHINE_ERRNOS:
            return MachineFailed(describe(number))
        # A panic of the Rust core is a BaseException; whatever it is, only its kind is reported.
        return Crashed(CRASH, f"{type(error).__name__} {errno.errorcode.get(number, '')}".rstrip())


def _read(request: Request) -> bytes | None:
    """The file's bytes, None where it is no regular file (any more). Only its errors are reported by number.

    Raises `FileRefused` for a file of more than `request.most_bytes`, before it is read.
    """
    most_bytes = request.most_bytes
    if request.library is None:
        descriptor = os.open(request.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    else:
        descriptor = open_file(request.library, os.path.relpath(request.path, request.library))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size > most_bytes:
            raise FileRefused("too_large", too_large(status.st_size, most_bytes), is_final=True)
        # One byte more than it has, so that a file that grows meanwhile has another digest and is left for the next scan.
        return file.read(status.st_size + 1)


def _end_with(parent: int) -> None:
    """Die with the parent: at once on Linux, and everywhere when the pipe to us is closed."""
    if (die_with_it := death_with_parent()) is not None:
        die_with_it()
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)
    threading.Thread(target=_watch_stdin, daemon=True).start()


def _watch_stdin() -> None:
    hang_up = select.poll()
    hang_up.register(0, select.POLLHUP)
    hang_up.poll()
    os._exit(0)


def _limit_memory(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold documents
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        go_first_when_memory_runs_out(Path("/proc/self/oom_score_adj"))


def go_first_when_memory_runs_out(score: Path) -> None:
    """Where memory runs out all the same, the kernel should take us and not the parent."""
    try:
        if int(score.read_text()) < _OUT_OF_MEMORY_SCORE:  # lowering it takes a right that most have not
            score.write_text(str(_OUT_OF_MEMORY_SCORE))
    except OSError:  # /proc is read-only or not there: a courtesy not granted keeps no file from being read
        pass


if __name__ == "__main__":
    main()
