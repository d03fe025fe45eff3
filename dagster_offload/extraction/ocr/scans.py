"""Read text from pictures: image files, and pages of a PDF whose own text is missing or worthless.

Runs in the extractor's child, page by page. The child reports each page before OCR, so that the parent can apply a time
limit to it, and after OCR, so that a retry can skip it. An answer's metadata holds only what OCR adds. `reason` is for
people.

Only the functions that draw import PDFium.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_offload.extraction.cleaning import clean
from dagster_offload.extraction.file_types.detection import detect_type
from dagster_offload.extraction.file_types.images import HEIC, TIFF, tiff_pages
from dagster_offload.extraction.legibility import is_stray, share_of_wrong_letters, why_glyph_soup, why_worthless
from dagster_offload.extraction.machine import import_pdfium
from dagster_offload.extraction.no_text import NO_WORDS
from dagster_offload.extraction.ocr import tesseract
from dagster_offload.extraction.protocol import Extracted, PageRead
from dagster_offload.stages.graph import Outcome

if TYPE_CHECKING:
    from dagster_offload.extraction.ocr.page_images import PdfPages

# Percent. Tesseract reports 90 and more for print, and little for textures that it mistakes for letters.
MIN_CONFIDENCE = 50.0
_MIN_LETTERS = 3
# With fewer wrong letters, a page's own text is better than OCR.
_TOO_MANY_WRONG = 0.1


@dataclass
class PictureReader:
    """Reads the pictures of one document.

    `known` are texts of pages that were read before, by number from 1. `on_page` is called when a page begins, and
    again with its text when it is read. `allowed` are the pages that may be read now (None: all). The numbers of others
    are added to `wanted`, and what is returned then is not the document's text.
    """

    reader: tesseract.Reader
    known: Mapping[int, str]
    on_page: Callable[[PageRead], None]
    allowed: Collection[int] | None = None
    wanted: dict[int, int] = field(default_factory=dict)  # page number -> pages of the document

    def read_image(self, data: bytes, kind: str) -> Extracted:
        """Read an image file. Raises `tesseract.Unreadable`, and `FileRefused` if it cannot be decoded."""
        from dagster_offload.extraction.ocr.photos import HOW_TO_READ_HEIC, can_decode_heic, upright

        count = tiff_pages(data) if kind == TIFF else 1
        missing = [] if self.reader.can_read else [self.reader.advice]
        if kind == HEIC and not can_decode_heic():
            missing.append(HOW_TO_READ_HEIC)
        if missing:
            reason = ". ".join(["this file is a picture", *missing])
            return Extracted(Outcome.NEEDS_OCR, "", {"reason": reason, "pages_to_ocr": count})
        texts = [
            self._page(number, count, lambda n: (upright(data, kind), None, n - 1)) for number in range(1, count + 1)
        ]
        return self._answer(texts, read_pages=count, of=count)

    def read_pages(self, data: bytes) -> Extracted:
        """Read the `allowed` pages of a PDF, which an earlier request named. What is returned is not its text."""
        from dagster_offload.extraction.formats.pdf import repaired
        from dagster_offload.extraction.ocr.page_images import PdfPages

        pages = PdfPages(data)
        if not all(map(pages.shows_anything, self.allowed or ())):
            pages = PdfPages(repaired(data))
        for number in self.allowed or ():
            self._page(number, pages.count, lambda n: (*pages.render_page(n), 0), pages.render_straight)
        return Extracted(Outcome.NO_TEXT, "", {"reason": "only some of its pages were read"})

    def read_pdf(self, data: bytes, texts: Sequence[str]) -> Extracted | None:
        """Read the pages of a PDF that need OCR. `texts` are the pages' own texts.

        Returns None if no page needs it. Raises `tesseract.Unreadable`.
        """
        import pypdfium2

        from dagster_offload.extraction.ocr.page_images import PdfPages

        whys = [_why_to_read(text) for text in texts]
        if not any(whys):
            return None
        try:
            pages = PdfPages(data)
            to_read = [number for number, why in enumerate(whys, 1) if why and _shows_letters(pages, number, texts)]
        except pypdfium2.PdfiumError:  # the pages' own texts may still be readable
            if any(texts):
                return None
            reason = "the pages have no text and cannot be drawn for OCR: print the file to a new PDF"
            return Extracted(Outcome.NO_TEXT, "", {"reason": reason})
        if not to_read:
            return None
        why = next(why for number, why in enumerate(whys, 1) if number in to_read and why)
        kept = ["" if why_glyph_soup(text) else text for text in texts]
        if not self.reader.can_read:
            return self._answer_without_ocr(kept, to_read, why)
        merged = list(kept)
        for number in to_read:
            merged[number - 1] = (
                self._page(number, len(texts), lambda n: (*pages.render_page(n), 0), pages.render_straight)
                or kept[number - 1]
            )
        is_anything_read = any(
            text and (number not in to_read or text != kept[number - 1]) for number, text in enumerate(merged, 1)
        )
        return self._answer(merged if is_anything_read else [], read_pages=len(to_read), of=len(texts))

    def read_inside(self, pictures: Sequence[bytes]) -> list[str]:
        """Return the words of pictures inside a document, "" for those without words. Needs a reader that can read."""
        return [self._picture(number, len(pictures), picture) for number, picture in enumerate(pictures, 1)]

    def _picture(self, number: int, count: int, picture: bytes) -> str:
        import_pdfium()
        from dagster_offload.extraction.ocr.photos import upright

        try:
            return self._page(number, count, lambda _: (upright(picture, detect_type(picture) or ""), None, 0))
        except tesseract.Unreadable:  # one damaged picture does not affect its document
            return ""

    def _page(
        self,
        number: int,
        count: int,
        draw: Callable[[int], tuple[bytes, int | None, int]],
        draw_straight: Callable[[int], tuple[bytes, int] | None] = lambda _: None,
    ) -> str:
        """Return the text of one page, "" if it is worthless. A worthless page is read again if it was scanned askew."""
        if number in self.known:
            return self.known[number]
        if self.allowed is not None and number not in self.allowed:
            self.wanted[number] = count
            return ""
        self.on_page(PageRead(number, count))
        picture, dpi, page = draw(number)
        found = tesseract.read(self.reader, picture, dpi=dpi, page=page)
        if _is_worthless(found) and (straight := draw_straight(number)) is not None:
            found = tesseract.read(self.reader, straight[0], dpi=straight[1])
        text = "" if _is_worthless(found) else clean(found.text)
        self.on_page(PageRead(number, count, text))
        return text

    def _answer(self, texts: Sequence[str], *, read_pages: int, of: int) -> Extracted:
        metadata: dict[str, Any] = {"ocr_languages": self.reader.languages, "ocr_pages": read_pages}
        text = "\n\n".join(text for text in texts if text)
        if text:
            scope = "read" if read_pages == of else f"{read_pages} of {of} pages read"
            advice = f". {self.reader.advice}" if self.reader.missing else ""
            metadata["reason"] = f"{scope} by OCR ({self.reader.languages}){advice}"
            return Extracted(Outcome.OK, text, metadata)
        reason = f"OCR ({self.reader.languages}) found no readable text"
        if self.reader.missing:
            return Extracted(Outcome.NEEDS_OCR, "", {**metadata, "reason": f"{reason}. {self.reader.advice}"})
        return Extracted(Outcome.NO_TEXT, "", {**metadata, "reason": f"{reason}: {NO_WORDS}"})

    def _answer_without_ocr(self, kept: Sequence[str], to_read: Sequence[int], why: str) -> Extracted:
        metadata = {"pages_to_ocr": len(to_read)}
        readable = [text for number, text in enumerate(kept, 1) if number not in to_read and text]
        if not readable:
            return Extracted(Outcome.NEEDS_OCR, "", {**metadata, "reason": f"{why}. {self.reader.advice}"})
        reason = f"{len(to_read)} of {len(kept)} pages were not read: {why}. {self.reader.advice}"
        return Extracted(Outcome.OK, "\n\n".join(text for text in kept if text), {**metadata, "reason": reason})


def _why_to_read(text: str) -> str | None:
    """Return why a page's own text is not enough, or None if it is. Assumes that the page shows letters."""
    if (wrong := _why_wrong(text)) is not None:
        return wrong
    if not text:
        return "pictures of text"
    return "pictures of text with a few stray characters" if is_stray(text) else None


def _shows_letters(pages: "PdfPages", number: int, texts: Sequence[str]) -> bool:
    text = texts[number - 1]
    if not text:
        return pages.has_drawings(number)
    return _why_wrong(text) is not None or pages.is_picture(number)


def _why_wrong(text: str) -> str | None:
    """Return why a page's own text is not what the page shows, or None if it may be."""
    if (soup := why_glyph_soup(text)) is not None:
        return soup
    return "fonts that map glyphs to wrong letters" if share_of_wrong_letters(text) >= _TOO_MANY_WRONG else None


def _is_worthless(found: tesseract.PictureText) -> bool:
    letters = sum(map(str.isalnum, found.text))
    return letters < _MIN_LETTERS or found.confidence < MIN_CONFIDENCE or why_worthless(found.text) is not None
