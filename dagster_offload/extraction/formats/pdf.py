"""The text of PDF files, page by page, as PDFium finds it: in the order of the file, each line once.

PDFium orders right-to-left text, turned pages and overprinted letters by itself. What it leaves to us: cells of one
row, words that a line end cut in two, and what is written into forms and notes (`pdf_annotations`).
"""

import ctypes
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from dagster_offload.extraction import file_types
from dagster_offload.extraction.cleaning import clean
from dagster_offload.extraction.formats.pdf_annotations import Letter, notes_of, place
from dagster_offload.extraction.refusals import broken, password_protected

# What PDFium puts in place of a hyphen at a line's end: the former in texts of ranges, the latter elsewhere.
_CUT, _CUT_CODE = "\ufffe", "\x02"
_CUT_WORD = re.compile(rf"(\w+){_CUT}\s*(\w+)")
_COMPOUND = re.compile(r"\w+-\w+")
_NEW_LINE = (0x0D, 0x0A)
_INNER_LINE_END = re.compile(r"(?<=.)\r\n(?=.)", re.DOTALL)
# What the fonts Symbol and Wingdings call their bullets: private characters, which only these fonts show.
_BULLETS = str.maketrans(dict.fromkeys("\uf0b7\uf0a7\uf0d8\uf0fc", "•"))
# Radians: lines that lean more are not looked at for cells of one row.
_LEVEL = 0.05
# A file that was cut off has objects behind its last end mark, or no end mark at all.
_END, _OBJECT_END = b"%%EOF", b"endobj"


@dataclass(frozen=True)
class PdfText:
    """The text of each page ("" where it has none of its own), the title, and how many pages could not be opened."""

    pages: tuple[str, ...]
    title: str
    broken_pages: int


def pdf_text(data: bytes) -> PdfText:
    """The text of a PDF that no password protects. Raises `FileRefused`."""
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise password_protected("the file is protected by a password: save it without") from None
        raise broken(file_types.PDF, data) from None
    try:
        if _is_cut_off(data):
            raise broken(file_types.PDF, data)
        if document.get_formtype() != pdfium.FORMTYPE_NONE:
            document.init_forms()
        pages = [_page_text(document, index) for index in range(len(document))]
        if not any(page is not None for page in pages):
            raise broken(file_types.PDF, data)
        title = document.get_metadata_value("Title")
    finally:
        document.close()
    texts = join_cut_words([page or "" for page in pages])
    return PdfText(tuple(clean(text.translate(_BULLETS)) for text in texts), title, pages.count(None))


def join_cut_words(pages: Sequence[str]) -> list[str]:
    """Pages in which a word that a line end cut in two is one word again.

    The hyphen stays where it belongs to the word: before a capital or a digit, or where the document writes the word
    with a hyphen elsewhere.
    """
    if not any(_CUT in page for page in pages):
        return list(pages)
    compounds = {found.lower() for page in pages for found in _COMPOUND.findall(page)}

    def joined(cut: re.Match[str]) -> str:
        with_hyphen = f"{cut[1]}-{cut[2]}"
        is_compound = not cut[2][0].islower() or with_hyphen.lower() in compounds
        return with_hyphen if is_compound else cut[1] + cut[2]

    return [_CUT_WORD.sub(joined, page).replace(_CUT, "-") if _CUT in page else page for page in pages]


def _is_cut_off(data: bytes) -> bool:
    end = data.rfind(_END)
    return end < 0 or data.find(_OBJECT_END, end) >= 0


def _page_text(document: Any, index: int) -> str | None:
    """The page's text, None where the page cannot be opened."""
    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return None
    try:
        notes = notes_of(page, lambda: document[index])
        text_page = page.get_textpage()
        try:
            return _joined(place(notes, list(_letters(text_page)))) if notes else _own_text(text_page)
        finally:
            text_page.close()
    finally:
        page.close()


def _own_text(text_page: Any) -> str:
    text: str = text_page.get_text_range(errors="surrogatepass")
    if _count_visible(text) != _count_visible(text_page.get_text_bounded()):
        # Letters off the page, which no reader sees, or letters that one of the two cannot give.
        return _joined("".join(letter.text for letter in _letters(text_page)))

    def apart(line_end: re.Match[str]) -> str:
        before, after = (
            pdfium.FPDFText_GetCharIndexFromTextIndex(text_page.raw, index)
            for index in (line_end.start() - 1, line_end.end())
        )
        return "\t" if _is_one_row(text_page, before, after) else "\n"

    return _INNER_LINE_END.sub(apart, text)


def _count_visible(text: str) -> int:
    return len("".join(text.split()).replace(_CUT, "").replace(_CUT_CODE, ""))


def _letters(text_page: Any) -> Iterator[Letter]:
    """Each character on the page with its place; blanks and line ends that PDFium puts in have the place of none."""
    left, bottom, right, top = text_page.page.get_bbox()
    codes = [pdfium.FPDFText_GetUnicode(text_page.raw, index) for index in range(text_page.count_chars())]
    for index, code in enumerate(_with_cells_apart(text_page, codes)):
        if pdfium.FPDFText_IsGenerated(text_page.raw, index) == 1 or code in _NEW_LINE:
            yield Letter(chr(code), None)
            continue
        box = _box(text_page, index)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if left <= x <= right and bottom <= y <= top:
            yield Letter(chr(code), box)


def _with_cells_apart(text_page: Any, codes: Sequence[int]) -> list[int]:
    """The same characters, with a tab for the line end between two cells of one row."""
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


def _box(text_page: Any, index: int) -> tuple[float, float, float, float]:
    """Left, bottom, right, top, in points."""
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    pdfium.FPDFText_GetCharBox(text_page.raw, index, left, right, bottom, top)
    return left.value, bottom.value, right.value, top.value


def _joined(text: str) -> str:
    """Text of single letters: surrogate pairs as the characters they stand for, a lone one costs only itself."""
    return text.replace(_CUT_CODE, _CUT).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
