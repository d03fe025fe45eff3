"""Walk a library: list the files that are documents, and report what was left out and why."""

import errno
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dagster_offload.errors import LibraryMissing
from dagster_offload.library.files import (
    DOCUMENT_TYPES,
    SYSTEM_FOLDERS,
    TEMPORARY_PREFIXES,
    TEMPORARY_SUFFIXES,
    FileStat,
    SeenFile,
    UnusableName,
    extension,
    printable,
    seen_as,
    why_unusable,
)
from dagster_offload.library.handles import open_folder, open_library, resolve
from dagster_offload.library.mounts import is_pseudo_file_system

# The folder was removed, or replaced by a link or a file, after it was listed.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_OTHER_FILE_SYSTEM = "it is on another file system: set OFFLOAD_LIBRARY_CROSS_MOUNTS=true to read it"
_HOME = "it is OFFLOAD_HOME, the folder of dagster-offload itself"
_PSEUDO_FILE_SYSTEM = "it is a pseudo file system such as /proc, which shows the running system and holds no documents"


@dataclass(frozen=True)
class UnreadableFolder:
    """A folder that could not be listed. `key` ends with a slash. Documents with this prefix do not count as gone."""

    key: str
    reason: str


@dataclass(frozen=True)
class FolderLeftOut:
    """A folder or file that the walk skipped by its rules. Documents found in it earlier count as gone."""

    key: str
    reason: str


@dataclass(frozen=True)
class WalkRules:
    """What a walk enters. `home` is the folder of dagster-offload, which is left out if it is inside the library.

    `cross_mounts`: also enter other file systems that are mounted below the library.
    """

    home: Path | None = None
    cross_mounts: bool = False


DEFAULT_RULES = WalkRules()


@dataclass
class Walk:
    """The result of a walk."""

    files: list[FileStat] = field(default_factory=list)  # new and changed documents, sorted by key
    unchanged: list[str] = field(default_factory=list)  # keys of the other documents, unsorted
    unusable: list[UnusableName] = field(default_factory=list)
    unreadable: list[UnreadableFolder] = field(default_factory=list)
    left_out: list[FolderLeftOut] = field(default_factory=list)
    skipped_types: Counter[str] = field(default_factory=Counter)  # extension -> files
    skipped_links: int = 0  # links to folders, to nothing, in loops or out of the library

    @property
    def count(self) -> int:
        """The number of documents."""
        return len(self.files) + len(self.unchanged)

    @property
    def skipped_by_type(self) -> int:
        """The number of files whose type is not a document type."""
        return self.skipped_types.total()


def walk(library: Path, seen: Mapping[str, SeenFile] | None = None, rules: WalkRules = DEFAULT_RULES) -> Walk:
    """List the documents of `library`. Documents whose state equals the one in `seen` (by key) are listed by key only.

    Hidden and temporary files are left out silently. Files of other types are counted. Links to folders are not
    followed. A link to a file is a document if its target is a regular file inside the library. This supports
    git-annex, and a user who may write into the library cannot make us read files outside it.
    Raises `LibraryMissing`.
    """
    root = os.fspath(library.absolute())
    try:
        with open_library(root) as handle:
            return _Walker(root, handle, seen or {}, rules).walk()
    except OSError as error:
        raise _missing(library, error) from error


class _Walker:
    """One walk: its result so far, and the documents whose key is not ASCII."""

    def __init__(self, root: str, handle: int, seen: Mapping[str, SeenFile], rules: WalkRules) -> None:
        self.root = root
        self.handle = handle
        self.seen = seen
        self.rules = rules
        self.device = os.fstat(handle).st_dev
        self.home = _identity(rules.home)
        self.found = Walk()
        self.by_key: dict[str, FileStat] = {}  # only keys that are not ASCII can collide

    def walk(self) -> Walk:
        folders = [""]
        while folders:
            prefix = folders.pop()
            try:
                with open_folder(self.handle, prefix[:-1]) as handle:
                    if (reason := self._why_left_out(os.fstat(handle), prefix)) is not None:
                        self.found.left_out.append(FolderLeftOut(printable(prefix) or ".", reason))
                        continue
                    with os.scandir(handle) as entries:
                        for entry in entries:
                            if entry.name[0] == ".":
                                continue
                            if not entry.is_dir(follow_symlinks=False):
                                self._add_entry(entry, prefix)
                            elif entry.name not in SYSTEM_FOLDERS:
                                folders.append(f"{prefix}{entry.name}/")
            except OSError as error:
                if not prefix:
                    raise
                if error.errno not in _GONE:
                    self._unreadable_folder(prefix, error)
        for file in self.by_key.values():
            self._add(file)
        self.found.files.sort()
        return self.found

    def _why_left_out(self, status: os.stat_result, prefix: str) -> str | None:
        """Return why the walk does not enter a folder, or None if it does. `status` is the stat of the open folder."""
        if self.home == (status.st_dev, status.st_ino):
            return _HOME
        if status.st_dev == self.device or not prefix:
            return None
        if not self.rules.cross_mounts:
            return _OTHER_FILE_SYSTEM
        return _PSEUDO_FILE_SYSTEM if is_pseudo_file_system(status.st_dev) else None

    def _add_entry(self, entry: os.DirEntry[str], prefix: str) -> None:
        """Add an entry that is not a folder. Raises `OSError` if the folder's permissions hide its files."""
        name = entry.name
        # The fast path for unchanged files, because a library may hold 100,000.
        before = self.seen.get(raw := prefix + name)
        if before is not None and raw.isascii():
            try:
                now = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed since it was listed
                return
            # For a link, `before` holds the state of its target, so it never matches here and is handled below.
            if before == (raw, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino) and (
                now.st_dev == self.device or self.rules.cross_mounts
            ):
                self.found.unchanged.append(raw)
                return
        if name.endswith(TEMPORARY_SUFFIXES) or name.startswith(TEMPORARY_PREFIXES):
            return
        kind = extension(name)
        if kind and kind not in DOCUMENT_TYPES:
            self.found.skipped_types[kind] += 1
            return
        if entry.is_symlink():
            target = self._link_target(raw)
            if target is None:
                self.found.skipped_links += 1
                return
            status = target
        else:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed since it was listed
                return
            if not stat.S_ISREG(status.st_mode):  # sockets, pipes, devices
                return
        if status.st_dev != self.device and not self.rules.cross_mounts:
            self.found.left_out.append(FolderLeftOut(printable(raw), _OTHER_FILE_SYSTEM))
            return
        key = raw if raw.isascii() else unicodedata.normalize("NFC", raw)
        reason = why_unusable(key)
        if reason is not None:
            self.found.unusable.append(UnusableName(printable(raw), reason))
            return
        _, size, mtime_ns, ctime_ns, inode = seen_as(key, status)
        file = FileStat(key, raw, size, mtime_ns, ctime_ns, inode, self.root)
        if key.isascii():
            self._add(file)
        else:
            self._add_unless_duplicate(file, raw)

    def _add(self, file: FileStat) -> None:
        if self.seen.get(file.key) == file.seen:
            self.found.unchanged.append(file.key)
        else:
            self.found.files.append(file)

    def _add_unless_duplicate(self, file: FileStat, raw: str) -> None:
        """Choose one of the files that share a key, the same one as `locate` does. The other's name is unusable."""
        other = self.by_key.get(file.key)
        if other is None:
            self.by_key[file.key] = file
            return
        if self._precedence(file) < self._precedence(other):
            self.by_key[file.key] = file
            raw = other.name
        reason = "another file has the same name after normalization (Unicode NFC): rename one of them"
        self.found.unusable.append(UnusableName(printable(raw), reason))

    def _precedence(self, file: FileStat) -> tuple[bool, bytes]:
        """The sort key for files that share a document key: normal form first, then byte order."""
        return file.key != file.name, os.fsencode(file.name)

    def _link_target(self, name: str) -> os.stat_result | None:
        """Return the stat of a link's target, or None if it is not a readable regular file of the library."""
        try:
            _, status = resolve(self.handle, self.root, name)
        except OSError:  # to nothing, in a loop, out of the library, or no permission
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def _unreadable_folder(self, prefix: str, error: OSError) -> None:
        key = unicodedata.normalize("NFC", prefix)
        reason = why_unusable(key)
        if reason is not None:  # no document key can begin with this prefix
            self.found.unusable.append(UnusableName(printable(prefix), reason))
        else:
            self.found.unreadable.append(UnreadableFolder(key, _reason(error)))


def _identity(folder: Path | None) -> tuple[int, int] | None:
    """Return the device and inode, which identify a folder whatever path leads to it."""
    try:
        status = None if folder is None else folder.stat()
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)


def _missing(library: Path, error: OSError) -> LibraryMissing:
    return LibraryMissing(
        f"the library {printable(str(library))} cannot be listed: {_reason(error)}. Nothing was changed. "
        "Mount it, or set OFFLOAD_LIBRARY (--library) to the folder of documents"
    )


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
