"""Find the pages of a PDF that are pictures of text, and render them for OCR."""

from itertools import islice
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from dagster_offload.extraction.formats.pdf import shows_anything
from dagster_offload.extraction.ocr.skew import skew_of, straightened

DPI = 300  # Tesseract's models were trained at this resolution
POINTS_PER_INCH = 72
# A larger rendering (A3 at 300 DPI has 17 million pixels) costs memory and does not improve OCR.
MAX_PIXELS = 25_000_000

# A scan covers at least this share of its page. A logo covers less.
_MIN_COVERED_SHARE = 0.5
# A page whose letters are drawn as outlines has at least this many. A frame or a ruled line has fewer.
_MIN_OUTLINES = 20
_MAX_OBJECTS = 5_000


class PdfPages:
    """The pages of a PDF, numbered from 1. Raises `pypdfium2.PdfiumError` if PDFium cannot read the file or a page."""

    def __init__(self, data: bytes) -> None:
        self._document = pypdfium2.PdfDocument(data)

    @property
    def count(self) -> int:
        return len(self._document)

    def shows_anything(self, number: int) -> bool:
        """Whether the page can be opened and has an object."""
        return shows_anything(self._document, number - 1)

    def is_picture(self, number: int) -> bool:
        """Whether pictures cover at least half of the page."""
        page = self._document[number - 1]
        covered = sum(_area(page, picture) for picture in _objects(page, pdfium.FPDF_PAGEOBJ_IMAGE))
        return bool(covered >= _MIN_COVERED_SHARE * page.get_width() * page.get_height())

    def has_drawings(self, number: int) -> bool:
        """Whether the page shows anything that could be letters: a picture, glyphs or many outlines."""
        page = self._document[number - 1]
        if _objects(page, pdfium.FPDF_PAGEOBJ_IMAGE):
            return True
        # The page has no extractable text, so its fonts do not map glyphs to letters.
        return (
            bool(_objects(page, pdfium.FPDF_PAGEOBJ_TEXT))
            or len(_objects(page, pdfium.FPDF_PAGEOBJ_PATH)) >= _MIN_OUTLINES
        )

    def render_page(self, number: int) -> tuple[bytes, int]:
        """Render the page for OCR. Returns a grayscale PGM image and its DPI."""
        page = self._document[number - 1]
        scale = _scale(page)
        return grey_picture(page, scale), _dpi(scale)

    def render_straight(self, number: int) -> tuple[bytes, int] | None:
        """Render a page that was scanned askew with level lines, like `render_page`. None if its lines are level."""
        page = self._document[number - 1]
        degrees, scale = skew_of(page), _scale(page)
        return (_as_pgm(straightened(page, scale, degrees)), _dpi(scale)) if degrees else None


def _scale(page: Any) -> float:
    """Return the pixels per point: 300 DPI, or less for a page that would have more than `MAX_PIXELS`."""
    square_points = max(page.get_width() * page.get_height(), 1e-6)
    return float(min(DPI / POINTS_PER_INCH, (MAX_PIXELS / square_points) ** 0.5))


def _dpi(scale: float) -> int:
    return max(1, int(scale * POINTS_PER_INCH))


def grey_picture(page: Any, scale: float) -> bytes:
    """Draw a page as a grayscale PGM image. `scale`: pixels per point."""
    return _as_pgm(page.render(scale=scale, grayscale=True))


def _as_pgm(bitmap: Any) -> bytes:
    rows = memoryview(bitmap.buffer).cast("B")
    width, stride = bitmap.width, bitmap.stride
    grey = b"".join(rows[start : start + width] for start in range(0, stride * bitmap.height, stride))
    return pgm(width, bitmap.height, grey)


def pgm(width: int, height: int, grey: bytes) -> bytes:
    """Return a PGM image of one byte per pixel, row by row."""
    return b"P5 %d %d 255\n" % (width, height) + grey


def _objects(page: Any, kind: int) -> list[Any]:
    return list(islice(page.get_objects(filter=[kind], max_depth=5), _MAX_OBJECTS))


def _area(page: Any, thing: Any) -> float:
    """Return the area of the object that lies on the page, in square points."""
    left, bottom, right, top = thing.get_bounds()
    width, height = min(right, page.get_width()) - max(left, 0), min(top, page.get_height()) - max(bottom, 0)
    return float(max(width, 0) * max(height, 0))
