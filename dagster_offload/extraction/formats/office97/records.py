"""Parse the records that PowerPoint files and Office drawings consist of ([MS-PPT] 2.3.1, [MS-ODRAW] 2.2.1)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_HEADER = struct.Struct("<HHI")
_IS_CONTAINER = 0xF


@dataclass(frozen=True)
class Record:
    """One record. `instance` has a meaning of its own for each kind. `data` is the content after the header."""

    kind: int
    instance: int
    is_container: bool
    data: memoryview = field(repr=False)

    def children(self) -> Iterator["Record"]:
        """Yield the records inside a container; nothing for other records."""
        return records(self.data) if self.is_container else iter(())

    def all_of(self, kind: int) -> Iterator["Record"]:
        """Yield the children of one kind."""
        return (child for child in self.children() if child.kind == kind)

    def first_of(self, kind: int) -> "Record | None":
        """Return the first child of one kind, or None."""
        return next(self.all_of(kind), None)


def records(data: bytes | memoryview) -> Iterator[Record]:
    """Yield the records in `data`. The last one is shorter than it declares if the data is truncated."""
    view, offset = memoryview(data), 0
    while offset + _HEADER.size <= len(view):
        version, kind, size = _HEADER.unpack_from(view, offset)
        offset += _HEADER.size
        yield Record(kind, version >> 4, version & _IS_CONTAINER == _IS_CONTAINER, view[offset : offset + size])
        offset += size


def record_at(data: bytes | memoryview, offset: int) -> Record:
    """Return the record at an offset. Raises `LookupError` if there is none."""
    found = next(records(memoryview(data)[offset:]), None)
    if found is None:
        raise LookupError("no record")
    return found
