"""Overwrite the text of a Word document (97 to 2003) that its pages do not show: hidden text and tracked deletions.

office-oxide reads both like other text.
"""

from collections.abc import Iterator

from dagster_offload.extraction.formats.office97.word_records import (
    NO_TEXT,
    character_runs,
    characters_of,
    main_and_table,
    properties_in,
    with_document,
)

_DELETED, _HIDDEN = 0x0800, 0x083C
_ON = (b"\x01", b"\x81")  # 0x81: unlike the style
_KEPT = frozenset(range(0x20))  # ends of paragraphs and cells, borders of fields


def without_hidden_text(data: bytes) -> bytes:
    """Return the file without its hidden text and its tracked deletions. Raises errors of damage."""
    if (streams := main_and_table(data)) is None:
        return data
    document, table = streams
    shown = bytearray(document)
    for place, _ in characters_of(_hidden(document, table), document, table):
        if int.from_bytes(shown[place], "little") not in _KEPT:
            shown[place] = NO_TEXT.to_bytes(place.stop - place.start, "little")
    return data if shown == document else with_document(data, bytes(shown))


def _hidden(document: bytes, table: bytes) -> Iterator[tuple[int, int, None]]:
    """Yield where each run of hidden or deleted text begins and ends in the stream `document`."""
    for start, end, properties in character_runs(document, table):
        if any(kind in (_DELETED, _HIDDEN) and value in _ON for kind, value in properties_in(properties)):
            yield start, end, None
