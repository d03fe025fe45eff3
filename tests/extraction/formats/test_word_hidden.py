"""Hidden text and tracked deletions of Word documents (97 to 2003). The files are made record by record."""

import io
import struct

import olefile
import pytest

from dagster_offload.extraction.formats.office97.word_hidden import without_hidden_text
from dagster_offload.extraction.formats.parts.markdown import plain_markdown
from tests.extraction.made_compound import compound

TEXT, PAGE = 0x800, 512
DELETED, HIDDEN, BOLD = 0x0800, 0x083C, 0x0835


def word_file(*runs: tuple[str, bytes], encoding: str) -> bytes:
    """A document of runs with their character properties."""
    texts = [text.encode(encoding) for text, _ in runs]
    borders = [TEXT + sum(map(len, texts[:number])) for number in range(len(runs) + 1)]
    page = bytearray(struct.pack(f"<{len(borders)}I", *borders).ljust(PAGE, b"\0"))
    free = PAGE - 2
    for number, (_, properties) in enumerate(runs):
        if properties:
            free = (free - len(properties) - 1) // 2 * 2
            page[free : free + 1 + len(properties)] = bytes((len(properties),)) + properties
            page[4 * len(borders) + number] = free // 2
    page[-1] = len(runs)
    pages = struct.pack("<III", borders[0], borders[-1], (TEXT - PAGE) // PAGE)
    place = TEXT * 2 | 0x40000000 if encoding == "cp1252" else TEXT
    pieces = struct.pack("<II", 0, sum(len(text) for text, _ in runs)) + struct.pack("<HIH", 0, place, 0)
    pieces = b"\2" + struct.pack("<I", len(pieces)) + pieces
    header = bytearray(TEXT)
    header[:2] = b"\xec\xa5"
    struct.pack_into("<II", header, 0x00FA, 0, len(pages))
    struct.pack_into("<II", header, 0x01A2, len(pages), len(pieces))
    header[TEXT - PAGE : TEXT] = page
    return compound({"WordDocument": (bytes(header) + b"".join(texts)).ljust(4096, b"\0"), "0Table": pages + pieces})


def text_of(data: bytes, encoding: str) -> str:
    with olefile.OleFileIO(io.BytesIO(data)) as file:
        text = bytes(file.openstream("WordDocument").read())[TEXT:].decode(encoding)
    return text.strip("\0").replace("\x1f", "")


def sprm(kind: int, value: int) -> bytes:
    return struct.pack("<HB", kind, value)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_hidden_and_deleted_text_is_left_out_and_ends_of_paragraphs_are_kept(encoding: str) -> None:
    data = word_file(
        ("The rent ", b""),
        ("was 800", sprm(BOLD, 1) + sprm(DELETED, 1)),
        ("is 850\r", sprm(BOLD, 1)),
        ("secret\r", sprm(HIDDEN, 1)),
        ("shown", sprm(HIDDEN, 0)),
        encoding=encoding,
    )
    assert text_of(without_hidden_text(data), encoding) == "The rent is 850\r\rshown"


def test_a_document_without_hidden_text_is_unchanged() -> None:
    data = word_file(("The rent", sprm(BOLD, 1)), encoding="cp1252")
    assert without_hidden_text(data) is data


def test_words_of_links_are_read_without_their_addresses() -> None:
    markdown = r"[1. Rent	3](#_Toc0) and [our \[new\] page](https://a.example/%28b%29)"
    assert plain_markdown(markdown) == "1. Rent	3 and our [new] page"
    assert plain_markdown(r"\[not a link\](#a), rent[^1](see below)") == "[not a link](#a), rent[^1](see below)"
