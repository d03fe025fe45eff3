"""Walk a library: list the files that are documents, and report what was left out and why."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dagster_offload.errors import LibraryMissing, ScanRefused
from dagster_offload.library import left_out
from dagster_offload.library.files import FileStat, UnusableName, normal_form, printable, seen_as, why_unusable
from dagster_offload.library.handles import exists, identity, open_folder, open_root, read_in, resolve, split
from dagster_offload.library.ignore import Selection
from dagster_offload.library.left_out import HEAD_BYTES, IGNORE_FILE, Kind, LeftOut, is_plain, why_type_left_out
from dagster_offload.library.missing import MOUNT_IT
from dagster_offload.library.mounts import is_pseudo_file_system
from dagster_offload.library.new_files import NewFiles
from dagster_offload.library.placeholders import NOT_DOWNLOADED, downloaded_path, is_dataless
from dagster_offload.library.seen import SeenFiles
from dagster_offload.library.spellings import Spellings
from dagster_offload.text.system_errors import reason_of

# The folder was removed, or replaced by a link or a file, after it was listed.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True)
class UnreadableFolder:
    """A folder that could not be listed, whose `key` ends with a slash, or an entry of a folder whose state is unreadable.
    Neither that document nor documents below it count as gone."""

    key: str
    reason: str


@dataclass(frozen=True)
class WalkRules:
    """What a walk enters. `home` is the folder of dagster-offload, which is left out if it is inside the library.

    `cross_mounts`: also enter other file systems that are mounted below the library.
    `ignore` and `include`: gitignore patterns of what to leave out, and of the only files to read (empty = all).
    """

    home: Path | None = None
    cross_mounts: bool = False
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()


DEFAULT_RULES = WalkRules()


@dataclass
class Walk:
    """The result of a walk."""

    files: NewFiles = field(default_factory=NewFiles)  # new and changed documents
    unchanged: int = 0  # the number of the other documents
    unusable: list[UnusableName] = field(default_factory=list)
    unreadable: list[UnreadableFolder] = field(default_factory=list)
    # By path below the library in normal form, unsorted. Folders end with a slash; what is inside them is not listed.
    left_out: dict[str, LeftOut] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of documents."""
        return len(self.files) + self.unchanged

    @property
    def not_downloaded(self) -> set[str]:
        """Keys of files that are in the cloud only. They are not gone."""
        return {key for key, left in self.left_out.items() if left.kind is Kind.NOT_DOWNLOADED}

    def why_left_out(self, key: str) -> LeftOut | None:
        """Return why a document is left out, itself or with a folder above it. None: it is not left out."""
        parts = key.split("/")
        above = ["/".join(parts[:depth]) + "/" for depth in range(1, len(parts))]
        return next((self.left_out[name] for name in (".", *above, key) if name in self.left_out), None)


def walk(library: Path, seen: SeenFiles | None = None, rules: WalkRules = DEFAULT_RULES) -> Walk:
    """List the documents of `library`. Documents whose state is in `seen` are marked there, and only counted.

    Everything else is in `Walk.left_out`, with its reason. Links to folders are not followed. A link to a file is a
    document if its target is a regular file inside the library. This supports git-annex, and a user who may write into
    the library cannot make us read files outside it.
    Raises `LibraryMissing`, `ScanRefused` if the library's own file with patterns cannot be used, and `ValueError` for a
    pattern of `rules` that is none.
    """
    return _walk(library, SeenFiles() if seen is None else seen, rules, None)


def why_left_out(library: Path, key: str, rules: WalkRules = DEFAULT_RULES) -> LeftOut | None:
    """Return why a walk leaves out the file or folder `key`; None if it does not, or if there is none.

    Lists only the folders above it. Raises like `walk`.
    """
    return next(iter(_walk(library, SeenFiles(), rules, key.rstrip("/")).left_out.values()), None)


def _walk(library: Path, seen: SeenFiles, rules: WalkRules, only: str | None) -> Walk:
    root = os.fspath(library.absolute())
    try:
        with open_root(root) as handle:
            return _Walker(root, handle, seen, rules, only).walk()
    except OSError as error:
        raise _missing(library, error) from error


class _Folder(NamedTuple):
    """A folder to list. `prefix` is its path with a slash, as the file system spells it; "" is the library."""

    prefix: str
    selection: Selection  # of the folder above it


class _Walker:
    """One walk and its result so far."""

    def __init__(self, root: str, handle: int, seen: SeenFiles, rules: WalkRules, only: str | None) -> None:
        """`only`: the key of the one file or folder to look at, None = all."""
        self.root = root
        self.handle = handle
        self.seen = seen
        self.rules = rules
        self.only = only
        self.device = os.fstat(handle).st_dev
        self.home = identity(rules.home)
        self.found = Walk()
        self.spellings = Spellings()  # of the folder that is listed

    def walk(self) -> Walk:
        groups = [[_Folder("", Selection.from_settings(self.rules.ignore, self.rules.include))]]
        while groups:
            below = [inner for folder in groups.pop() for inner in self._enter(folder)]
            self._choose_spellings()
            groups += _of_one_key(below)
        return self.found

    def _enter(self, folder: _Folder) -> list[_Folder]:
        """Add the files of a folder. Returns the folders below it."""
        try:
            with open_folder(self.handle, folder.prefix[:-1]) as handle:
                return self._list(folder, handle)
        except OSError as error:
            if not folder.prefix:
                raise
            if error.errno not in _GONE:
                self._unreadable_folder(folder.prefix, reason_of(error))
            return []

    def _list(self, folder: _Folder, handle: int) -> list[_Folder]:
        """Add the files of an open folder. Returns the folders below it."""
        prefix = folder.prefix
        if (left := self._why_not_entered(os.fstat(handle), folder, handle)) is not None:
            self.found.left_out[normal_form(prefix) or "."] = left
            return []
        try:
            selection = folder.selection.inside(handle, normal_form(prefix))
        except ValueError as error:  # without its patterns, documents that a person left out would be read
            reason = f"its file {IGNORE_FILE} cannot be used: {error}"
            if not prefix:
                raise ScanRefused(f"the library {printable(self.root)} is not read: {reason}") from error
            self._unreadable_folder(prefix, reason)
            return []
        below, has_patterns = [], selection.has_patterns
        with os.scandir(handle) as entries:
            for entry in entries:
                name = entry.name
                if self.only is not None and not self._leads_to_only(prefix + name):
                    continue
                try:
                    if not entry.is_dir(follow_symlinks=False):
                        is_taken = not has_patterns and is_plain(name)
                        if is_taken or not self._leave_out(prefix, name, selection):
                            self._add_entry(entry, prefix, handle)
                    elif (left := selection.why_folder_left_out(prefix, name)) is not None:
                        self.found.left_out[normal_form(f"{prefix}{name}/")] = left
                    else:
                        below.append(_Folder(f"{prefix}{name}/", selection))
                except OSError as error:
                    self._pass_broken_entry(prefix + name, handle, error)
        return below

    def _pass_broken_entry(self, raw: str, folder: int, error: OSError) -> None:
        """Note an entry without a state, as damaged file systems have. Raises `error` if the whole folder cannot be read."""
        if error.errno in {errno.EACCES, errno.EPERM}:
            raise error
        try:
            os.stat(".", dir_fd=folder)
        except OSError:
            raise error from None
        self._unreadable_folder(raw, reason_of(error))

    def _leads_to_only(self, raw: str) -> bool:
        return f"{self.only}/".startswith(f"{normal_form(downloaded_path(raw) or raw)}/")

    def _why_not_entered(self, status: os.stat_result, folder: _Folder, handle: int) -> LeftOut | None:
        """Return why the walk does not enter a folder, or None if it does. `status` is the stat of the open folder."""
        prefix = folder.prefix
        if self.home == (status.st_dev, status.st_ino):
            return left_out.HOME
        if not prefix:
            return None
        if status.st_dev != self.device:
            if not self.rules.cross_mounts:
                return left_out.OTHER_FILE_SYSTEM
            if is_pseudo_file_system(status.st_dev):
                return left_out.PSEUDO_FILE_SYSTEM
        if exists(handle, "pyvenv.cfg") and not folder.selection.names(prefix):
            return left_out.virtual_environment(prefix[:-1].rpartition("/")[2])
        return None

    def _leave_out(self, prefix: str, name: str, selection: Selection) -> bool:
        """Note that a file is left out if its name says so, and return whether it does."""
        raw = prefix + name
        if (downloaded := downloaded_path(raw)) is not None:
            left = selection.why_file_left_out(prefix, downloaded[len(prefix) :]) or why_type_left_out(downloaded)
            self.found.left_out[normal_form(downloaded)] = left or NOT_DOWNLOADED
            return True
        if (left := selection.why_file_left_out(prefix, name)) is not None:
            self.found.left_out[normal_form(raw)] = left
        return left is not None

    def _add_entry(self, entry: os.DirEntry[str], prefix: str, folder: int) -> None:
        """Add an entry that is not a folder. Raises `OSError` if the folder's permissions hide its files."""
        raw = prefix + entry.name
        try:
            now = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # removed since it was listed
            return
        key = raw if raw.isascii() else normal_form(raw)
        # Fast for unchanged files. A link is seen with the state of its target, so it is never found here.
        if (now.st_dev == self.device or self.rules.cross_mounts) and self.seen.find(
            (key, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)
        ):
            if key != raw:
                self._add_document(raw, now)
                return
            self.found.unchanged += 1
            self.spellings.add_in_normal_form(key)
        elif (left := why_type_left_out(entry.name)) is not None:
            self.found.left_out[key] = left
        elif entry.is_symlink():
            self._add_link(raw)
        else:
            self._add_file(raw, now, left_out.SPECIAL, partial(read_in, folder, entry.name, HEAD_BYTES))

    def _add_link(self, raw: str) -> None:
        try:
            target, status = resolve(self.handle, self.root, raw)
        except OSError:  # to nothing, in a loop, out of the library, or no permission
            self.found.left_out[normal_form(raw)] = left_out.LINK
            return
        self._add_file(raw, status, left_out.LINK, lambda: self._head(target))

    def _add_file(self, raw: str, status: os.stat_result, otherwise: LeftOut, head: Callable[[], bytes]) -> None:
        """Add a file whose name may be that of a document. `otherwise`: why it is none if it is no regular file."""
        if not stat.S_ISREG(status.st_mode):
            left: LeftOut | None = otherwise
        elif status.st_dev != self.device and not self.rules.cross_mounts:
            left = left_out.OTHER_FILE_SYSTEM
        elif is_dataless(status):  # reading its first bytes would start a download
            left = NOT_DOWNLOADED
        else:
            left = left_out.EXECUTABLE if _is_program(head) else None
        if left is not None:
            self.found.left_out[normal_form(raw)] = left
        else:
            self._add_document(raw, status)

    def _head(self, name: str) -> bytes:
        above, last = split(name)
        with open_folder(self.handle, above) as folder:
            return read_in(folder, last, HEAD_BYTES)

    def _add_document(self, raw: str, status: os.stat_result) -> None:
        key = normal_form(raw)
        reason = why_unusable(key)
        if reason is not None:
            self.found.unusable.append(UnusableName(printable(raw), reason))
            return
        _, size, mtime_ns, ctime_ns, inode = seen_as(key, status)
        file = FileStat(key, raw, size, mtime_ns, ctime_ns, inode, self.root)
        if key != raw:
            self.spellings.add(file)
            return
        self.spellings.add_in_normal_form(key)
        self._add(file)

    def _add(self, file: FileStat) -> None:
        if self.seen.find(file.seen):
            self.found.unchanged += 1
        else:
            self.found.files.append(file)

    def _choose_spellings(self) -> None:
        """Add the files whose names are not their keys. If several files share a key, the others' names are unusable."""
        for file, is_document in self.spellings.decide():
            if is_document:
                self._add(file)
            else:
                reason = "another file has the same name after normalization (Unicode NFC): rename one of them"
                self.found.unusable.append(UnusableName(printable(file.name), reason))
        self.spellings = Spellings()

    def _unreadable_folder(self, prefix: str, reason: str) -> None:
        key = normal_form(prefix)
        unusable = why_unusable(key)
        if unusable is not None:  # no document key can begin with this prefix
            self.found.unusable.append(UnusableName(printable(prefix), unusable))
        else:
            self.found.unreadable.append(UnreadableFolder(key, reason))


def _of_one_key(folders: list[_Folder]) -> list[list[_Folder]]:
    """Group folders whose paths have one normal form: their files may share keys."""
    groups: dict[str, list[_Folder]] = {}
    for folder in folders:
        groups.setdefault(normal_form(folder.prefix), []).append(folder)
    return list(groups.values())


def _is_program(head: Callable[[], bytes]) -> bool:
    try:
        return left_out.is_program(head())
    except OSError:  # reported by the scan, which reads the whole file
        return False


def _missing(library: Path, error: OSError) -> LibraryMissing:
    return LibraryMissing(
        f"the library {printable(str(library))} cannot be listed: {reason_of(error)}. Nothing was changed. {MOUNT_IT}"
    )
