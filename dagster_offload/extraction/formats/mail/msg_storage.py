"""The storages of an Outlook message (MSG): the message itself, its recipients, its attachments, and their properties.

Format specifications: [MS-OXMSG] (storages and streams), [MS-OXPROPS] (property numbers).
"""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import olefile

from dagster_offload.extraction.encodings.decoding import decode

_CODE_PAGES = (0x3FFD, 0x3FDE)  # message code page, internet code page
_UNICODE, _BYTES, _BINARY = 0x001F, 0x001E, 0x0102
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
# Names of properties are at the top of the file, also those of messages inside.
_NAMES, _GROUPS, _ENTRIES = "__nameid_version1.0", 0x0002, 0x0003
_FIRST_NAMED, _WELL_KNOWN_GROUPS = 0x8000, 3


def moment(ticks: int) -> datetime:
    """Return the time of a property: 0.1 µs since 1601. Raises `OverflowError` for one after the year 9999."""
    return _EPOCH + timedelta(microseconds=ticks // 10)


class Storage:
    """A storage of properties: a message, a recipient or an attachment."""

    def __init__(self, file: olefile.OleFileIO, path: list[str], header_bytes: int) -> None:
        self.file = file
        self.path = path
        self.header_bytes = header_bytes  # before the properties of fixed length
        self._names: dict[tuple[bytes, int], int] | None = None

    def stream(self, name: str) -> bytes | None:
        path = [*self.path, name]
        return self.file.openstream(path).read() if self.file.exists("/".join(path)) else None

    def binary(self, number: int) -> bytes | None:
        return self.stream(f"__substg1.0_{number:04X}{_BINARY:04X}")

    def text(self, number: int) -> str:
        as_unicode = self.stream(f"__substg1.0_{number:04X}{_UNICODE:04X}")
        if as_unicode is not None:
            return as_unicode.decode("utf-16-le", "replace").rstrip("\0")
        as_bytes = (self.stream(f"__substg1.0_{number:04X}{_BYTES:04X}") or b"").rstrip(b"\0")
        decoded = decode(as_bytes, self._code_page())
        return "" if decoded is None else decoded.text

    def fixed(self, number: int) -> int | None:
        """Return a property of fixed length, or None. Each takes 16 bytes: type, number, flags and value."""
        properties = self.stream("__properties_version1.0") or b""
        for offset in range(self.header_bytes, len(properties) - 15, 16):
            if struct.unpack_from("<H", properties, offset + 2)[0] == number:
                return int(struct.unpack_from("<Q", properties, offset + 8)[0])
        return None

    def named(self, group: str, identity: int) -> int | None:
        """Return the number that this file gives to a property of a group of properties, or None ([MS-OXMSG] 2.2.3)."""
        if self._names is None:
            self._names = dict(self._named_properties())
        return self._names.get((UUID(group).bytes_le, identity))

    def inner(self, prefix: str) -> list["Storage"]:
        depth = len(self.path)
        names = {
            path[depth]
            for path in self.file.listdir(streams=True, storages=True)
            if len(path) > depth and path[:depth] == self.path and path[depth].startswith(prefix)
        }
        return [Storage(self.file, [*self.path, name], header_bytes=8) for name in sorted(names)]

    def _code_page(self) -> str | None:
        pages = (self.fixed(number) for number in _CODE_PAGES)
        page = next((page & 0xFFFF for page in pages if page), None)
        return None if page is None else "utf-8" if page == 65001 else f"cp{page}"

    def _named_properties(self) -> Iterator[tuple[tuple[bytes, int], int]]:
        """Yield the group and the identity of each property that has a number for a name, and its number in this file."""
        names = Storage(self.file, [_NAMES], header_bytes=8)
        groups, entries = (names.binary(number) or b"" for number in (_GROUPS, _ENTRIES))
        for offset in range(0, len(entries) - 7, 8):
            identity, kind, index = struct.unpack_from("<IHH", entries, offset)
            start = ((kind >> 1) - _WELL_KNOWN_GROUPS) * 16
            if not kind & 1 and start >= 0:
                yield (groups[start : start + 16], identity), _FIRST_NAMED + index
