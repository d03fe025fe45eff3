"""Read Excel workbooks (XLSX, XLSM) sheet by sheet: used cells as a table, text boxes, titles of charts.

Values are written as the sheet shows them. Format specification: ECMA-376 part 1, SpreadsheetML.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from dagster_offload.extraction.file_types.containers import OfficeArchive
from dagster_offload.extraction.formats.parts.line_marks import not_struck, raised, shown_line, struck
from dagster_offload.extraction.formats.parts.markdown import Row
from dagster_offload.extraction.formats.parts.number_format import builtin_code, display
from dagster_offload.extraction.formats.parts.sheet import Sheet, shared_string, texts_of_sheets
from dagster_offload.extraction.formats.parts.zip_xml import (
    archive_text,
    attribute,
    int_or,
    local,
    main_part,
    parsed,
    parsed_if_there,
    relations,
)

_WORKBOOK = "xl/workbook.xml"
_STRINGS, _STYLES = "/sharedStrings", "/styles"  # the ends of relationship types
_COLUMN = re.compile("[A-Z]+")
_ESCAPED = re.compile("(?:_x[0-9A-Fa-f]{4}_)+")  # characters by their numbers in UTF-16 (22.9.2.19)


def xlsx_text(data: bytes) -> str:
    """Return the text of an unprotected workbook. Raises `BrokenArchive`."""
    return archive_text(data, lambda archive: _Workbook(archive).texts())


class _Workbook:
    """One workbook: its sheets and their shared strings and formats."""

    def __init__(self, archive: OfficeArchive) -> None:
        self.archive = archive
        workbook = main_part(archive, _WORKBOOK)
        root, related = parsed(archive, workbook), relations(archive, workbook)
        members = dict(related.values())
        self.strings = _strings(archive, _member_of_type(members, _STRINGS))
        styles = parsed_if_there(archive, _member_of_type(members, _STYLES))
        self.codes, self.struck = _format_codes(styles), _struck_styles(styles)
        self.is_1904 = any(
            local(element) == "workbookPr" and attribute(element, "date1904") in ("1", "true") for element in root
        )
        self.sheets = [
            Sheet(attribute(element, "name") or "", related[relation][1])
            for element in root.iter()
            if local(element) == "sheet" and (relation := _relation(element))
        ]

    def texts(self) -> Iterator[str]:
        """Yield the text of each sheet."""
        return texts_of_sheets(self.archive, self.sheets, self._rows)

    def _rows(self, member: str) -> Iterator[Row]:
        """Yield the texts of each row's non-empty cells, by column from 1."""
        with self.archive.open(member) as file:
            # Parsing untrusted XML is safe here: see `zip_xml.parsed`.
            for _, element in ElementTree.iterparse(file):  # noqa: S314
                if not element.tag.endswith("}row"):
                    continue
                row, column = {}, 0
                for cell in element:
                    column = _column(cell.get("r")) or column + 1
                    text = self._cell(cell)
                    text = shown_line(struck(text) if cell.get("s") in self.struck else text)
                    if text.strip():
                        row[column] = text
                element.clear()
                if row:
                    yield row

    def _cell(self, cell: Element) -> str:
        value, inline, formula, kind = None, "", "", cell.get("t", "n")
        for child in cell:
            if child.tag.endswith("}v"):
                value = child.text or (None if kind == "n" else "")  # no number is empty
            elif child.tag.endswith("}f"):
                formula = child.text or ""
            elif child.tag.endswith("}is"):
                inline = _string(child)
        if formula and value is None:  # of a program that does not calculate; Excel would when it opens the workbook
            return f"={formula}"
        value = value or ""
        match kind:
            case "s":
                index = int_or(value.strip(), None)
                return "" if index is None else shared_string(self.strings, index)
            case "inlineStr":
                return inline
            case "b":
                return {"1": "TRUE", "0": "FALSE"}.get(value, value)
            case "d":
                return value.removesuffix("T00:00:00").replace("T", " ")
            case "n" if value:
                return self._number(value, cell.get("s"))
            case _:
                return _unescaped(value)

    def _number(self, value: str, style: str | None) -> str:
        try:
            number = float(value)
        except ValueError:
            return value
        if not isfinite(number):
            return value
        index = int_or(style, len(self.codes))
        code = self.codes[index] if index < len(self.codes) else ""
        return display(number, code, is_1904=self.is_1904)


def _strings(archive: OfficeArchive, member: str) -> list[str]:
    return [_string(element) for element in parsed_if_there(archive, member) if local(element) == "si"]


def _string(holder: Element) -> str:
    """Join a string's runs, with marks. Leaves out phonetic guides (Japanese)."""
    parts = []
    for child in holder:
        if local(child) == "t":
            parts.append(child.text or "")
        elif local(child) == "r":
            text = "".join(run.text or "" for run in child if local(run) == "t")
            text = raised(text) if _is_raised(child) else text
            fonts = [one for one in child if local(one) == "rPr"]  # in place of the cell's font
            parts.append(struck(text) if any(map(_is_struck, fonts)) else not_struck(text) if fonts else text)
    return _unescaped("".join(parts))


def _is_raised(run: Element) -> bool:
    properties = (one for holder in run if local(holder) == "rPr" for one in holder)
    return any(local(one) == "vertAlign" and attribute(one, "val") == "superscript" for one in properties)


def _is_struck(font: Iterable[Element]) -> bool:
    """Whether the properties of a font strike it out."""
    return any(local(one) == "strike" and attribute(one, "val") not in ("0", "false") for one in font)


def _unescaped(text: str) -> str:
    """Replace what Excel writes for characters that XML forbids or changes, such as the end of a line."""
    return _ESCAPED.sub(_characters, text) if "_x" in text else text


def _characters(escaped: re.Match[str]) -> str:
    return bytes.fromhex(escaped[0].replace("_x", "").replace("_", "")).decode("utf-16-be", "ignore")


def _format_codes(styles: Element) -> Sequence[str]:
    """Return the format code of each cell style."""
    own = {
        attribute(element, "numFmtId"): attribute(element, "formatCode") or ""
        for element in styles.iter()
        if local(element) == "numFmt"
    }
    formats = next((element for element in styles if local(element) == "cellXfs"), Element("nothing"))
    numbers = [attribute(element, "numFmtId") or "0" for element in formats]
    return [own[number] if number in own else builtin_code(int_or(number, 0)) for number in numbers]


def _struck_styles(styles: Element) -> set[str]:
    """Return the numbers of the cell styles whose font is struck out."""
    parts = {local(part): part for part in styles}
    fonts = {str(number) for number, font in enumerate(parts.get("fonts", ())) if _is_struck(font)}
    return {str(number) for number, one in enumerate(parts.get("cellXfs", ())) if attribute(one, "fontId") in fonts}


def _member_of_type(members: Mapping[str, str], end: str) -> str:
    return next((member for kind, member in members.items() if kind.endswith(end)), "")


def _relation(element: Element) -> str:
    return next((value for key, value in element.attrib.items() if key.endswith("relationships}id")), "")


def _column(reference: str | None) -> int:
    """Return the number of the column in a reference such as AB12, 0 if there is none."""
    letters = _COLUMN.match(reference or "")
    return _column_number(letters[0]) if letters else 0


@lru_cache(maxsize=20_000)
def _column_number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number
