"""Words with a gloss and symbols of Word documents (97 to 2003). The files are made record by record."""

import io
import struct

import olefile
import pytest

from dagster_offload.extraction.formats.office97.word_shown import with_shown_characters
from tests.extraction.formats.test_word_hidden import BOLD, sprm, text_of, word_file
from tests.extraction.made_compound import compound

FONTS = ("Arial", "Wingdings", "Symbol", "Other")


def symbol(font: int, code: int) -> bytes:
    return sprm(BOLD, 1) + struct.pack("<HHH", 0x6A09, font, code)


def with_fonts(data: bytes, *names: str) -> bytes:
    """The document with a table of these fonts."""
    with olefile.OleFileIO(io.BytesIO(data)) as file:
        document, table = (bytearray(file.openstream(name).read()) for name in ("WordDocument", "0Table"))
    fonts = [bytes(39) + f"{name}\0Other name\0".encode("utf-16-le") for name in names]
    content = struct.pack("<HH", len(fonts), 0) + b"".join(bytes((len(font),)) + font for font in fonts)
    struct.pack_into("<II", document, 0x0112, len(table), len(content))
    return compound({"WordDocument": bytes(document), "0Table": bytes(table + content)})


GLOSS = '\x13 EQ \\* jc2 \\* "Font:MS Mincho" \\* hps10 \\o\\ad(\\s\\up 9(きもん),鬼門)'


@pytest.mark.parametrize("result", ["", "\x14", "\x14?"])
def test_a_word_with_a_gloss_is_read(result: str) -> None:
    data = word_file(("😀 ", b""), (f"北東は{GLOSS}{result}\x15の方角\r", b""), encoding="utf-16-le")
    assert text_of(with_shown_characters(data), "utf-16-le") == "😀 北東はきもん鬼門の方角\r"


def test_a_gloss_in_bytes_is_read() -> None:
    data = word_file(("a \x13EQ \\o\\ad(\\s\\up 9(gloss),word)\x15 b\r", b""), encoding="cp1252")
    assert text_of(with_shown_characters(data), "cp1252") == "a glossword b\r"


@pytest.mark.parametrize("text", ["\x13 HYPERLINK x\x14page\x15", "\x13 EQ \\f(1,2)\x15", f"{GLOSS} without end"])
def test_other_fields_are_unchanged(text: str) -> None:
    data = word_file((text, b""), encoding="utf-16-le")
    assert with_shown_characters(data) is data


@pytest.mark.parametrize(
    ("font", "code", "shown", "in_bytes"),
    [(1, 0xF0FE, "☑", "•"), (1, 0x6F, "□", "•"), (2, 0xF0B0, "°", "°"), (2, 0xF061, "α", "•"), (3, 0x20AC, "€", "€")],
)
def test_a_symbol_is_written_as_its_font_shows_it(font: int, code: int, shown: str, in_bytes: str) -> None:
    for encoding, one in (("utf-16-le", shown), ("cp1252", in_bytes)):
        data = word_file(("(", b""), ("(", symbol(font, code)), (" dogs\r", b""), encoding=encoding)
        assert text_of(with_shown_characters(with_fonts(data, *FONTS)), encoding) == f"({one} dogs\r"


def test_a_symbol_of_no_known_font_keeps_its_number() -> None:
    data = word_file(("(", symbol(7, 0xF0FE)), encoding="utf-16-le")
    assert text_of(with_shown_characters(with_fonts(data, *FONTS)), "utf-16-le") == "\uf0fe"
    assert text_of(with_shown_characters(data), "utf-16-le") == "\uf0fe"
