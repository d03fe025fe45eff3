"""Open what lies in a library by handles: each part of a path is opened below the handle of the part before it.

The system never follows a link here, so a folder that is swapped for a link between two looks leads nowhere. A link to
a document is read as text and resolved by us, and only to a path below the library: a git-annex keeps its files so.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

_CLOSED_ON_EXEC = getattr(os, "O_CLOEXEC", 0)
_ROOT = os.O_RDONLY | os.O_DIRECTORY | _CLOSED_ON_EXEC
_FOLDER = _ROOT | os.O_NOFOLLOW
# Without waiting: a file that was replaced by a pipe must not block us.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | _CLOSED_ON_EXEC
_IS_LINK = frozenset({errno.ELOOP, errno.EMLINK})  # how the system refuses to open a link (FreeBSD: EMLINK)
MOST_LINKS = 8  # a longer chain counts as a circle
LONGEST_PATH_BYTES = 4096


@contextmanager
def open_library(library: str | os.PathLike[str]) -> Iterator[int]:
    """A handle of the library. The library and the folders above it may be links, because their owner named them."""
    root = os.open(library, _ROOT)
    try:
        yield root
    finally:
        os.close(root)


@contextmanager
def open_folder(root: int, name: str) -> Iterator[int]:
    """A handle of the folder `name` below `root` ("" is the root). Raises `OSError`, also where a part is a link."""
    if len(name) * 4 > LONGEST_PATH_BYTES and len(os.fsencode(name)) > LONGEST_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    handle = os.dup(root)
    try:
        for part in _parts(name):
            handle = _step(handle, part)
        yield handle
    finally:
        os.close(handle)


def _step(handle: int, part: str) -> int:
    below = os.open(part, _FOLDER, dir_fd=handle)
    os.close(handle)
    return below


def stat_file(library: str | os.PathLike[str], name: str) -> os.stat_result:
    """The stat of a document's file. Raises `OSError`; a link that leads out of the library is one (`EXDEV`)."""
    with open_library(library) as root:
        return resolve(root, library, name)[1]


def open_file(library: str | os.PathLike[str], name: str) -> int:
    """A descriptor of a document's file, for the caller to close. Raises `OSError` as `stat_file` does."""
    with open_library(library) as root:
        try:
            return _open(root, name)
        except OSError as error:
            if error.errno not in _IS_LINK:
                raise
        return _open(root, resolve(root, library, name)[0])


def _open(root: int, name: str) -> int:
    folder, last = _split(name)
    with open_folder(root, folder) as handle:
        return os.open(last, _FILE, dir_fd=handle)


def resolve(root: int, library: str | os.PathLike[str], name: str) -> tuple[str, os.stat_result]:
    """Where a file lies below the library, once its links are resolved, and its stat. Raises `OSError`."""
    for _ in range(MOST_LINKS):
        folder, last = _split(name)
        with open_folder(root, folder) as handle:
            status = os.stat(last, dir_fd=handle, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                return name, status
            name = _target(library, folder, os.readlink(last, dir_fd=handle))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)


def _target(library: str | os.PathLike[str], folder: str, link: str) -> str:
    """What a link in `folder` means, as a path below the library."""
    if os.path.isabs(link):
        path = PurePosixPath(os.path.normpath(link))
        for place in (os.fspath(library), os.path.realpath(library)):
            if path.is_relative_to(place):
                return path.relative_to(place).as_posix()
    else:
        # `..` is resolved in the text. Where the folder before it is a link, the result names another file, or none.
        path = PurePosixPath(os.path.normpath(os.path.join(folder, link)))
        if path.parts[:1] != ("..",):
            return path.as_posix()
    raise OSError(errno.EXDEV, "the link leads out of the library", link)


def _split(name: str) -> tuple[str, str]:
    *folders, last = _parts(name) or [""]
    if not last:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    return "/".join(folders), last


def _parts(name: str) -> list[str]:
    parts = name.split("/") if name else []
    if any(part in ("", ".", "..") for part in parts):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return parts
