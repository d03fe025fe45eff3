"""Text out of pictures: of image files, and of those pages of a PDF that hold none (or none that is worth anything).

Runs in the extractor's child, page by page. Each page is reported before it is read, so that the parent can give each
its own time, and again when it is read, so that it need not be read again. The metadata of an answer holds only what
OCR adds; `reason` is for people.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pypdfium2

from dagster_offload.extraction import tesseract
from dagster_offload.extraction.cleaning import clean
from dagster_offload.extraction.legibility import is_stray, why_glyph_soup, why_worthless
from dagster_offload.extraction.page_images import PdfPages, tiff_pages
from dagster_offload.extraction.protocol import Extracted, PageRead
from dagster_offload.stages.graph import Outcome

TIFF = "image/tiff"
# Percent. Of print Tesseract is sure to 90 and more; textures are read as letters, too, and then it is not sure.
LEAST_CONFIDENCE = 50.0
_FEWEST_LETTERS = 3


@dataclass(frozen=True)
class Pictures:
    """How pictures are read for one document.

    `known` are pages that were read before (by number, from 1). `on_page` is called when a page begins, and again with
    its text when it is read.
    """

    reader: tesseract.Reader
    known: Mapping[int, str]
    on_page: Callable[[PageRead], None]

    def of_image(self, data: bytes, kind: str) -> Extracted:
        """The text of an image file. Raises `tesseract.Unreadable`."""
        count = tiff_pages(data) if kind == TIFF else 1
        if not self.reader.can_read:
            return Extracted(
                Outcome.NEEDS_OCR, "", {"reason": f"a picture. {self.reader.advice}", "pages_to_ocr": count}
            )
        texts = [self._page(number, count, lambda n: (data, None, n - 1)) for number in range(1, count + 1)]
        return self._read(texts, read_pages=count, of=count)

    def of_pdf(self, data: bytes, texts: Sequence[str]) -> Extracted | None:
        """The text of a PDF whose pages' own texts are `texts`; None where these are all there is to read.

        Raises `tesseract.Unreadable`.
        """
        whys = [_why_to_read(text) for text in texts]
        if not any(whys):
            return None
        try:
            pages = PdfPages(data)
            to_read = [number for number, why in enumerate(whys, 1) if why and _shows_letters(pages, number, texts)]
        except pypdfium2.PdfiumError:  # the extractor reads what the renderer cannot draw
            return (
                None
                if any(texts)
                else Extracted(Outcome.NO_TEXT, "", {"reason": "no text, and pages that cannot be drawn"})
            )
        if not to_read:
            return None
        why = next(why for number, why in enumerate(whys, 1) if number in to_read and why)
        kept = ["" if why_glyph_soup(text) else text for text in texts]
        if not self.reader.can_read:
            return self._unread(kept, to_read, why)
        merged = list(kept)
        for number in to_read:
            merged[number - 1] = self._page(number, len(texts), lambda n: (*pages.drawn(n), 0)) or kept[number - 1]
        is_anything_read = any(
            text and (number not in to_read or text != kept[number - 1]) for number, text in enumerate(merged, 1)
        )
        return self._read(merged if is_anything_read else [], read_pages=len(to_read), of=len(texts))

    def _page(self, number: int, count: int, draw: Callable[[int], tuple[bytes, int | None, int]]) -> str:
        """One page's text, "" where it is worthless."""
        if number in self.known:
            return self.known[number]
        self.on_page(PageRead(number, count))
        picture, dpi, page = draw(number)
        found = tesseract.read(self.reader, picture, dpi=dpi, page=page)
        text = "" if _is_worthless(found) else clean(found.text)
        self.on_page(PageRead(number, count, text))
        return text

    def _read(self, texts: Sequence[str], *, read_pages: int, of: int) -> Extracted:
        metadata: dict[str, Any] = {"ocr_languages": self.reader.languages, "ocr_pages": read_pages}
        text = "\n\n".join(text for text in texts if text)
        if text:
            which = "read" if read_pages == of else f"{read_pages} of {of} pages read"
            advice = f". {self.reader.advice}" if self.reader.missing else ""
            metadata["reason"] = f"{which} by OCR ({self.reader.languages}){advice}"
            return Extracted(Outcome.OK, text, metadata)
        reason = f"OCR ({self.reader.languages}) finds no readable text"
        if self.reader.missing:
            return Extracted(Outcome.NEEDS_OCR, "", {**metadata, "reason": f"{reason}. {self.reader.advice}"})
        return Extracted(Outcome.NO_TEXT, "", {**metadata, "reason": reason})

    def _unread(self, kept: Sequence[str], to_read: Sequence[int], why: str) -> Extracted:
        metadata = {"pages_to_ocr": len(to_read)}
        readable = [text for number, text in enumerate(kept, 1) if number not in to_read and text]
        if not readable:
            return Extracted(Outcome.NEEDS_OCR, "", {**metadata, "reason": f"{why}. {self.reader.advice}"})
        reason = f"{len(to_read)} of {len(kept)} pages are not read: {why}. {self.reader.advice}"
        return Extracted(Outcome.OK, "\n\n".join(text for text in kept if text), {**metadata, "reason": reason})


def _why_to_read(text: str) -> str | None:
    """Why a page's own text is not enough, if the page shows letters at all."""
    soup = why_glyph_soup(text)
    if soup is not None:
        return soup
    if not text:
        return "pictures of text"
    return "pictures of text with a few stray characters" if is_stray(text) else None


def _shows_letters(pages: PdfPages, number: int, texts: Sequence[str]) -> bool:
    text = texts[number - 1]
    if not text:
        return pages.has_drawings(number)
    return why_glyph_soup(text) is not None or pages.is_picture(number)


def _is_worthless(found: tesseract.PictureText) -> bool:
    letters = sum(map(str.isalnum, found.text))
    return letters < _FEWEST_LETTERS or found.confidence < LEAST_CONFIDENCE or why_worthless(found.text) is not None
