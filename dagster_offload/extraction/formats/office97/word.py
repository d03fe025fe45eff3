"""Read Word documents of versions 6 to 2003 (DOC) with office-oxide: headings, tables and footnotes.

Word 6 and 95 store text in the code page of its font, and their East Asian versions in codes of two bytes. office-oxide
reads the one as Western and the other as Unicode, so this module decodes both again.
"""

import contextlib
import io
import re
import struct
from collections import Counter

import olefile
from office_oxide import Document, OfficeOxideError

from dagster_offload.extraction import file_types
from dagster_offload.extraction.encodings.decoded import strict
from dagster_offload.extraction.encodings.decoding import decode
from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS
from dagster_offload.extraction.formats.office97.word_hidden import without_hidden_text
from dagster_offload.extraction.formats.office97.word_lists import with_list_numbers
from dagster_offload.extraction.formats.office97.word_shown import with_shown_characters
from dagster_offload.extraction.formats.parts.charsets import codec_of_charset
from dagster_offload.extraction.formats.parts.line_marks import RAISED_BEGINS, RAISED_ENDS, shown_line
from dagster_offload.extraction.formats.parts.markdown import plain_markdown
from dagster_offload.extraction.refusals import broken, protected

_WORD_95 = b"\xdc\xa5"  # how the header of Word 6 and 95 begins
# How the header of Word 6 and 95 begins in Japan and Korea, and in China and Taiwan, whose texts tell their encoding.
_EAST_ASIAN = {b"\x97\xa6": "cp932", b"\x98\xa6": "cp949", b"\x99\xa6": "gb18030"}
_FIRST_OF_TWO_BYTES = 0x8100  # smaller codes are of one byte
_LOST = 0xFFFD  # a code that office-oxide could not read as a character
_WESTERN = 0x10  # the upper half of the code of a Western character
_LAST_OF_WORD_95 = 0x69  # later file versions store text in Unicode
_FONTS = 0x00D0  # where the header has the offset and the length of the table of fonts
_FONT_CHARSET = 4  # where a font has its charset, after its length
# The characters of CP1252 that Latin-1 has at the same byte as a control character.
_TO_LATIN_1 = {
    ord(character): byte for byte in range(0x80, 0xA0) if (character := bytes((byte,)).decode("cp1252", "ignore"))
}
# How office-oxide writes raised and lowered letters, as in 1st.
_RAISED = {"<sup>": RAISED_BEGINS, "</sup>": RAISED_ENDS, "<sub>": "", "</sub>": ""}
_BEYOND_ASCII = re.compile("[^\x00-\x7f]+")


def doc_text(data: bytes) -> str:
    """Return the text of a Word document with headings, tables and footnotes. Raises `FileRefused`."""
    for prepared in (with_shown_characters, without_hidden_text):
        with contextlib.suppress(*DAMAGE_ERRORS):
            data = prepared(data)
    try:
        text = plain_markdown(Document.from_bytes(data, "doc").to_markdown())
    except OfficeOxideError as error:  # never forwarded: the message may quote the document
        if "password" in str(error) or "encrypted" in str(error):
            raise protected() from None
        raise broken(file_types.WORD, data) from None
    with contextlib.suppress(*DAMAGE_ERRORS), olefile.OleFileIO(io.BytesIO(data)) as file:
        text = _corrected(text, file)  # damage costs what we add; the text itself has been read
    for written, mark in _RAISED.items():
        text = text.replace(written, mark)
    return shown_line(text)


def _corrected(text: str, file: olefile.OleFileIO) -> str:
    """Decode again what office-oxide decodes wrongly, or else add the numbers of lists. Raises errors of damage."""
    document = bytes(file.openstream("WordDocument").read())
    if document[:2] in _EAST_ASIAN:
        return _decoded_by_two_bytes(text, _EAST_ASIAN[document[:2]])
    encoding = _encoding_of_fonts(document)
    return with_list_numbers(text, file, document) if encoding is None else _decoded_again(text, encoding)


def _decoded_by_two_bytes(text: str, encoding: str) -> str:
    """Decode text whose codes were read as characters."""
    if encoding == "gb18030" and not _is_simplified(text):
        encoding = "cp950"
    return _BEYOND_ASCII.sub(lambda run: "".join(_of_code(code, encoding) for code in _codes(run[0])), text)


def _is_simplified(text: str) -> bool:
    """Whether nine of ten codes are of GB 2312, which has few of the codes that Taiwan uses."""
    codes = [code.to_bytes(2, "big") for code in _codes(text) if _FIRST_OF_TWO_BYTES <= code != _LOST]
    return 10 * sum(strict(code, "gb2312") is not None for code in codes) >= 9 * len(codes)


def _codes(text: str) -> tuple[int, ...]:
    """The codes that were read as UTF-16. Two of them may have become one character."""
    data = text.encode("utf-16-be", "surrogatepass")
    return struct.unpack(f">{len(data) // 2}H", data)


def _of_code(code: int, encoding: str) -> str:
    if _FIRST_OF_TWO_BYTES <= code != _LOST:
        return code.to_bytes(2, "big").decode(encoding, "replace")
    if code >> 8 == _WESTERN:
        return bytes((code & 0xFF,)).decode("cp1252", "replace")
    byte = ord(chr(code).translate(_TO_LATIN_1))
    return chr(code) if byte > 0xFF else strict(bytes((byte,)), encoding) or chr(code)


def _encoding_of_fonts(stream: bytes) -> str | None:
    """Return the most frequent encoding, other than Western, of the fonts of a Word 6 or 95 document; None if none."""
    if not stream.startswith(_WORD_95) or struct.unpack_from("<H", stream, 2)[0] > _LAST_OF_WORD_95:
        return None
    start, size = struct.unpack_from("<II", stream, _FONTS)
    fonts, found = stream[start + 2 : start + size], Counter[str]()
    offset = 0
    while offset + _FONT_CHARSET < len(fonts):
        encoding = codec_of_charset(fonts[offset + _FONT_CHARSET])
        if encoding is not None:
            found[encoding] += 1
        offset += 1 + fonts[offset]
    return found.most_common(1)[0][0] if found else None


def _decoded_again(text: str, encoding: str) -> str:
    """Decode text that was read as Western in `encoding`, unless it makes sense as Western."""
    decoded = decode(_western_bytes(text))
    if decoded is None or decoded.encoding in ("utf-8", "cp1252"):
        return text
    return _BEYOND_ASCII.sub(lambda run: _western_bytes(run[0]).decode(encoding, "replace"), text)


def _western_bytes(text: str) -> bytes:
    """Return the bytes that were read as Western. Bytes that CP1252 leaves undefined were read as Latin-1."""
    return text.translate(_TO_LATIN_1).encode("latin-1", "replace")
