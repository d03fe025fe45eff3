"""The child process of `extractor.Extractor`. It reads one file at a time and replies with the text.

The child limits its own memory and exits when its parent does. `protocol` describes the messages. The child never
forwards a reader's error message, because the message may quote the document. It reports only the kind of error.
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

from dagster_offload.extraction.machine import MACHINE_ERRNOS, describe, describe_missing, is_out_of_memory
from dagster_offload.extraction.ocr.scans import PictureReader
from dagster_offload.extraction.ocr.tesseract import parent_death_signal
from dagster_offload.extraction.protocol import (
    CRASH,
    OUT_OF_MEMORY,
    Answer,
    Changed,
    Crashed,
    MachineFailed,
    Message,
    PageRead,
    PagesWanted,
    Ready,
    Refused,
    Request,
    Unopened,
    frame,
    parse_request,
)
from dagster_offload.extraction.readers import read_file
from dagster_offload.extraction.refusals import FileRefused
from dagster_offload.library.handles import open_file
from dagster_offload.library.too_large import too_large

_OUT_OF_MEMORY_SCORE = 500  # the range is -1000 (never killed) to 1000 (killed first)


def main() -> None:
    """Serve requests until the parent closes stdin. Arguments: the parent's pid and the memory limit in bytes."""
    parent, memory_limit = int(sys.argv[1]), int(sys.argv[2])
    _exit_with_parent(parent)
    # Send stdout to stderr, so that a library's output cannot corrupt the stream of answers.
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
        pictures = PictureReader(request.reader, request.known_pages, on_page, request.pages)
        found = read_file(data, request.path, request.file_type, pictures)
        if pictures.wanted or request.pages:
            return PagesWanted(tuple(sorted(pictures.wanted)), max(pictures.wanted.values(), default=0))
        return found
    except FileRefused as refused:
        return Refused(refused.code, refused.message, refused.is_final)
    except MemoryError:
        return Crashed(OUT_OF_MEMORY)
    except ImportError as error:
        return Crashed(OUT_OF_MEMORY) if is_out_of_memory(error) else MachineFailed(describe_missing(error))
    except BaseException as error:  # noqa: BLE001 - every error, also a panic of the Rust core, is reported
        number = (error.errno or 0) if isinstance(error, OSError) else 0
        if number == errno.ENOMEM:
            return Crashed(OUT_OF_MEMORY)
        if number in MACHINE_ERRNOS:
            return MachineFailed(describe(number))
        return Crashed(CRASH, f"{type(error).__name__} {errno.errorcode.get(number, '')}".rstrip())


def _read(request: Request) -> bytes | None:
    """Return the file's bytes, or None if it is not (or no longer) a regular file.

    Raises `OSError` if the file cannot be opened or read, and `FileRefused`, before reading, if it is larger than
    `request.most_bytes`.
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
        # One byte more than its size: a file that grows meanwhile then has another digest and waits for the next scan.
        return file.read(status.st_size + 1)


def _exit_with_parent(parent: int) -> None:
    """Exit when the parent does: at once on Linux, elsewhere when stdin is closed."""
    if (set_death_signal := parent_death_signal()) is not None:
        set_death_signal()
        if os.getppid() != parent:  # the parent died before the signal was set
            os._exit(1)
    threading.Thread(target=_watch_stdin, daemon=True).start()


def _watch_stdin() -> None:
    hang_up = select.poll()
    hang_up.register(0, select.POLLHUP)
    hang_up.poll()
    os._exit(0)


def _limit_memory(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain documents
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        raise_oom_score(Path("/proc/self/oom_score_adj"))


def raise_oom_score(score: Path) -> None:
    """Make the kernel kill this process before its parent when memory runs out. `score`: an `oom_score_adj` file."""
    try:
        if int(score.read_text()) < _OUT_OF_MEMORY_SCORE:  # lowering it needs a privilege
            score.write_text(str(_OUT_OF_MEMORY_SCORE))
    except OSError:  # /proc is read-only or missing. The score is optional, so continue without it.
        pass


if __name__ == "__main__":
    main()
