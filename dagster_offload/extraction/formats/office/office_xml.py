"""Read the XML files of Office: Word 2003 and Excel 2003, and a Word document whose parts are in one XML file.

Word's are put into an archive and read as DOCX, because their elements have the same names. Format specifications:
WordprocessingML 2003, SpreadsheetML 2003, Flat OPC.
"""

import base64
import contextlib
import io
import re
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS
from dagster_offload.extraction.formats.office.docx import docx_text
from dagster_offload.extraction.formats.parts.markdown import Row
from dagster_offload.extraction.formats.parts.number_format import display
from dagster_offload.extraction.formats.parts.sheet import sheet_text
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive, attribute, local, parse

_NAMED_FORMATS = {"Percent": "0%", "Currency": '"$"#,##0.00', "Euro Currency": '"€"#,##0.00'}
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T0?(\d+:\d\d)(:\d\d)?(?:\.\d+)?")
_NO_DAYS, _NO_CLOCK = ("1899-12-30", "1899-12-31"), "0:00"  # of a cell that holds only a time, or only a day
_MAX_COLUMN = 16_384
_COLUMNS = re.compile(r"[0-9]{1,5}")


def word_2003_text(data: bytes) -> str:
    """Return the text of a document of Word 2003. Raises `BrokenArchive`."""
    with _damage_reported():
        styles = next((element for element in parse(data) if local(element) == "styles"), Element("styles"))
        archive = _archive({"word/document.xml": data, "word/styles.xml": ElementTree.tostring(styles)})
    return docx_text(archive)


def flat_word_text(data: bytes) -> str:
    """Return the text of a Word document in one XML file. Raises `BrokenArchive`."""
    with _damage_reported():
        archive = _archive(dict(_parts(parse(data))))
    return docx_text(archive)


def excel_2003_text(data: bytes) -> str:
    """Return the text of a workbook of Excel 2003. Raises `BrokenArchive`."""
    with _damage_reported():
        root = parse(data)
        codes = {
            attribute(style, "ID"): attribute(number_format, "Format") or ""
            for style in root.iter()
            if local(style) == "Style"
            for number_format in style
            if local(number_format) == "NumberFormat"
        }
        sheets = [sheet for sheet in root if local(sheet) == "Worksheet"]
        texts = [sheet_text(attribute(sheet, "Name") or "", _rows(sheet, codes)) for sheet in sheets]
    return "\n\n".join(filter(str.strip, texts))


@contextlib.contextmanager
def _damage_reported() -> Iterator[None]:
    """Raise `BrokenArchive` for damage, also for XML that is nested too deeply to be written again."""
    try:
        yield
    except DAMAGE_ERRORS as error:
        raise BrokenArchive(type(error).__name__) from None


def _archive(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def _parts(package: Element) -> Iterator[tuple[str, bytes]]:
    for part in package:
        name = (attribute(part, "name") or "").lstrip("/")
        for content in part if name else ():
            if local(content) == "xmlData" and len(content):
                yield name, ElementTree.tostring(content[0])
            elif local(content) == "binaryData":
                with contextlib.suppress(ValueError):  # a damaged picture costs no document
                    yield name, base64.b64decode(content.text or "")


def _rows(sheet: Element, codes: dict[str | None, str]) -> Iterator[Row]:
    for element in sheet.iter():
        if local(element) != "Row":
            continue
        row: Row = {}
        column = 0
        for cell in element:
            if local(cell) != "Cell":
                continue
            column = _whole(attribute(cell, "Index"), column + 1)
            for content in cell:
                text = _shown(content, codes.get(attribute(cell, "StyleID"), "")) if local(content) == "Data" else ""
                if text.strip() and column <= _MAX_COLUMN:
                    row[column] = text
            column += _whole(attribute(cell, "MergeAcross"), 0)
        yield row


def _whole(text: str | None, otherwise: int) -> int:
    """Return a column number or a number of columns. `otherwise` stands for one that is missing or damaged."""
    return int(text) if text is not None and _COLUMNS.fullmatch(text) else otherwise


def _shown(content: Element, code: str) -> str:
    """Return a cell's value as the sheet shows it."""
    text = "".join(content.itertext())
    match attribute(content, "Type"):
        case "Number":
            with contextlib.suppress(ValueError, OverflowError):
                return display(float(text), _NAMED_FORMATS.get(code, "" if code.isalpha() else code))
            return text  # of a cell that holds no number after all
        case "DateTime" if moment := _MOMENT.fullmatch(text):
            day, clock = moment[1], moment[2] + (moment[3] or "").replace(":00", "")
            shown = ["" if day in _NO_DAYS else day, "" if clock == _NO_CLOCK and day not in _NO_DAYS else clock]
            return " ".join(filter(None, shown))
        case "Boolean":
            return {"1": "TRUE", "0": "FALSE"}.get(text, text)
        case _:
            return text
