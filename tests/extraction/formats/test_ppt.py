"""PowerPoint files made record by record: slides, masters, tables, notes, pictures of embedded objects, damage."""

import struct
import zlib

import pytest

from dagster_offload.extraction.formats.office97.metafile import metafile_text
from dagster_offload.extraction.formats.office97.ppt import ppt_text
from dagster_offload.extraction.refusals import FileRefused
from tests.extraction.made_compound import atom, compound, container

TITLE, BODY, NOTES, OTHER = 0, 1, 2, 4
DATE, PAGE_NUMBER, FOOTER = 7, 8, 9


def text(kind: int, words: str) -> bytes:
    """A text with its type. Latin letters are stored as bytes, others as UTF-16."""
    if words.isascii():
        return atom(0x0F9F, struct.pack("<I", kind)) + atom(0x0FA8, words.encode())
    return atom(0x0F9F, struct.pack("<I", kind)) + atom(0x0FA0, words.encode("utf-16-le"))


def shape(
    *inside: bytes, placeholder: int = 0, options: bytes = b"", flags: int = 0, at: tuple[int, int] = (0, 0)
) -> bytes:
    parts = [atom(0xF00A, struct.pack("<II", 1, flags)), options, atom(0xF00F, struct.pack("<iiii", *at, 0, 0))]
    if placeholder:
        parts.append(container(0xF011, atom(0x0BC3, struct.pack("<IBBH", 0, placeholder, 0, 0))))
    return container(0xF004, *parts, atom(0xF00D, b"".join(inside)))


def option(number: int, value: int) -> bytes:
    return atom(0xF00B, struct.pack("<HI", number, value), instance=1)


def drawing(*shapes: bytes) -> bytes:
    return container(0x040C, container(0xF002, container(0xF003, shape(), *shapes)))


def slide(*shapes: bytes, master: int = 0, notes: bytes = b"") -> bytes:
    head = struct.pack("<I 8s I I H H", 0, bytes(8), master, 0, 1, 0)
    return container(0x03EE, atom(0x03EF, head), drawing(*shapes), notes)


def listed(kind: int, *entries: tuple[int, int, bytes]) -> bytes:
    """A slide list of persist ids, slide ids and the texts of placeholders."""
    parts = [
        atom(0x03F3, struct.pack("<IIIII", persist, 0, 0, slide_id, 0)) + texts for persist, slide_id, texts in entries
    ]
    return container(0x0FF0, *parts, instance=kind)


def deck(
    *objects: bytes, lists: bytes, in_document: bytes = b"", pictures: bytes = b"", current: bytes | None = None,
    storage: str = "", beside: dict[str, bytes] | None = None,
) -> bytes:  # fmt: skip
    """A presentation in `storage`, whose persist objects are the document (1) and `objects` (from 2).

    `beside` are other streams of the file.
    """
    parts = [container(0x03E8, in_document, lists), *objects]
    offsets = [sum(map(len, parts[:index])) for index in range(len(parts))]
    directory_at = sum(map(len, parts))
    directory = atom(0x1772, struct.pack(f"<I{len(parts)}I", 1 | len(parts) << 20, *offsets))
    edit_at = directory_at + len(directory)
    edit = atom(0x0FF5, struct.pack("<IIIIII H H", 0, 0, 0, directory_at, 1, 9, 0, 0))
    user = struct.pack("<HHIIII", 0, 0x0FF6, 20, 20, 0xE391C05F, edit_at) if current is None else current
    stream = b"".join(parts) + directory + edit
    streams = {"Current User": user, "PowerPoint Document": stream, "Pictures": pictures}
    return compound({storage + name: content for name, content in streams.items()} | (beside or {}))


def test_titles_texts_and_notes_of_each_slide_are_read_in_order() -> None:
    reference = atom(0x0F9E, struct.pack("<I", 0))
    data = deck(
        slide(shape(reference, placeholder=13), shape(text(OTHER, "첫째 글상자"))),
        slide(shape(text(BODY, "second"), placeholder=14)),
        container(0x03F0, atom(0x03F1, struct.pack("<III", 256, 0, 0)), drawing(shape(text(NOTES, "speak slowly")))),
        lists=listed(0, (2, 256, text(TITLE, "Boiler")), (3, 257, b"")) + listed(2, (4, 600, b"")),
    )
    assert ppt_text(data).split("\n\n") == ["## Boiler", "첫째 글상자", "Notes:\nspeak slowly", "second"]


def test_a_text_box_of_the_master_is_read_once_and_its_prompts_are_not() -> None:
    master = container(
        0x03F8, drawing(shape(text(TITLE, "Click to edit"), placeholder=1), shape(text(OTHER, "Harbour Office")))
    )
    data = deck(
        slide(shape(text(OTHER, "one")), master=700),
        slide(shape(text(OTHER, "two")), master=700),
        master,
        lists=listed(0, (2, 256, b""), (3, 257, b"")) + listed(1, (4, 700, b"")),
    )
    assert ppt_text(data).split() == ["one", "two", "Harbour", "Office"]


def test_footers_are_read_once_and_page_numbers_and_hidden_shapes_are_not() -> None:
    footer = container(
        0x0FD9, atom(0x0FDA, struct.pack("<HH", 0, 0x20)), atom(0x0FBA, "Draft".encode("utf-16-le"), instance=2)
    )
    number = text(OTHER, "Page *") + atom(0x0FD8, struct.pack("<I", 5))
    data = deck(
        slide(
            shape(number),
            shape(text(OTHER, "3"), placeholder=PAGE_NUMBER),
            shape(text(OTHER, "deleted"), flags=8),
            shape(text(OTHER, "hidden"), options=option(0x03BF, 0x20002)),
        ),
        lists=listed(0, (2, 256, b"")),
        in_document=footer + footer,
    )
    assert ppt_text(data) == "Page\n\nDraft"


def test_the_cells_of_a_table_stay_apart() -> None:
    cells = [("Month", 0, 0), ("Sum", 9, 0), ("12", 9, 5), ("May", 0, 5)]
    table = container(
        0xF003,
        shape(options=option(0x039F, 1)),
        *(shape(text(OTHER, words), at=(left, top)) for words, left, top in cells),
    )
    data = deck(slide(table), lists=listed(0, (2, 256, b"")))
    assert ppt_text(data) == "| Month | Sum |\n| --- | --- |\n| May | 12 |"


def emf(*texts: tuple[str, int, int]) -> bytes:
    """A metafile that draws these texts at these positions. Each letter is 10 wide."""
    header = struct.pack("<II", 1, 88) + bytes(32) + b" EMF" + bytes(44)
    records = b""
    for words, x, y in texts:
        encoded = words.encode("utf-16-le")
        encoded += bytes(-len(encoded) % 4)
        head = bytes(16) + bytes(12) + struct.pack("<iiIII", x, y, len(words), 76, 0) + bytes(16)
        head += struct.pack("<I", 76 + len(encoded))
        record = head + encoded + struct.pack(f"<{len(words)}I", *[10] * len(words))
        records += struct.pack("<II", 84, 8 + len(record)) + record
    return header + records + struct.pack("<III", 14, 12, 0)


def test_the_picture_of_an_embedded_workbook_gives_its_cells_once() -> None:
    packed = zlib.compress(emf(("Ap", 0, 0), ("ples", 20, 0), ("120", 90, 0), ("pears", 0, 30)))
    blip = atom(0xF01A, bytes(16) + bytes(32) + bytes((0, 0xFE)) + packed, instance=0x3D4)
    entry = atom(0xF007, bytes(28) + struct.pack("<I", 0) + bytes(4))
    store = container(0x040B, container(0xF000, container(0xF001, entry)))
    picture = shape(options=option(0x4104, 1))
    data = deck(slide(picture, picture), lists=listed(0, (2, 256, b"")), in_document=store, pictures=blip)
    assert ppt_text(data) == "Apples 120\npears"


def test_word_art_is_read() -> None:
    words = "Well done".encode("utf-16-le") + b"\0\0"
    options = atom(0xF00B, struct.pack("<HI", 0xC0C0, len(words)) + words, instance=1)
    assert ppt_text(deck(slide(shape(options=options)), lists=listed(0, (2, 256, b"")))) == "Well done"


def test_a_deck_of_powerpoint_95_gives_the_copy_of_its_texts() -> None:
    old = {
        "PowerPoint Document": bytes(5000),
        "Text_Content": "\r\rLagebericht\r\rGr\xfc\xdfe\u2026\r".encode("cp1252"),
    }
    assert ppt_text(compound(old)) == "\n\nLagebericht\n\nGr\xfc\xdfe\u2026\n"


def test_a_deck_for_two_versions_gives_the_slides_of_the_newer_one() -> None:
    old = {"PowerPoint Document": bytes(5000), "Text_Content": b"older text"}
    lists = listed(0, (2, 256, b""))
    assert (
        ppt_text(deck(slide(shape(text(OTHER, "newer"))), lists=lists, storage="PP97_DUALSTORAGE/", beside=old))
        == "newer"
    )


def test_a_damaged_slide_gives_its_outline_and_does_not_affect_the_others() -> None:
    cut = container(0x03EE, container(0x040C, container(0xF004, atom(0xF00F, b"\0"))))
    data = deck(cut, slide(shape(text(OTHER, "whole"))), lists=listed(0, (2, 256, text(TITLE, "Cut")), (3, 257, b"")))
    assert ppt_text(data) == "## Cut\n\nwhole"


def test_a_deck_without_a_current_user_is_read_from_its_last_edit() -> None:
    data = deck(slide(shape(text(OTHER, "kept"))), lists=listed(0, (2, 256, b"")), current=b"")
    assert ppt_text(data) == "kept"


def test_an_encrypted_deck_is_password_protected_and_other_data_is_broken() -> None:
    user = struct.pack("<HHIIII", 0, 0x0FF6, 20, 20, 0xF3D1C4DF, 0)
    for data, code in (
        (deck(lists=b"", current=user), "password_protected"),
        (compound({"PowerPoint Document": bytes(5000)}), "broken_file"),
        (b"xylophone-4711", "broken_file"),
    ):
        with pytest.raises(FileRefused) as refused:
            ppt_text(data)
        assert refused.value.code == code
        assert "xylophone" not in refused.value.message


def test_a_metafile_of_windows_3_is_decoded_in_the_charset_of_its_font() -> None:
    def record(kind: int, data: bytes) -> bytes:
        return struct.pack("<IH", 3 + len(data) // 2, kind) + data

    font = record(0x02FB, bytes(13) + bytes((204,)) + bytes(4))
    words = "Привет".encode("cp1251")
    drawn = record(0x0A32, struct.pack("<hhHH", 5, 5, len(words), 0) + words)
    data = struct.pack("<HHHIHIH", 1, 9, 0x300, 0, 1, 0, 0) + font + record(0x012D, b"\0\0") + drawn + record(0, b"")
    assert metafile_text(data) == "Привет"
    assert metafile_text(data[:30]) == ""
