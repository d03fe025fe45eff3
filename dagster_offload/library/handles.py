"""Open files and folders of a library by handles: each part of a path is opened below the handle of its parent.

The operating system never follows a link here, so a folder that is replaced by a link cannot lead out of the library.
This module itself resolves links to files, and only to paths below the library, because git-annex stores files behind
links. Exports use handles too, so that a link cannot lead them out of their folder.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path, PurePosixPath

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER = _ROOT | os.O_NOFOLLOW
# Non-blocking, because the file may have been replaced by a pipe.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_IS_LINK = frozenset({errno.ELOOP, errno.EMLINK})  # the error for opening a link (FreeBSD: EMLINK)
MAX_LINKS = 8  # a longer chain counts as a loop
MAX_PATH_BYTES = 4096


@contextmanager
def open_root(folder: str | os.PathLike[str]) -> Iterator[int]:
    """Open the library, or another folder that a person named. It may be a link, or lie behind one. Raises `OSError`."""
    root = os.open(folder, _ROOT)
    try:
        yield root
    finally:
        os.close(root)


@contextmanager
def open_folder(root: int, name: str) -> Iterator[int]:
    """Open the folder `name` below `root` ("" is the root). Raises `OSError`; a link in the path is an error too."""
    if len(name) * 4 > MAX_PATH_BYTES and len(os.fsencode(name)) > MAX_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    handle = os.dup(root)
    try:
        for part in _parts(name):
            handle = _open_below(handle, part)
        yield handle
    finally:
        os.close(handle)


def _open_below(handle: int, part: str) -> int:
    below = os.open(part, _FOLDER, dir_fd=handle)
    os.close(handle)
    return below


def stat_file(library: str | os.PathLike[str], name: str) -> os.stat_result:
    """Return the stat of a document's file. Raises `OSError` (`EXDEV` for a link that leads out of the library)."""
    with open_root(library) as root:
        return resolve(root, library, name)[1]


def open_file(library: str | os.PathLike[str], name: str) -> int:
    """Open a document's file for reading. The caller closes the descriptor. Raises `OSError` like `stat_file`."""
    with open_root(library) as root:
        try:
            return _open(root, name)
        except OSError as error:
            if error.errno not in _IS_LINK:
                raise
        return _open(root, resolve(root, library, name)[0])


def read_in(folder: int, name: str, most_bytes: int) -> bytes:
    """Return the first bytes of a file in an open folder. Raises `OSError` as `open_in` does."""
    with open_in(folder, name) as file:
        return file.read(most_bytes)


def open_in(folder: int, name: str) -> FileIO:
    """Open a file in an open folder for reading. Raises `OSError`; a link or a special file is an error too."""
    descriptor = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file", name)
    return FileIO(descriptor)


def _open(root: int, name: str) -> int:
    folder, last = split(name)
    with open_folder(root, folder) as handle:
        return os.open(last, _FILE, dir_fd=handle)


def split(name: str) -> tuple[str, str]:
    """Split a path below the library into its folder ("" is the library) and its last part. Raises `OSError`."""
    *folders, last = _parts(name) or [""]
    if not last:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    return "/".join(folders), last


def resolve(root: int, library: str | os.PathLike[str], name: str) -> tuple[str, os.stat_result]:
    """Resolve the links of a file. Returns its path below the library and its stat. Raises `OSError`."""
    for _ in range(MAX_LINKS):
        folder, last = split(name)
        with open_folder(root, folder) as handle:
            status = os.stat(last, dir_fd=handle, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                return name, status
            name = _target(library, folder, os.readlink(last, dir_fd=handle))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)


def _target(library: str | os.PathLike[str], folder: str, link: str) -> str:
    """Return the target of a link in `folder` as a path below the library. Raises `OSError` if it is outside."""
    if os.path.isabs(link):
        path = PurePosixPath(os.path.normpath(link))
        for root in (os.fspath(library), os.path.realpath(library)):
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
    else:
        # `..` is resolved textually. If the folder before it is a link, the result is another file or does not exist.
        path = PurePosixPath(os.path.normpath(os.path.join(folder, link)))
        if path.parts[:1] != ("..",):
            return path.as_posix()
    raise OSError(errno.EXDEV, "the link leads out of the library", link)


def _parts(name: str) -> list[str]:
    parts = name.split("/") if name else []
    if any(part in ("", ".", "..") for part in parts):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return parts


def exists(folder: int, name: str) -> bool:
    """Whether an open folder has an entry of this name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def identity(folder: Path | None) -> tuple[int, int] | None:
    """Return the device and inode, which identify a folder whatever path leads to it."""
    try:
        status = None if folder is None else folder.stat()
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)
