"""Read what a PDF page shows beside its own text: form fields, notes (FreeText), stamps and signatures.

A value is inserted into the line beside it, so that it follows its label.
"""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pypdfium2.raw as pdfium

Box = tuple[float, float, float, float]  # left, bottom, right, top, in points

_READ = (pdfium.FPDF_ANNOT_WIDGET, pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_STAMP)
_HIDDEN = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW
_BOXES = (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON)
_MAX_ANNOTATIONS = 5_000  # of one page; the fullest forms have some hundreds
_PASSWORD = 1 << 13  # a text field's flag (ISO 32000-1, table 228)
# The maximum distance from a note's upper edge to the middle of its first line, in points.
_HALF_LINE = 10.0


@dataclass(frozen=True)
class Letter:
    """One character and its box; None for blanks and line ends that are not in the file."""

    text: str
    box: Box | None


@dataclass(frozen=True)
class Note:
    """The text of one annotation and its box."""

    text: str
    box: Box


def notes_of(page: Any, open_again: Callable[[], Any]) -> list[Note]:
    """Return the page's form values, notes, stamps and signatures.

    `open_again` opens the page a second time. PDFium shows the appearance of annotations as text only in a page that
    is opened after flattening.
    """
    found = list(_annotations(page))
    if any(text is None for text, _ in found):
        shown = _shown(page, open_again)
        found = [(_inside(shown, box) if text is None else text, box) for text, box in found]
    return [Note(" ".join(text.split()), box) for text, box in found if text and text.strip()]


def _annotations(page: Any) -> Iterator[tuple[str | None, Box]]:
    """Yield the text and box of each annotation. The text is None if only the annotation's appearance holds it."""
    for index in range(min(pdfium.FPDFPage_GetAnnotCount(page.raw), _MAX_ANNOTATIONS)):
        with _annotation(page, index) as annotation:
            kind = pdfium.FPDFAnnot_GetSubtype(annotation)
            if kind not in _READ or pdfium.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
                continue
            rect = pdfium.FS_RECTF()
            if not pdfium.FPDFAnnot_GetRect(annotation, rect):
                continue
            box = (min(rect.left, rect.right), min(rect.bottom, rect.top), max(rect.left, rect.right),
                   max(rect.bottom, rect.top))  # fmt: skip
            if kind == pdfium.FPDF_ANNOT_WIDGET and page.formenv:
                yield _field_text(page.formenv.raw, annotation), box
            else:
                yield _entry(annotation, b"Contents") if kind == pdfium.FPDF_ANNOT_FREETEXT else None, box


@contextmanager
def _annotation(page: Any, index: int) -> Iterator[Any]:
    annotation = pdfium.FPDFPage_GetAnnot(page.raw, index)
    try:
        yield annotation
    finally:
        pdfium.FPDFPage_CloseAnnot(annotation)


def _field_text(form: Any, annotation: Any) -> str | None:
    kind = pdfium.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in _BOXES:
        return "[x]" if pdfium.FPDFAnnot_IsChecked(form, annotation) else "[ ]"
    if kind == pdfium.FPDF_FORMFIELD_PUSHBUTTON:
        return ""
    is_secret = pdfium.FPDFAnnot_GetFormFieldFlags(form, annotation) & _PASSWORD
    if kind == pdfium.FPDF_FORMFIELD_TEXTFIELD and not is_secret:
        return _utf16(lambda buffer, size: pdfium.FPDFAnnot_GetFormFieldValue(form, annotation, buffer, size))
    return None  # a choice shows other text than its value, and a signature has no value


def _entry(annotation: Any, key: bytes) -> str | None:
    """Return a text entry of the annotation, or None if it is empty."""
    return _utf16(lambda buffer, size: pdfium.FPDFAnnot_GetStringValue(annotation, key, buffer, size)) or None


def _utf16(read: Callable[[Any, int], int]) -> str:
    """Read a text that PDFium writes into a buffer as UTF-16 with a final NUL."""
    size = read(None, 0)
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    read(buffer, size)
    return bytes(buffer)[: max(0, size - 2)].decode("utf-16-le", "ignore")


def _shown(page: Any, open_again: Callable[[], Any]) -> list[Letter]:
    """Return the characters that annotations show, in the order of the annotations."""
    own = page.get_textpage()
    count = own.count_chars()
    own.close()
    if pdfium.FPDFPage_Flatten(page.raw, pdfium.FLAT_NORMALDISPLAY) != pdfium.FLATTEN_SUCCESS:
        return []
    flat = open_again()
    text_page = flat.get_textpage()
    letters = [_letter(text_page, index) for index in range(count, text_page.count_chars())]
    text_page.close()
    flat.close()
    return letters


def _letter(text_page: Any, index: int) -> Letter:
    text = chr(pdfium.FPDFText_GetUnicode(text_page.raw, index))
    if pdfium.FPDFText_IsGenerated(text_page.raw, index) == 1:
        return Letter(" ", None)
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    pdfium.FPDFText_GetCharBox(text_page.raw, index, left, right, bottom, top)
    return Letter(text, (left.value, bottom.value, right.value, top.value))


def _inside(letters: Sequence[Letter], box: Box) -> str:
    found = []
    for letter in letters:
        if letter.box is None:
            found.append(" ")
            continue
        x, y = (letter.box[0] + letter.box[2]) / 2, (letter.box[1] + letter.box[3]) / 2
        if box[0] <= x <= box[2] and box[1] <= y <= box[3]:
            found.append(letter.text)
    return "".join(found)


def insert_notes(notes: Sequence[Note], letters: Sequence[Letter]) -> str:
    """Return the page's text with each note inserted into the line beside it, or else below the line above it."""
    lines = _lines(letters)
    extents = [_extent(line) for line in lines]
    added: list[tuple[int, Note]] = []
    for note in sorted(notes, key=lambda note: (-note.box[3], note.box[0])):
        index = _beside(note.box, extents)
        if index is not None:
            line = lines[index]
            line.insert(_index_in(line, note.box), Letter(f" {note.text} ", note.box))
            extents[index] = _extent(line)
        else:
            added.append((_above(note.box, extents), note))
    for position, note in reversed(added):
        lines.insert(position, [Letter(note.text, None)])
    return "\n".join("".join(letter.text for letter in line).replace("  ", " ").strip() for line in lines)


def _lines(letters: Sequence[Letter]) -> list[list[Letter]]:
    lines: list[list[Letter]] = [[]]
    for letter in letters:
        if letter.text == "\n":
            lines.append([])
        elif letter.text != "\r":
            lines[-1].append(letter)
    return lines


def _extent(line: Sequence[Letter]) -> Box | None:
    boxes = [letter.box for letter in line if letter.box is not None]
    if not boxes:
        return None
    return min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)


def _beside(box: Box, extents: Sequence[Box | None]) -> int | None:
    """Return the index of the nearest line at the same height. Prefers a line on the left."""
    height = box[3] - min((box[3] - box[1]) / 2, _HALF_LINE)
    best: tuple[bool, float, int] | None = None
    for index, extent in enumerate(extents):
        if extent is None or not extent[1] - 3 <= height <= extent[3] + 3:
            continue
        is_right = extent[0] > box[0]
        distance = extent[0] - box[2] if is_right else max(0.0, box[0] - extent[2])
        if best is None or (is_right, distance) < best[:2]:
            best = (is_right, distance, index)
    return None if best is None else best[2]


def _index_in(line: Sequence[Letter], box: Box) -> int:
    for index, letter in enumerate(line):
        if letter.box is not None and (letter.box[0] + letter.box[2]) / 2 > box[0]:
            return index
    return len(line)


def _above(box: Box, extents: Sequence[Box | None]) -> int:
    """Return where to insert a separate line: after the nearest line above, else at the end."""
    best, position = float("inf"), len(extents)
    for index, extent in enumerate(extents):
        if extent is not None and extent[1] >= box[3] and extent[0] <= box[2] and extent[2] >= box[0]:
            distance = extent[1] - box[3]
            if distance < best:
                best, position = distance, index + 1
    return position
