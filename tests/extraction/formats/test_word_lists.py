"""The list numbers of Word documents (97 to 2003). The files are made record by record."""

import io
import struct
from dataclasses import dataclass

import olefile
import pytest

from dagster_offload.extraction.formats.office97 import word
from dagster_offload.extraction.formats.office97.word_lists import with_list_numbers
from tests.extraction.made_compound import compound

TEXT, PAGE = 0x800, 512


def numbered(text: str, data: bytes) -> str:
    with olefile.OleFileIO(io.BytesIO(data)) as file:
        return with_list_numbers(text, file, file.openstream("WordDocument").read())


@dataclass(frozen=True)
class Level:
    """A level of a list. `shown` has the characters 0 to 8 where numbers belong."""

    style: int = 0
    shown: str = "\0."
    start: int = 1
    flags: int = 0

    def __bytes__(self) -> bytes:
        head = struct.pack("<iBB", self.start, self.style, self.flags) + bytes(22)
        return head + struct.pack("<H", len(self.shown)) + self.shown.encode("utf-16-le")


@dataclass(frozen=True)
class Paragraph:
    text: str
    use: int | None = None
    level: int | None = None
    style: int = 0

    def properties(self) -> bytes:
        found = b"" if self.level is None else struct.pack("<HB", 0x260A, self.level)
        return found + (b"" if self.use is None else struct.pack("<Hh", 0x460B, self.use))


def style(base: int, use: int = 0) -> bytes:
    """A paragraph style. Its properties may name the use of a list."""
    properties = struct.pack("<Hh", 0x460B, use) if use else b""
    one = struct.pack("<HHHHH", 0, 1 | base << 4, 1, 0, 0) + struct.pack("<H", 1) + "S\0".encode("utf-16-le")
    one += struct.pack("<HH", 2 + len(properties), 0) + properties
    return struct.pack("<H", len(one)) + one


def document(
    paragraphs: list[Paragraph],
    lists: dict[int, list[Level]],
    uses: list[tuple[int, bytes]],
    styles: tuple[bytes, ...] = (style(0xFFF),),
) -> bytes:
    """A Word document. `uses`: the list of each use, and what it changes (one level at most)."""
    text = "".join(paragraph.text + "\r" for paragraph in paragraphs)
    properties, places = bytearray(PAGE), []
    struct.pack_into(f"<{len(paragraphs) + 1}I", properties, 0, *ends(paragraphs))
    free = PAGE - 2
    for number, paragraph in enumerate(paragraphs):
        content = struct.pack("<H", paragraph.style) + paragraph.properties()
        content += bytes(len(content) % 2)
        content = bytes((0, len(content) // 2)) + content
        free -= len(content)
        properties[free : free + len(content)] = content
        places.append(free // 2)
        properties[4 * (len(paragraphs) + 1) + 13 * number] = free // 2
    properties[-1] = len(paragraphs)

    table = bytearray()
    header = bytearray(TEXT)
    header[:2] = b"\xec\xa5"

    def part(place: int, content: bytes, after: bytes = b"") -> None:
        struct.pack_into("<II", header, place, len(table), len(content))
        table.extend(content + after)

    part(0x00A2, struct.pack("<HHH", 4, len(styles), 10) + b"".join(styles))
    part(0x0102, struct.pack("<III", TEXT, ends(paragraphs)[-1], (TEXT - PAGE) // PAGE))
    pieces = struct.pack("<II", 0, len(text)) + struct.pack("<HIH", 0, TEXT, 0)
    part(0x01A2, b"\1\2\0ab\2" + struct.pack("<I", len(pieces)) + pieces)
    names = b"".join(
        struct.pack("<i", name).ljust(26, b"\0") + bytes((len(levels) == 1, 0)) for name, levels in lists.items()
    )
    all_levels = b"".join(
        bytes(level)
        for levels in lists.values()
        for level in (levels if len(levels) == 1 else [*levels, *[Level()] * (9 - len(levels))])
    )
    part(0x02E2, struct.pack("<H", len(lists)) + names, all_levels)
    used = b"".join(struct.pack("<i8xB3x", name, bool(change)) for name, change in uses)
    part(0x02EA, struct.pack("<I", len(uses)) + used, b"".join(b"\xff" * 4 + change for _, change in uses))
    header[TEXT - PAGE : TEXT] = properties
    return compound({"WordDocument": bytes(header) + text.encode("utf-16-le"), "0Table": bytes(table)})


def ends(paragraphs: list[Paragraph]) -> list[int]:
    places = [TEXT]
    for paragraph in paragraphs:
        places.append(places[-1] + 2 * (len(paragraph.text) + 1))
    return places


ROMAN, LETTERS, SYLLABLES = Level(1, "제\0조"), Level(4, "\1)"), Level(24)


def test_list_numbers_come_back_as_the_document_shows_them() -> None:
    paragraphs = [
        Paragraph("임대차 계약", None),
        Paragraph("Purpose", 1, 0),
        Paragraph("the house", 1, 1),
        Paragraph("the garden", 1, 1),
        Paragraph("no list", 0),
        Paragraph("Rent", 1, 0),
        Paragraph("the deposit", 1, 1),
        Paragraph("보증금", 2, 0),
    ]
    data = document(paragraphs, {7: [ROMAN, LETTERS], 8: [SYLLABLES]}, [(7, b""), (8, b"")])
    text = "임대차 계약\n\n1. Purpose\n  1. the house\n  2. the garden\n\nno list\n\n## Rent\n\nthe deposit\n\n- 보증금"
    assert numbered(text, data) == (
        "임대차 계약\n\n제I조 Purpose\n  a) the house\n  b) the garden\n\nno list\n\n"
        "## 제II조 Rent\n\na) the deposit\n\n가. 보증금"
    )


def test_a_style_gives_its_list_to_its_paragraphs_and_to_the_styles_based_on_it() -> None:
    styles = (style(0xFFF), style(0, use=1), style(1))
    paragraphs = [Paragraph("one", style=1), Paragraph("two", style=2), Paragraph("three", 0, style=2)]
    data = document(paragraphs, {7: [Level()]}, [(7, b"")], styles)
    assert numbered("one\n\ntwo\n\nthree", data) == "1. one\n\n2. two\n\nthree"


def test_a_list_counts_on_where_it_is_used_again_unless_it_starts_anew() -> None:
    anew = struct.pack("<iI", 5, 0x10)
    changed = struct.pack("<iI", 0, 0x20) + bytes(Level(3))
    data = document(
        [Paragraph(name, use, 0) for name, use in (("one", 1), ("two", 2), ("five", 3), ("letter", 4), ("three", 1))],
        {7: [Level()]},
        [(7, b""), (7, b""), (7, anew), (7, changed)],
    )
    text = numbered("one\n\ntwo\n\nfive\n\nletter\n\nthree", data)
    assert text == "1. one\n\n2. two\n\n5. five\n\nF. letter\n\n7. three"


def test_a_level_in_legal_style_has_only_digits_and_one_may_count_on_below_a_new_number() -> None:
    names = ("one", "first", "second", "two", "third")
    levels = [Level(1), Level(0, "\0.\1", flags=4 | 8)]
    data = document(
        [Paragraph(name, 1, int(number % 3 > 0)) for number, name in enumerate(names)], {7: levels}, [(7, b"")]
    )
    assert numbered("\n\n".join(names), data) == "I. one\n\n1.1 first\n\n1.2 second\n\nII. two\n\n2.3 third"


def test_bullets_replace_numbers_that_were_guessed_and_what_the_writer_typed_stays() -> None:
    paragraphs = [Paragraph("milk", 1, 0), Paragraph("- eggs", 2, 0), Paragraph("plain")]
    data = document(paragraphs, {7: [Level(23, "\uf0b7")], 8: [Level()]}, [(7, b""), (8, b"")])
    assert numbered("1. milk\n- eggs\n3. plain", data) == "- milk\n1. - eggs\n3. plain"


def test_a_paragraph_that_is_not_found_again_costs_no_other_its_number() -> None:
    data = document([Paragraph(name, 1, 0) for name in ("one", "two", "three")], {7: [Level()]}, [(7, b"")])
    assert numbered("one\n\nthree", data) == "1. one\n\n3. three"


@pytest.mark.parametrize("keep", [0x100, 0x300, 0x7F0])
def test_damage_of_the_lists_costs_no_text(monkeypatch: pytest.MonkeyPatch, keep: int) -> None:
    whole = document([Paragraph("one", 1, 0)], {7: [Level()]}, [(7, b"")])

    class Read:
        def to_markdown(self) -> str:
            return "one"

    class Library:
        @staticmethod
        def from_bytes(_data: bytes, _kind: str) -> Read:
            return Read()

    monkeypatch.setattr(word, "Document", Library)
    assert word.doc_text(whole) == "1. one"
    streams = {"WordDocument": b"\xec\xa5" + b"\x7f" * keep, "0Table": b"\1" * 40}
    assert word.doc_text(compound(streams)) == "one"
    assert numbered("one", compound({"WordDocument": b"\xdc\xa5", "x": b"\xec\xa5"})) == "one"
