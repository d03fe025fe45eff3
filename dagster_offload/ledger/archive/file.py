"""The backup file: a zip with one member of COPY text per table, and a manifest with their row counts and digests.

It is written beside its final name and renamed when it is complete, so a file with that name is never a part of a backup.
Only its owner can read it, because it holds the texts of all documents.
"""

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dagster_offload.errors import BackupError
from dagster_offload.host.replacing import replacing
from dagster_offload.ledger.archive.tables import Table

FORMAT: Final = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4_000_000
COMPRESSION_LEVEL = 3
DRAFT_SUFFIX = ".part"
BLOCK_BYTES = 1 << 20

LEDGER: Final = "ledger"
DAGSTER: Final = "dagster"
Part = Literal["ledger", "dagster"]
Progress = Callable[[str, int], None]  # the table and its rows so far


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableEntry(_Entry):
    """One table of the archive. `sha256` is of its COPY text, which has one line a row."""

    part: Part
    name: str
    columns: tuple[str, ...]
    rows: int
    bytes: int
    sha256: str

    @property
    def member(self) -> str:
        """Its name in the zip."""
        return f"{self.part}/{self.name}.copy"


class Manifest(_Entry):
    """What a backup contains. `step` is the ledger's last schema step."""

    format: Literal[1]
    version: str
    created_at: datetime
    step: int
    tables: tuple[TableEntry, ...]
    sequences: Mapping[Part, Mapping[str, int]]

    @property
    def has_dagster(self) -> bool:
        """Whether Dagster's storages are in it."""
        return DAGSTER in self.sequences

    def rows(self, table: str) -> int:
        """How many rows a table of the ledger has."""
        return sum(entry.rows for entry in self.tables if (entry.part, entry.name) == (LEDGER, table))


class ArchiveWriter:
    """Writes the members of a new archive."""

    def __init__(self, zipped: zipfile.ZipFile) -> None:
        self._zipped = zipped
        self.tables: list[TableEntry] = []

    def add(self, part: Part, table: Table, blocks: Iterable[bytes], on_progress: Progress) -> None:
        """Write one table."""
        entry = TableEntry(part=part, name=table.name, columns=table.columns, rows=0, bytes=0, sha256="")
        with self._zipped.open(entry.member, "w", force_zip64=True) as member:
            counted = Counted(blocks)
            for block in counted:
                member.write(block)
                on_progress(f"{part}.{table.name}", counted.rows)
        self.tables.append(
            entry.model_copy(update={"rows": counted.rows, "bytes": counted.bytes, "sha256": counted.sha256})
        )

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, after the tables."""
        self._zipped.writestr(MANIFEST, manifest.model_dump_json(indent=1))


class Counted:
    """Passes blocks of COPY text on, and counts and digests them."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self._digest = hashlib.sha256()
        self.rows = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self._digest.update(block)
            self.rows += block.count(b"\n")  # a line break inside a value is written as \n in two characters
            self.bytes += len(block)
            yield block

    @property
    def sha256(self) -> str:
        """The digest of the blocks so far."""
        return self._digest.hexdigest()


@contextmanager
def new_archive(file: Path) -> Iterator[ArchiveWriter]:
    """Write a new file, mode 0600. An error leaves no file behind. Raises `BackupError`, for example if the file exists."""
    if os.path.lexists(file):
        raise BackupError(f"{file} exists already: choose another name, or remove it first")
    with _explained(file, "cannot be written", damaged=()):
        with (
            replacing(file, suffix=DRAFT_SUFFIX) as out,
            zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as zipped,
        ):
            yield ArchiveWriter(zipped)
        _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Archive:
    """An existing backup file. Open it with `open_archive`."""

    def __init__(self, file: Path, zipped: zipfile.ZipFile, manifest: Manifest) -> None:
        self.file = file
        self.manifest = manifest
        self._zipped = zipped

    def blocks(self, entry: TableEntry) -> Iterator[bytes]:
        """The COPY text of a table. Raises `BackupError` if it is not what the manifest says."""
        counted = Counted(self._read(entry))
        yield from counted
        if (counted.rows, counted.bytes, counted.sha256) != (entry.rows, entry.bytes, entry.sha256):
            raise BackupError(f"{self.file} is damaged: {entry.member} is not what was written. Use another backup")

    def _read(self, entry: TableEntry) -> Iterator[bytes]:
        with _explained(self.file, "cannot be read"):
            member = self._zipped.open(entry.member)
        with member:
            while True:
                with _explained(self.file, "cannot be read"):
                    block = member.read(BLOCK_BYTES)
                if not block:
                    return
                yield block

    def check(self, on_progress: Progress) -> None:
        """Read everything and compare it with the manifest. Raises `BackupError`."""
        for entry in self.manifest.tables:
            rows = 0
            for block in self.blocks(entry):
                rows += block.count(b"\n")
                on_progress(f"{entry.part}.{entry.name}", rows)


@contextmanager
def open_archive(file: Path) -> Iterator[Archive]:
    """Open a backup file for the block. Raises `BackupError` if it is none, or if its manifest cannot be read."""
    with contextlib.ExitStack() as stack:
        with _explained(file, "cannot be read"):
            zipped = stack.enter_context(zipfile.ZipFile(stack.enter_context(file.open("rb"))))
            manifest = _manifest(file, zipped)
        yield Archive(file, zipped, manifest)


def _manifest(file: Path, zipped: zipfile.ZipFile) -> Manifest:
    foreign = BackupError(f"{file} is not a backup of dagster-offload")
    if MANIFEST not in zipped.namelist() or zipped.getinfo(MANIFEST).file_size > MAX_MANIFEST_BYTES:
        raise foreign
    text = zipped.read(MANIFEST)
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        if any(detail["loc"] == ("format",) and detail["type"] == "literal_error" for detail in error.errors()):
            raise BackupError(f"{file} has a format that this version cannot read: upgrade dagster_offload") from None
        raise foreign from None


# What a damaged or foreign file raises when it is read as a zip.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError)


@contextmanager
def _explained(file: Path, what: str, damaged: tuple[type[Exception], ...] = _DAMAGED) -> Iterator[None]:
    """Turn an `OSError`, and what a damaged file raises, into a `BackupError`."""
    try:
        yield
    except OSError as error:
        raise BackupError(f"{file} {what}: {error.strerror or error}") from error
    except damaged as error:
        raise BackupError(f"{file} is damaged or is not a backup of dagster-offload ({error})") from error
