"""Pages that were scanned askew are straightened before OCR."""

import math
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
import pytest

from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.ocr.page_images import PdfPages
from dagster_offload.extraction.ocr.skew import skew_of, straightened
from tests.extraction.made_pdf import Page, lines, made_pdf, turned
from tests.support.ocr import tesseract

LETTER = [f"Line {number} of this letter is about the rent of berth {number}" for number in range(1, 26)]


def askew(degrees: float) -> bytes:
    return made_pdf(Page(turned(lines(*LETTER), math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))))


def picture_of(data: bytes) -> bytes:
    """The page as a scan: a PDF of one picture."""
    page = pypdfium2.PdfDocument(data)[0]
    bitmap = page.render(scale=2, grayscale=True)
    scan = pypdfium2.PdfDocument.new()
    image = pypdfium2.PdfImage.new(scan)
    image.set_bitmap(bitmap)
    image.set_matrix(pypdfium2.PdfMatrix().scale(page.get_width(), page.get_height()))
    new = scan.new_page(page.get_width(), page.get_height())
    new.insert_obj(image)
    new.gen_content()
    saved = bytearray()
    scan.save(_Sink(saved))
    return bytes(saved)


class _Sink:
    def __init__(self, data: bytearray) -> None:
        self.data = data

    def write(self, block: bytes) -> int:
        self.data += block
        return len(block)


@pytest.mark.parametrize("degrees", [-12, -8, 0, 5, 10])
def test_the_slope_of_lines_is_measured_and_straightened(degrees: int) -> None:
    page = pypdfium2.PdfDocument(askew(degrees))[0]
    assert abs(skew_of(page) - degrees) <= 1
    if degrees:
        level = straightened(page, 2, degrees)
        rows = memoryview(level.buffer).cast("B")
        is_dark = [min(rows[y * level.stride : y * level.stride + level.width]) < 128 for y in range(level.height)]
        assert sum(one and not before for one, before in zip(is_dark[1:], is_dark, strict=False)) >= len(LETTER) - 5


@pytest.mark.parametrize("page", [Page(""), Page("0 0 595 842 re f"), Page(lines("one line"))])
def test_a_page_without_lines_counts_as_level(page: Page) -> None:
    data = made_pdf(page)
    assert skew_of(pypdfium2.PdfDocument(data)[0]) == 0
    assert PdfPages(data).render_straight(1) is None


@pytest.fixture
def reading() -> Iterator[Extractor]:
    with Extractor(reader=tesseract()) as extractor:
        yield extractor


@pytest.mark.tesseract
def test_a_page_scanned_askew_by_ten_degrees_is_read(reading: Extractor, tmp_path: Path) -> None:
    (tmp_path / "askew.pdf").write_bytes(picture_of(askew(10)))
    text = reading.extract(tmp_path / "askew.pdf").text
    assert text.count("of this letter is about the rent of berth") >= len(LETTER) - 5
