"""Walking a library: which files are documents, their keys, and the SHA-256 of their bytes.

A document's key is its NFC-normalised relative POSIX path. Nothing here opens a file but `digest`, and nothing here
knows the ledger. Which names and types are left out is said in the sets below and counted in `Walk`.
"""

import hashlib
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dagster_offload.errors import ChangedWhileRead, LibraryMissing

# Source code people read and write; read as plain text.
CODE_TYPES = frozenset(
    """
    py pyi js mjs cjs jsx ts tsx java kt kts scala groovy c h cc cpp cxx hh hpp m mm cs fs vb go rs rb php pl pm lua r jl
    swift dart ex exs erl hs ml clj sh bash zsh fish ps1 bat cmd sql graphql proto toml ini css scss less vue svelte
    """.split()  # noqa: SIM905 - a list of quoted words is no easier to read
)

# What people write, send and scan. A name without an extension is plain text until the extractor says otherwise.
DOCUMENT_TYPES = CODE_TYPES | frozenset(
    """
    txt text md markdown mdx rst adoc asciidoc org tex typ html htm xhtml mht mhtml xml json yaml yml csv tsv
    pdf doc docx docm dot dotx odt rtf xls xlsx xlsm xlsb ods ppt pptx pptm ppsx odp hwp hwpx pages numbers key
    epub fb2 ipynb eml msg mbox mbx png jpg jpeg tif tiff bmp webp
    """.split()  # noqa: SIM905 - a list of quoted words is no easier to read
)

# Left behind by editors and downloads in progress; the document itself has another name.
TEMPORARY_PREFIXES = ("~$", "~WRL")
TEMPORARY_SUFFIXES = ("~", ".tmp", ".part", ".crdownload")

# Folders that systems and tools keep beside people's files.
SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "lost+found", "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information"}
    | {"node_modules", "site-packages", "__pycache__"}
)

# Keys are indexed in Postgres, whose index rows end at 2,704 bytes.
MAX_KEY_BYTES = 2_000

_EXTENSION = re.compile(r"\.([a-z0-9]{1,10})$", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")  # how Python carries the bytes of a name that is not UTF-8
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # the last two also end lines
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # a file that was replaced by a pipe must not block us


class FileStat(NamedTuple):
    """A document as the file system tells it, without reading it. Times are in nanoseconds since 1970.

    A tuple rather than a dataclass: a library may hold 100,000 of them.
    """

    key: str
    location: str  # as the system names the file; may differ from the key in its normal form
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @property
    def path(self) -> Path:
        return Path(self.location)

    @property
    def seen(self) -> "SeenFile":
        return self.key, self.size, self.mtime_ns, self.ctime_ns, self.inode


# A document as it was seen last: key, size, mtime_ns, ctime_ns, inode.
SeenFile = tuple[str, int, int, int, int]


def seen_as(key: str, status: os.stat_result) -> SeenFile:
    return key, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@dataclass(frozen=True)
class UnusableName:
    """A file whose name cannot be a key. `name` is unique and escaped, so that it can be printed and stored."""

    name: str
    reason: str


@dataclass(frozen=True)
class UnreadableFolder:
    """A folder that could not be listed. `key` ends with a slash: documents whose key starts with it are not gone."""

    key: str
    reason: str


@dataclass
class Walk:
    """What a walk of the library found; `files` in order of keys."""

    files: list[FileStat] = field(default_factory=list)  # that are not as they were seen last
    unchanged: list[str] = field(default_factory=list)  # keys of those that are, in no order
    unusable: list[UnusableName] = field(default_factory=list)
    unreadable: list[UnreadableFolder] = field(default_factory=list)
    skipped_types: Counter[str] = field(default_factory=Counter)  # extension -> files
    skipped_links: int = 0  # links to folders, to nothing, in circles or out of the library

    @property
    def count(self) -> int:
        """Documents."""
        return len(self.files) + len(self.unchanged)

    @property
    def skipped_by_type(self) -> int:
        return self.skipped_types.total()


def walk(library: Path, seen: Mapping[str, SeenFile] | None = None) -> Walk:
    """List the documents of `library`; those that are as they were `seen` last (by key) by their keys alone.

    Hidden and temporary files are left out without a word, other types are counted. Links to folders are not followed;
    a link to a file is a document if it leads to a regular file inside the library (so a git-annex works, and nobody
    who may write into the library can have us read what lies outside). Raises `LibraryMissing`.
    """
    root = _listable(library)
    return _Walker(root, seen or {}).walk()


def digest(file: FileStat) -> str:
    """SHA-256 (hex) of the file's bytes. Raises `ChangedWhileRead`, or `OSError` where it cannot be read."""
    descriptor = os.open(file.location, _READ_FLAGS | _NO_WAITING)
    with open(descriptor, "rb", buffering=0) as opened:
        _refuse_change(file, os.fstat(descriptor))
        found = hashlib.file_digest(opened, "sha256").hexdigest()
        _refuse_change(file, os.fstat(descriptor))
    return found


def locate(library: Path, key: str) -> Path | None:
    """The file of a key that a walk gave out, or None. Finds names that are not stored in their normal form.

    Where several files share a key it finds the one that the walk took.
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in key:
        return None
    direct = library.joinpath(*parts)
    if os.path.isfile(direct):  # Path.is_file raises where the name is too long or its folder is closed to us
        return direct
    if key.isascii():
        return None
    found = _matching([str(library)], parts)
    return Path(min(found, key=os.fsencode)) if found else None


def extension(name: str) -> str:
    """The lower-case extension without its dot, or `""`.

    Only short ASCII ones with a letter count: `report.2024` and `보고서.최종` have none.
    """
    match = _EXTENSION.search(name, 1)
    return "" if match is None or match[1].isdigit() else match[1].lower()


def printable(name: str) -> str:
    """`name` escaped so that it can be printed and stored, different for different names, at most 700 characters."""
    escaped = "".join(_escape(character) for character in name)
    if len(escaped) > 700:
        mark = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
        return f"{escaped[:500]}[... {mark} ...]{escaped[-150:]}"
    return escaped


def cannot_be_shown(name: str) -> bool:
    """Whether `name` can be neither printed nor stored as it is: not UTF-8, or with a control character in it."""
    return bool(_SURROGATE.search(name) or _CONTROL.search(name))


class _Walker:
    """One walk. Holds what is found so far and the names already taken."""

    def __init__(self, root: str, seen: Mapping[str, SeenFile]) -> None:
        self.root = root
        self.seen = seen
        self.real_root = os.path.realpath(root)
        self.found = Walk()
        self.taken: dict[str, FileStat] = {}  # only keys that are not ASCII can collide

    def walk(self) -> Walk:
        folders = [(self.root, "")]
        while folders:
            folder, prefix = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name[0] == ".":
                            continue
                        if not entry.is_dir(follow_symlinks=False):
                            self._look_at(entry, prefix)
                        elif entry.name not in SYSTEM_FOLDERS:
                            folders.append((entry.path, f"{prefix}{entry.name}/"))
            except OSError as error:
                if not prefix:
                    raise _missing(Path(folder), error) from error
                if not isinstance(error, FileNotFoundError):  # gone since we listed its parent
                    self._unreadable_folder(prefix, error)
        for file in self.taken.values():
            self._add(file)
        self.found.files.sort()
        return self.found

    def _look_at(self, entry: os.DirEntry[str], prefix: str) -> None:
        """Add an entry that is no folder. Raises `OSError` where the folder lets nobody look at its files."""
        name = entry.name
        # Of most files there is no more to do than this, and a library may hold 100,000.
        before = self.seen.get(raw := prefix + name)
        if before is not None and raw.isascii():
            try:
                now = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # gone since it was listed
                return
            # Of a link this is not what was seen, which is its file's: it is looked at below.
            if before == (raw, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino):
                self.found.unchanged.append(raw)
                return
        if name.endswith(TEMPORARY_SUFFIXES) or name.startswith(TEMPORARY_PREFIXES):
            return
        kind = extension(name)
        if kind and kind not in DOCUMENT_TYPES:
            self.found.skipped_types[kind] += 1
            return
        if entry.is_symlink():
            target = self._followed(entry)
            if target is None:
                self.found.skipped_links += 1
                return
            status = target
        else:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # gone since it was listed
                return
            if not stat.S_ISREG(status.st_mode):  # sockets, pipes, devices
                return
        key = raw if raw.isascii() else unicodedata.normalize("NFC", raw)
        reason = _why_unusable(key)
        if reason is not None:
            self.found.unusable.append(UnusableName(printable(raw), reason))
            return
        file = FileStat(key, entry.path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if key.isascii():
            self._add(file)
        else:
            self._take(file, raw)

    def _add(self, file: FileStat) -> None:
        if self.seen.get(file.key) == file.seen:
            self.found.unchanged.append(file.key)
        else:
            self.found.files.append(file)

    def _take(self, file: FileStat, raw: str) -> None:
        """Give the key to one of the files that share it, the one `locate` finds; the other's name is unusable."""
        other = self.taken.get(file.key)
        if other is None:
            self.taken[file.key] = file
            return
        if self._precedence(file) < self._precedence(other):
            self.taken[file.key] = file
            raw = os.path.relpath(other.location, self.root)
        reason = "another file has the same name once both are normalised (Unicode NFC): rename one"
        self.found.unusable.append(UnusableName(printable(raw), reason))

    def _precedence(self, file: FileStat) -> tuple[bool, bytes]:
        """A name in normal form first, else the first in byte order."""
        return os.path.join(self.root, file.key) != file.location, os.fsencode(file.location)

    def _followed(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        try:
            target = os.path.realpath(entry.path, strict=True)
            status = os.stat(target, follow_symlinks=False)
        except OSError:  # leads to nothing, in circles, or where we may not look
            return None
        is_inside = target.startswith(self.real_root.rstrip(os.sep) + os.sep)
        return status if is_inside and stat.S_ISREG(status.st_mode) else None

    def _unreadable_folder(self, prefix: str, error: OSError) -> None:
        key = unicodedata.normalize("NFC", prefix)
        reason = _why_unusable(key)
        if reason is not None:  # no key can start with it
            self.found.unusable.append(UnusableName(printable(prefix), reason))
        else:
            self.found.unreadable.append(UnreadableFolder(key, _reason(error)))


def _listable(library: Path) -> str:
    root = os.fspath(library.absolute())
    try:
        with os.scandir(root):
            return root
    except OSError as error:
        raise _missing(library, error) from error


def _missing(library: Path, error: OSError) -> LibraryMissing:
    return LibraryMissing(
        f"the library {printable(str(library))} cannot be listed: {_reason(error)}. Nothing was changed; "
        "mount it or set OFFLOAD_LIBRARY (--library) to the folder of documents"
    )


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _why_unusable(key: str) -> str | None:
    if _SURROGATE.search(key):
        return "not UTF-8"
    if _CONTROL.search(key):
        return "holds a control character"
    if "..." in key:
        return "holds '...', which Dagster reads as a range of partitions"
    if len(key) * 4 > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES:
        return f"longer than {MAX_KEY_BYTES} bytes"
    return None


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if "\udc80" <= character <= "\udcff":  # one byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()


def _refuse_change(file: FileStat, status: os.stat_result) -> None:
    if seen_as(file.key, status) != file.seen or not stat.S_ISREG(status.st_mode):
        raise ChangedWhileRead(f"{file.key} changed while it was read; the next scan takes it")


def _matching(folders: list[str], parts: list[str]) -> list[str]:
    """The files under `folders` whose path normalises to `parts`; unlistable folders have none for us."""
    found = folders
    for part in parts:
        found = [entry for folder in found for entry in _entries_named(folder, part)]
    return [path for path in found if os.path.isfile(path)]


def _entries_named(folder: str, part: str) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if unicodedata.normalize("NFC", name) == part:
            yield os.path.join(folder, name)
