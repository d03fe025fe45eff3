"""Find the metafiles that an Office drawing shows, in its store of pictures ([MS-ODRAW] 2.2.22 and 2.2.23)."""

import struct
import zlib

from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS
from dagster_offload.extraction.formats.office97.metafile import metafile_text
from dagster_offload.extraction.formats.office97.records import Record, record_at

_GROUP, _STORE, _ENTRY = 0xF000, 0xF001, 0xF007
_EMF, _WMF = 0xF01A, 0xF01B
_TWO_DIGESTS = frozenset({0x3D5, 0x217})  # instances of pictures that have a second digest
_DIGEST, _METAFILE_HEADER = 16, 34
_DEFLATED = 0
_MAX_BYTES = 50_000_000


class Metafiles:
    """The pictures of one document. `drawing_group` lists them, `stream` holds them."""

    def __init__(self, drawing_group: Record | None, stream: bytes) -> None:
        self._stream = stream
        group = None if drawing_group is None else drawing_group.first_of(_GROUP)
        store = None if group is None else group.first_of(_STORE)
        self._entries = [] if store is None else list(store.children())
        self._is_read: set[int] = set()

    def text(self, number: int) -> str:
        """Return the text of picture `number` (from 1) if it is a metafile, and "" for the second time."""
        if number in self._is_read or not 0 < number <= len(self._entries):
            return ""
        self._is_read.add(number)
        try:
            return metafile_text(self._metafile(self._entries[number - 1]))
        except DAMAGE_ERRORS:  # a damaged picture does not affect the document
            return ""

    def _metafile(self, entry: Record) -> bytes:
        picture = entry
        if entry.kind == _ENTRY:
            picture = record_at(self._stream, struct.unpack_from("<I", entry.data, 28)[0])
        if picture.kind not in (_EMF, _WMF):
            return b""
        header = _DIGEST * (2 if picture.instance in _TWO_DIGESTS else 1)
        content = picture.data[header + _METAFILE_HEADER :]
        if picture.data[header + 32] != _DEFLATED:
            return bytes(content)
        return zlib.decompressobj().decompress(content, _MAX_BYTES)
