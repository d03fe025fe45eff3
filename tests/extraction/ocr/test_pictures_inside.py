"""Pictures inside documents: their words come where the picture is. OCR is replaced by pages that are already known."""

import io
import struct
import zipfile
from pathlib import Path

import pytest

from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.formats.parts.picture_marks import filled, marked_pictures, picture_mark
from dagster_offload.extraction.ocr.scans import PictureReader
from dagster_offload.extraction.ocr.tesseract import NO_READER, Reader
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.extraction.readers import read_file
from dagster_offload.stages.graph import Outcome
from tests.extraction.formats.test_ppt import emf
from tests.support.ocr import SCANS, share_kept, tesseract

READER = Reader("tesseract", "5", "kor+eng", (), True, "")
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def png(width: int, height: int) -> bytes:
    """The parts of a PNG file that are looked at before OCR."""
    chunk = struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(5 + 4)
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4sI", 0, b"IEND", 0)


SCREENSHOT, ICON = png(640, 400), png(32, 32)


def archive(members: dict[str, str | bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return made.getvalue()


def related(**targets: str) -> str:
    one = '<Relationship Id="{}" Type="{}/image" Target="{}"/>'
    return f"<Relationships>{''.join(one.format(name, OFFICE, target) for name, target in targets.items())}</Relationships>"


def word(*pictures: bytes, text: str = "") -> bytes:
    blips = "".join(
        f'<w:p><w:r><w:drawing><a:blip r:embed="i{n}"/></w:drawing></w:r></w:p>' for n in range(len(pictures))
    )
    paragraphs = "".join(f"<w:p><w:r><w:t>{part}</w:t></w:r></w:p>" for part in (text, "end") if text)
    names = 'xmlns:w="w" xmlns:a="a" xmlns:r="relationships"'
    return archive(
        {
            "word/document.xml": f"<w:document {names}><w:body>{blips}{paragraphs}</w:body></w:document>",
            "word/_rels/document.xml.rels": related(**{f"i{n}": f"media/image{n}.png" for n in range(len(pictures))}),
            **{f"word/media/image{n}.png": picture for n, picture in enumerate(pictures)},
        }
    )


def read(data: bytes, name: str, known: dict[int, str], reader: Reader = READER) -> Extracted:
    return read_file(data, name, name.rpartition(".")[2], PictureReader(reader, known, lambda _page: None))


def test_the_words_of_a_picture_come_where_the_picture_is() -> None:
    found = read(word(SCREENSHOT, ICON, text="before the end"), "a.docx", {1: "Meter reading\n4711"})
    assert found.text == "Meter reading\n4711\n\nbefore the end\n\nend"
    assert found.metadata["ocr_pages"] == 1
    assert found.metadata["reason"] == "1 picture inside the document read by OCR (kor+eng)"


def test_a_slide_keeps_the_words_of_its_pictures() -> None:
    slides = "xmlns:p='p' xmlns:a='a' xmlns:r='http://x/relationships'"
    data = archive(
        {
            "ppt/presentation.xml": f"<p:presentation {slides}><p:sldIdLst><p:sldId r:id='s'/></p:sldIdLst></p:presentation>",
            "ppt/_rels/presentation.xml.rels": related(s="slides/a.xml"),
            "ppt/slides/a.xml": f"<p:sld {slides}><p:pic><a:blip r:embed='i'/></p:pic></p:sld>",
            "ppt/slides/_rels/a.xml.rels": related(i="../media/photo.png"),
            "ppt/media/photo.png": SCREENSHOT,
        }
    )
    assert read(data, "a.pptx", {1: "신청서"}).text == "신청서"


def test_a_hangul_document_keeps_the_words_of_its_pictures() -> None:
    data = archive(
        {
            "Contents/content.hpf": "<package><item id='image1' href='BinData/image1.png'/></package>",
            "Contents/section0.xml": "<sec><p><run><t>앞</t><pic><img binaryItemIDRef='image1'/></pic></run></p></sec>",
            "BinData/image1.png": SCREENSHOT,
        }
    )
    assert read(data, "a.hwpx", {1: "그림 속 글"}).text == "앞\n\n그림 속 글"


def test_without_ocr_a_document_of_pictures_needs_it_and_one_with_text_shows_what_is_missing() -> None:
    only_pictures = read(word(SCREENSHOT, SCREENSHOT + b"2"), "a.docx", {}, NO_READER)
    assert (only_pictures.outcome, only_pictures.metadata["pages_to_ocr"]) == (Outcome.NEEDS_OCR, 2)
    assert only_pictures.metadata["reason"] == "this Word document contains only pictures. OCR is not set up here"
    with_text = read(word(SCREENSHOT, text="a letter"), "a.docx", {}, NO_READER)
    assert (with_text.outcome, with_text.text) == (Outcome.OK, "a letter\n\nend")
    assert with_text.metadata["reason"] == "1 picture inside the document not read. OCR is not set up here"


@pytest.mark.parametrize("picture", [ICON, SCREENSHOT[:20], b"not a picture", b""])
def test_icons_and_damaged_pictures_are_left_out(picture: bytes) -> None:
    found = read(word(picture, text="a letter"), "a.docx", {})
    assert (found.text, "reason" in found.metadata) == ("a letter\n\nend", False)


def test_a_metafile_is_read_without_ocr() -> None:
    assert (
        read(word(emf(("Budget 2025", 0, 0)), text="see"), "a.docx", {}, NO_READER).text == "Budget 2025\n\nsee\n\nend"
    )


def test_words_in_a_table_stay_in_their_row_and_marks_without_words_disappear() -> None:
    one, other = picture_mark("media/1.png"), picture_mark("media/2.png")
    text = f"| a | {one} |\n\n{other}\n\nend {other}"
    assert marked_pictures(text) == ["media/1.png", "media/2.png"]
    assert filled(text, {"media/1.png": "two\nlines | more"}) == "| a | two lines \\| more |\n\nend "


@pytest.mark.tesseract
def test_tesseract_reads_a_picture_inside_a_document(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(word((SCANS / "korean.png").read_bytes(), text="before the end"))
    with Extractor(reader=tesseract()) as extractor:
        found = extractor.extract(tmp_path / "a.docx")
    assert share_kept(found.text, "korean.txt") > 0.9
    assert found.text.endswith("before the end\n\nend")


def test_a_picture_that_crashes_tesseract_does_not_cost_its_document(tmp_path: Path) -> None:
    command = tmp_path / "tesseract"
    command.write_text("#!/bin/sh\nexit 1\n")
    command.chmod(0o755)
    (tmp_path / "a.docx").write_bytes(word(SCREENSHOT, text="a letter"))
    reader = Reader(str(command), "5", "eng", (), knows_orientation=True, advice="")
    with Extractor(reader=reader) as extractor:
        assert extractor.extract(tmp_path / "a.docx").text == "a letter\n\nend"
