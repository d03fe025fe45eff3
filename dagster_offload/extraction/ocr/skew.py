"""Straighten a page that was scanned askew. Tesseract reads nothing from lines that rise by more than a few degrees."""

import math
from itertools import pairwise
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

LIMIT = 15  # degrees
_LEAST = 3  # degrees; Tesseract levels smaller slopes itself
_SAMPLE_SIZE = 400.0  # pixels of the longer side
_MAX_DARK = 30_000  # pixels; a page of letters has fewer
_DARK = 128
_CLEARLY = 1.2  # how much better level lines must fit


def skew_of(page: Any) -> int:
    """Return the slope of a page's lines in degrees, positive if they rise; 0 if they are level or cannot be seen.

    Level lines of text leave the rows of pixels between them empty, so that the numbers of dark pixels differ from row to row.
    """
    bitmap = page.render(scale=_SAMPLE_SIZE / max(page.get_width(), page.get_height(), 1), grayscale=True)
    rows, stride = memoryview(bitmap.buffer).cast("B"), bitmap.stride
    dark = [
        (x, y)
        for y in range(bitmap.height)
        for x, shade in enumerate(rows[y * stride : y * stride + bitmap.width])
        if shade < _DARK
    ]
    if not 0 < len(dark) <= _MAX_DARK:
        return 0
    fits = {degrees: _fit(dark, degrees) for degrees in range(-LIMIT, LIMIT + 1)}
    best = max(fits, key=lambda degrees: fits[degrees])
    return best if abs(best) >= _LEAST and fits[best] > _CLEARLY * fits[0] else 0


def _fit(dark: list[tuple[int, int]], degrees: int) -> float:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offset = int(2 * _SAMPLE_SIZE)
    counts = [0] * (2 * offset)
    for x, y in dark:
        counts[offset + int(y * cosine + x * sine)] += 1
    return float(sum((one - other) ** 2 for one, other in pairwise(counts)))


def straightened(page: Any, scale: float, degrees: int) -> Any:
    """Draw a page in grey, turned about its middle so that lines with this slope are level. `scale`: pixels per point."""
    width, height = math.ceil(page.get_width() * scale), math.ceil(page.get_height() * scale)
    bitmap = pypdfium2.PdfBitmap.new_native(width, height, pdfium.FPDFBitmap_Gray)
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    matrix = pdfium.FS_MATRIX(
        scale * cosine,
        scale * sine,
        -scale * sine,
        scale * cosine,
        x - x * cosine + y * sine,
        y - x * sine - y * cosine,
    )
    whole = pdfium.FS_RECTF(0, 0, width, height)
    pdfium.FPDF_RenderPageBitmapWithMatrix(bitmap.raw, page.raw, matrix, whole, pdfium.FPDF_ANNOT)
    return bitmap
