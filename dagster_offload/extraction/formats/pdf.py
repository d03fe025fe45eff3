"""Read PDF files page by page with PDFium: in the order of the file, each line once.

PDFium handles right-to-left text, rotated pages and overprinted letters. This module adds three things: it separates
the cells of a row, joins words that were hyphenated at a line end, and inserts form values and notes
(`pdf_annotations`).
"""

import contextlib
import ctypes
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from dagster_offload.extraction import file_types
from dagster_offload.extraction.cleaning import clean
from dagster_offload.extraction.formats.pdf_annotations import Letter, insert_notes, notes_of
from dagster_offload.extraction.formats.pdf_directions import Place, has_right_to_left, in_reading_order
from dagster_offload.extraction.formats.pdf_raised import Stand, with_raised_numbers
from dagster_offload.extraction.formats.pdf_xfa import form_text, is_dynamic_form
from dagster_offload.extraction.legibility import is_glyph_numbers
from dagster_offload.extraction.refusals import FileRefused, broken, protected, unsupported

# What PDFium returns for a hyphen at a line end: `_CUT` in texts of ranges, `_CUT_CODE` for single characters.
_CUT, _CUT_CODE = "\ufffe", "\x02"
_HYPHEN_AT_END = re.compile(r"(?<=\w)\u2010(?=\r?\n)")  # of a browser, which PDFium returns like other signs
_CUT_WORD = re.compile(rf"(\w+){_CUT}\s*(\w+)")
_UNKNOWN = "\ufffd"
_COMPOUND = re.compile(r"\w+-\w+")
_NEW_LINE = (0x0D, 0x0A)
_INNER_LINE_END = re.compile(r"(?<=.)\r\n(?=.)", re.DOTALL)
# Radians. Lines with a larger slope are not checked for cells of one row.
_LEVEL = 0.05
_MAX_ATTACHED = 1000  # names that are listed
# A truncated file has objects after its last end mark, or no end mark. Some programs write only the first half of the mark.
_TABLE = b"startxref"  # followed by where the cross-reference table is
_ENDS, _OBJECT_END = (b"%%EOF", _TABLE), b"endobj"
# The security handler that encrypts for the owners of certificates (ISO 32000-1, 7.6.4).
_CERTIFICATE = b"/Adobe.PubSec"


@dataclass(frozen=True)
class PdfText:
    """The text of each page ("" if it has none), the title, and the number of pages that could not be opened.

    `attached` are the names of the files that are attached to the document. They are not read. `data` are the bytes that
    were read, repaired if need be. `is_blank`: no page shows anything.
    """

    pages: tuple[str, ...]
    title: str
    broken_pages: int
    attached: tuple[str, ...] = ()
    data: bytes = field(default=b"", repr=False)
    is_blank: bool = False


def pdf_text(data: bytes) -> PdfText:
    """Read a PDF. Raises `FileRefused` if it is broken or protected by a password or for a certificate."""
    if _is_cut_off(data):
        raise broken(file_types.PDF, data)
    found = _read(data)
    if found.broken_pages or found.is_blank:
        with contextlib.suppress(FileRefused):
            found = max(found, _read(repaired(data)), key=_amount)
    if found.broken_pages == len(found.pages):
        raise broken(file_types.PDF, data)
    return found


def repaired(data: bytes) -> bytes:
    """Return the file without its cross-reference table. PDFium looks for the objects itself then.

    A table with wrong offsets hides pages, or what they show.
    """
    return data.replace(_TABLE, b"%" * len(_TABLE))


def _read(data: bytes) -> PdfText:
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise _refusal(error, data) from None
    try:
        title, attached = document.get_metadata_value("Title"), _attached(document)
        if is_dynamic_form(document):
            return PdfText((_form_text(document),), title, 0, attached, data)
        if document.get_formtype() != pdfium.FORMTYPE_NONE:
            document.init_forms()
        pages = [_page_text(document, index) for index in range(len(document))]
        is_blank = not any(pages) and not any(shows_anything(document, index) for index in range(len(document)))
    finally:
        document.close()
    texts = join_cut_words([page or "" for page in pages])
    shown = tuple(clean(_mapped(text)) for text in texts)
    return PdfText(shown, title, pages.count(None), attached, data, is_blank)


def shows_anything(document: Any, index: int) -> bool:
    """Whether the page can be opened and has an object."""
    try:
        page = document[index]
    except (pypdfium2.PdfiumError, IndexError):
        return False
    try:
        return bool(pdfium.FPDFPage_CountObjects(page.raw) > 0)
    finally:
        page.close()


def _mapped(text: str) -> str:
    """Return the text, or replacement characters for glyphs whose letters the file does not give."""
    return _UNKNOWN * len(text) if is_glyph_numbers(text) else text


def _refusal(error: pypdfium2.PdfiumError, data: bytes) -> FileRefused:
    if error.err_code == pdfium.FPDF_ERR_PASSWORD:
        return protected()
    if error.err_code == pdfium.FPDF_ERR_SECURITY and _CERTIFICATE in data:
        return protected("for a certificate")
    return broken(file_types.PDF, data)


def _amount(found: PdfText) -> tuple[int, int]:
    return len(found.pages) - found.broken_pages, sum(map(len, found.pages))


def _form_text(document: Any) -> str:
    try:
        text = clean(form_text(document))
    except RecursionError:  # deeply nested XML
        text = ""
    if not text:
        raise unsupported(
            "a form that only Adobe's programs show (XFA) cannot be read: open it there and print it to a new PDF"
        )
    return text


def _attached(document: Any) -> tuple[str, ...]:
    names = []
    for index in range(min(document.count_attachments(), _MAX_ATTACHED)):
        with contextlib.suppress(pypdfium2.PdfiumError, UnicodeDecodeError):
            names.append(" ".join(clean(document.get_attachment(index).get_name()).split()))
    return tuple(filter(None, names))


def join_cut_words(pages: Sequence[str]) -> list[str]:
    """Join words that were hyphenated at a line end.

    Keeps the hyphen if it belongs to the word: before a capital or a digit, or if the document writes the word with a
    hyphen elsewhere.
    """
    pages = [_HYPHEN_AT_END.sub(_CUT, page) for page in pages]
    if not any(_CUT in page for page in pages):
        return list(pages)
    compounds = {found.lower() for page in pages for found in _COMPOUND.findall(page)}

    def joined(cut: re.Match[str]) -> str:
        with_hyphen = f"{cut[1]}-{cut[2]}"
        is_compound = not cut[2][0].islower() or with_hyphen.lower() in compounds
        return with_hyphen if is_compound else cut[1] + cut[2]

    return [_CUT_WORD.sub(joined, page).replace(_CUT, "-") if _CUT in page else page for page in pages]


def _is_cut_off(data: bytes) -> bool:
    end = max(map(data.rfind, _ENDS))
    return end < 0 or data.find(_OBJECT_END, end) >= 0


def _page_text(document: Any, index: int) -> str | None:
    """Return the page's text, or None if the page cannot be opened."""
    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return None
    try:
        notes = notes_of(page, lambda: document[index])
        text_page = page.get_textpage()
        try:
            return _joined(insert_notes(notes, list(_letters(text_page)))) if notes else _own_text(text_page)
        finally:
            text_page.close()
    finally:
        page.close()


def _own_text(text_page: Any) -> str:
    text: str = text_page.get_text_range(errors="surrogatepass")
    if has_right_to_left(text) or _count_visible(text) != _count_visible(text_page.get_text_bounded()):
        # Letters may be out of order or outside the visible area, or one of the two calls cannot return them.
        return _joined("".join(letter.text for letter in _letters(text_page)))

    x, y = ctypes.c_double(), ctypes.c_double()

    def base(offset: int) -> float:
        index = pdfium.FPDFText_GetCharIndexFromTextIndex(text_page.raw, offset)
        pdfium.FPDFText_GetCharOrigin(text_page.raw, index, x, y)
        return y.value

    def apart(line_end: re.Match[str]) -> str:
        before, after = (
            pdfium.FPDFText_GetCharIndexFromTextIndex(text_page.raw, index)
            for index in (line_end.start() - 1, line_end.end())
        )
        return "\t" if _is_one_row(text_page, before, after) else "\n"

    return _INNER_LINE_END.sub(apart, with_raised_numbers(text, base, lambda offset: _stand(text_page, offset)))


def _stand(text_page: Any, offset: int) -> Stand | None:
    """Return how the letter at this offset of the page's text stands."""
    index = pdfium.FPDFText_GetCharIndexFromTextIndex(text_page.raw, offset)
    place = _place(text_page, index)
    if place is None:
        return None
    _, bottom, _, top = _box(text_page, index)
    return Stand(place[1], top - bottom)


def _count_visible(text: str) -> int:
    return len("".join(text.split()).replace(_CUT, "").replace(_CUT_CODE, ""))


def _letters(text_page: Any) -> Iterator[Letter]:
    """Yield each visible character with its box. Blanks and line ends that PDFium inserts have no box."""
    left, bottom, right, top = text_page.page.get_bbox()
    codes = [pdfium.FPDFText_GetUnicode(text_page.raw, index) for index in range(text_page.count_chars())]
    turned = in_reading_order("".join(map(chr, codes)), lambda index: _place(text_page, index))
    for index, code in enumerate(_with_cells_apart(text_page, [*map(ord, turned)])):
        if pdfium.FPDFText_IsGenerated(text_page.raw, index) == 1 or code in _NEW_LINE:
            yield Letter(chr(code), None)
            continue
        box = _box(text_page, index)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if left <= x <= right and bottom <= y <= top:
            yield Letter(chr(code), box)


def _with_cells_apart(text_page: Any, codes: Sequence[int]) -> list[int]:
    """Replace the line end between two cells of one row by a tab."""
    apart = list(codes)
    for index in range(1, len(codes) - 2):
        if (codes[index], codes[index + 1]) == _NEW_LINE and _is_one_row(text_page, index - 1, index + 2):
            apart[index : index + 2] = [0x09, 0]
    return apart


def _is_one_row(text_page: Any, before: int, after: int) -> bool:
    one, next_one = _box(text_page, before), _box(text_page, after)
    shared = min(one[3], next_one[3]) - max(one[1], next_one[1])
    lower = min(one[3] - one[1], next_one[3] - next_one[1])
    if next_one[0] < one[2] or shared <= 0 or 2 * shared < lower:
        return False
    return all(abs(pdfium.FPDFText_GetCharAngle(text_page.raw, index)) <= _LEVEL for index in (before, after))


def _place(text_page: Any, index: int) -> Place | None:
    """Return where the character begins, None if PDFium inserted it or its line is not level."""
    x, y = ctypes.c_double(), ctypes.c_double()
    if pdfium.FPDFText_IsGenerated(text_page.raw, index) == 1:
        return None
    if abs(pdfium.FPDFText_GetCharAngle(text_page.raw, index)) > _LEVEL:
        return None
    pdfium.FPDFText_GetCharOrigin(text_page.raw, index, x, y)
    return x.value, y.value


def _box(text_page: Any, index: int) -> tuple[float, float, float, float]:
    """Return the character's left, bottom, right and top, in points."""
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    pdfium.FPDFText_GetCharBox(text_page.raw, index, left, right, bottom, top)
    return left.value, bottom.value, right.value, top.value


def _joined(text: str) -> str:
    """Combine surrogate pairs into characters. Drops lone surrogates."""
    return text.replace(_CUT_CODE, _CUT).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
