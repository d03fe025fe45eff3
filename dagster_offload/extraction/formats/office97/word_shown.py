"""Write into the text of a Word document (97 to 2003) what its pages show there: words with a gloss, and symbols.

Word stores a word with a gloss (Japanese ruby) as an instruction, and a symbol as a `(` with a font and a number. office-oxide
leaves the one out and reads the other as it is. The new text takes the place of the old one, character by character.

Format specification: [MS-DOC].
"""

import re
import struct
from collections.abc import Iterator

from dagster_offload.extraction.formats.office97.word_records import (
    NO_TEXT,
    character_runs,
    characters_of,
    main_and_table,
    pieces,
    properties_in,
    with_document,
)
from dagster_offload.extraction.formats.parts.fields import GLOSS, LONGEST_FIELD
from dagster_offload.extraction.symbol_fonts import symbol

_FIELD = re.compile(f"\x13([^\x13-\x15]{{1,{LONGEST_FIELD}}})(?:\x14[^\x13-\x15]{{0,{LONGEST_FIELD}}})?\x15")
_FONTS = 0x0112  # where the header has the place and the length of the table of fonts
_FONT_NAME = 39  # where a font has its name, in UTF-16 up to a zero
_SYMBOL, _IN_PLACE_OF_SYMBOL = 0x6A09, ord("(")
_BULLET = "•"  # for symbols that a text of one byte a character does not have


def with_shown_characters(data: bytes) -> bytes:
    """Return the file with the text that its pages show. Raises errors of damage."""
    if (streams := main_and_table(data)) is None:
        return data
    document, table = streams
    shown = bytearray(document)
    for place, character in characters_of(_symbols(document, table), document, table):
        if int.from_bytes(document[place], "little") == _IN_PLACE_OF_SYMBOL:
            shown[place] = _encoded(character, place.stop - place.start)
    for offset, characters, is_bytes in pieces(document, table):
        width, unit = (1, "B") if is_bytes else (2, "H")
        piece = document[offset : offset + characters * width]
        text = "".join(map(chr, struct.unpack_from(f"<{len(piece) // width}{unit}", piece)))
        for at in _beside_glosses(text):
            shown[offset + at * width : offset + (at + 1) * width] = NO_TEXT.to_bytes(width, "little")
    return data if shown == document else with_document(data, bytes(shown))


def _encoded(character: str, width: int) -> bytes:
    """Return a symbol in the encoding of its piece. One byte a character has no room for most of them."""
    if width == 1:
        return character.encode("cp1252", "ignore") or _BULLET.encode("cp1252")
    return character.encode("utf-16-le", "surrogatepass")


def _beside_glosses(text: str) -> Iterator[int]:
    """Yield the places of fields with a gloss, without those of the gloss and its word."""
    for field in _FIELD.finditer(text):
        if (gloss := GLOSS.match(field[1])) is not None:
            start = field.start(1)
            kept = {start + at for number in (1, 2) for at in range(*gloss.span(number))}
            yield from (at for at in range(*field.span()) if at not in kept)


def _symbols(document: bytes, table: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield where each run of symbols begins and ends in the stream `document`, and the symbol."""
    fonts: list[str] | None = None
    for start, end, properties in character_runs(document, table):
        found = next((operand for kind, operand in properties_in(properties) if kind == _SYMBOL), b"")
        if len(found) == 4:
            fonts = _fonts(document, table) if fonts is None else fonts
            font, code = struct.unpack("<HH", found)
            yield start, end, symbol(code, fonts[font] if font < len(fonts) else "") or chr(code)


def _fonts(document: bytes, table: bytes) -> list[str]:
    start, size = struct.unpack_from("<II", document, _FONTS)
    fonts, place = list[str](), start + 4
    while place < min(start + size, len(table)):
        end = place + 1 + table[place]
        name = table[place + 1 + _FONT_NAME : end].decode("utf-16-le", "replace")
        fonts.append(name.partition("\0")[0])
        place = end
    return fonts
