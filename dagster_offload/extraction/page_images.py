"""Pages as pictures: which pages of a PDF are pictures of text, a PDF's page drawn for OCR, the pages of a TIFF."""

import struct
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

DPI = 300  # what Tesseract's models were trained with
POINTS_PER_INCH = 72
# A page drawn larger than this (A3 at 300 DPI has 17 million) costs memory and tells no more.
MOST_PIXELS = 25_000_000

# A scan fills its page; a logo does not.
_MOSTLY = 0.5
# A page without text whose letters are drawn as outlines holds many; a frame or a rule few.
_OUTLINES = 20
_OBJECTS_LOOKED_AT = 5_000
_TIFF_PAGES_AT_MOST = 10_000


class PdfPages:
    """The pages of a PDF as PDFium sees them; numbers count from 1. Raises `pypdfium2.PdfiumError` where it cannot."""

    def __init__(self, data: bytes) -> None:
        self._document = pypdfium2.PdfDocument(data)

    def is_picture(self, number: int) -> bool:
        """Whether the page is mostly a picture."""
        page = self._document[number - 1]
        covered = sum(_area(page, picture) for picture in _objects(page, pdfium.FPDF_PAGEOBJ_IMAGE))
        return bool(covered >= _MOSTLY * page.get_width() * page.get_height())

    def has_drawings(self, number: int) -> bool:
        """Whether the page shows anything that could be letters: a picture, or many outlines."""
        page = self._document[number - 1]
        if _objects(page, pdfium.FPDF_PAGEOBJ_IMAGE):
            return True
        # Text here is of fonts that say of no glyph which letter it shows.
        return (
            bool(_objects(page, pdfium.FPDF_PAGEOBJ_TEXT)) or len(_objects(page, pdfium.FPDF_PAGEOBJ_PATH)) >= _OUTLINES
        )

    def drawn(self, number: int) -> tuple[bytes, int]:
        """The page as a grey picture (PGM) for OCR, and its DPI."""
        page = self._document[number - 1]
        square_inches = page.get_width() * page.get_height() / POINTS_PER_INCH**2
        dpi = int(min(DPI, (MOST_PIXELS / max(square_inches, 1e-6)) ** 0.5))
        bitmap = page.render(scale=max(dpi, 1) / POINTS_PER_INCH, grayscale=True)
        rows = memoryview(bitmap.buffer).cast("B")
        width, stride = bitmap.width, bitmap.stride
        grey = b"".join(rows[start : start + width] for start in range(0, stride * bitmap.height, stride))
        return b"P5 %d %d 255\n" % (width, bitmap.height) + grey, dpi


def _objects(page: Any, kind: int) -> list[Any]:
    found = []
    for number, thing in enumerate(page.get_objects(filter=[kind], max_depth=5)):
        if number >= _OBJECTS_LOOKED_AT:
            break
        found.append(thing)
    return found


def _area(page: Any, thing: Any) -> float:
    """In square points, of what lies on the page."""
    left, bottom, right, top = thing.get_bounds()
    width, height = min(right, page.get_width()) - max(left, 0), min(top, page.get_height()) - max(bottom, 0)
    return float(max(width, 0) * max(height, 0))


def tiff_pages(data: bytes) -> int:
    """How many pictures a TIFF chains; 1 where the chain is broken, because then the first is all there is."""
    pages, is_whole = _tiff_chain(data)
    return max(pages if is_whole else pages - 1, 1)


def is_whole_tiff(data: bytes) -> bool:
    """Whether the chain of a TIFF's pictures is there to its end."""
    return _tiff_chain(data)[1]


def _tiff_chain(data: bytes) -> tuple[int, bool]:
    """How many links the chain has, and whether all of them can be followed."""
    order = "<" if data.startswith(b"II") else ">"
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack_from(f"{order}I", data, 4)
        while offset and offset not in seen and len(seen) < _TIFF_PAGES_AT_MOST:
            seen.add(offset)
            (entries,) = struct.unpack_from(f"{order}H", data, offset)
            (offset,) = struct.unpack_from(f"{order}I", data, offset + 2 + 12 * entries)
    except struct.error:
        return len(seen), False
    return len(seen), bool(seen)
