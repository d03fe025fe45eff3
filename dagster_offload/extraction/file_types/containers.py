"""Open the two containers of office files, ZIP archives and compound files, even if they are damaged."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import TypeVar

import olefile

T = TypeVar("T")

_ZIP_MAGIC = b"PK\x03\x04"
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class OfficeArchive(zipfile.ZipFile):
    """A ZIP archive that finds members as Office does: whatever their capitals, and with backslashes as separators."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        for member in self.filelist:
            member.filename = member.filename.replace("\\", "/")
        self.NameToInfo = {member.filename: member for member in self.filelist}
        self._by_folded_name = {name.lower(): member for name, member in self.NameToInfo.items()}

    def getinfo(self, name: str) -> zipfile.ZipInfo:
        """Return the member. Raises `KeyError` if there is none, in any capitals."""
        return self.NameToInfo.get(name) or self._by_folded_name[name.lower()]

    def has(self, name: str) -> bool:
        """Whether there is such a member, in any capitals."""
        return name.lower() in self._by_folded_name


# The exceptions that the standard library and olefile raise for damaged files: nearly all, but not MemoryError.
DAMAGE_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError, OverflowError, SyntaxError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)


def is_archive(data: bytes) -> bool:
    """Whether the bytes begin as a ZIP archive."""
    return data.startswith(_ZIP_MAGIC)


def is_compound(data: bytes) -> bool:
    """Whether this is a compound file, the container of old Office files. `olefile.isOleFile` may open a file instead."""
    return data.startswith(_OLE_MAGIC)


def opened_archive(data: bytes, look: Callable[[OfficeArchive], T | None]) -> T | None:
    """Return what `look` finds in a ZIP archive, None if it is damaged. Its reader reports the damage."""
    try:
        with OfficeArchive(data) as archive:
            return look(archive)
    except DAMAGE_ERRORS:
        return None


def opened_compound(data: bytes, look: Callable[[olefile.OleFileIO], T | None]) -> T | None:
    """Return what `look` finds in a compound file, None if it is damaged. Its reader reports the damage."""
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            return look(file)
    except DAMAGE_ERRORS:
        return None


def head_of(archive: OfficeArchive, name: str, limit: int) -> bytes:
    """Return at most `limit` bytes of a member."""
    with archive.open(name) as member:
        return member.read(limit)
