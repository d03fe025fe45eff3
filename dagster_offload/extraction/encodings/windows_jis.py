"""Convert ISO 2022 text of Japanese mail programs on Windows to Shift JIS, whose codec knows their characters: ① ㈱ 髙 Ⅲ.

They write them into rows that the standard leaves empty, so that no codec of ISO 2022 decodes the text.
"""

import re

_RUN = re.compile(rb"\x1b(\$[@B]|\([BJI])|([^\x1b\r\n]+|[\r\n]+)")
_KANJI, _HALF_WIDTH, _LATIN = (b"$@", b"$B"), b"(I", b"(B"
_PRINTED = range(0x21, 0x7F)


def as_shift_jis(data: bytes) -> bytes | None:
    """Return the text in Shift JIS, or None if it is not ISO 2022 with two bytes a character."""
    out, charset, place = bytearray(), _LATIN, 0
    while place < len(data):
        found = _RUN.match(data, place)
        if found is None:
            return None
        place = found.end()
        switched, text = found.groups()
        if switched is not None:
            charset = switched
        elif text[:1] in (b"\r", b"\n"):  # each line begins with Latin letters
            out += text
            charset = _LATIN
        elif charset in _KANJI:
            if len(text) % 2 or not all(byte in _PRINTED for byte in text):
                return None
            out += b"".join(_pair(*text[at : at + 2]) for at in range(0, len(text), 2))
        else:
            out += bytes(byte | 0x80 for byte in text) if charset == _HALF_WIDTH else text
    return bytes(out)


def _pair(row: int, cell: int) -> bytes:
    first = (row - 0x21) // 2 + 0x81
    second = cell + (0x7E if row % 2 == 0 else 0x20 if cell >= 0x60 else 0x1F)
    return bytes((first + 0x40 if first > 0x9F else first, second))
