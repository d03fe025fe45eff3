"""Files that are written beside their place and renamed: a reader sees the old file or the new one, never a part.

Only their owner can read them, from the first byte on. A killed process may leave a draft; `records/drafts.py` has drafts that
the next process removes.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600


@contextmanager
def replacing(file: Path, *, mode: int = PRIVATE, suffix: str = "") -> Iterator[BinaryIO]:
    """A file to write and read, which takes the place of `file` at the end of the block. It is on the disk by then.

    Nothing changes and no draft is left if the block raises. `suffix` ends the name of the draft. Raises `OSError`.
    """
    with _draft_beside(file, suffix) as (draft, name):
        yield draft
        _flush(draft, mode)
        os.replace(name, file)


def replace_file(file: Path, text: str, *, mode: int = PRIVATE) -> None:
    """Replace the file with this text, in UTF-8. Raises `OSError`."""
    with replacing(file, mode=mode) as draft:
        draft.write(text.encode())


def create_file(file: Path, text: str) -> None:
    """Create the file with this text, unless it exists or another process creates it meanwhile. Raises `OSError`."""
    with _draft_beside(file) as (draft, name):
        draft.write(text.encode())
        _flush(draft, PRIVATE)
        with contextlib.suppress(FileExistsError):
            os.link(name, file)


@contextmanager
def _draft_beside(file: Path, suffix: str = "") -> Iterator[tuple[BinaryIO, str]]:
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=suffix)  # 0600
    try:
        with os.fdopen(descriptor, "w+b") as draft:
            yield draft, name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _flush(draft: BinaryIO, mode: int) -> None:
    draft.flush()
    if mode != PRIVATE:  # which it has: some network file systems refuse any change
        os.fchmod(draft.fileno(), mode)
    os.fsync(draft.fileno())
