"""What the readers of workbooks share: a sheet's text, and the text boxes and chart titles of its drawings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from dagster_offload.extraction.file_types.containers import OfficeArchive
from dagster_offload.extraction.formats.parts.chart import CHARTS
from dagster_offload.extraction.formats.parts.drawing import paragraphs
from dagster_offload.extraction.formats.parts.line_marks import not_struck, raised, struck
from dagster_offload.extraction.formats.parts.markdown import Row, placed_table_text
from dagster_offload.extraction.formats.parts.zip_xml import local, parsed_if_there, relations

_DRAWING, _SMART_ART = "/drawing", "/diagramData"  # the ends of relationship types


def shared_string(strings: Sequence[str], index: int) -> str:
    """Return the string that a cell names, "" if it is beyond the others: one damaged cell does not cost the workbook.

    Raises `IndexError` if there are no strings at all: their part of the file is lost.
    """
    return "" if 0 < len(strings) <= index else strings[index]


class Font(NamedTuple):
    """What a font says about its text."""

    is_raised: bool = False
    is_struck: bool = False


def with_fonts(text: str, runs: Iterable[tuple[int, Font]]) -> str:
    """Return a text with marks for the fonts that begin in it. What is before the first has the font of its cell."""
    begins = sorted(runs)
    parts = [text[: begins[0][0]] if begins else text]
    for (start, font), (end, _) in pairwise([*begins, (len(text), Font())]):
        part = raised(text[start:end]) if font.is_raised else text[start:end]
        parts.append(struck(part) if font.is_struck else not_struck(part))
    return "".join(parts)


def sheet_text(name: str, rows: Iterable[Row], drawn: Iterable[str] = ()) -> str:
    """Return a sheet's name, its used rows and columns as a table, and its drawn texts; "" for an empty sheet.

    `rows` hold the cells that are not empty.

    A stray cell far from the others adds one row and one column.
    """
    parts = [placed_table_text(rows), *drawn]
    filled = [part for part in parts if part.strip()]
    return "\n\n".join([f"## {name}", *filled]) if filled else ""


class Sheet(NamedTuple):
    """A sheet of a workbook that is an archive: its name, and the member that holds it."""

    name: str
    member: str


def texts_of_sheets(
    archive: OfficeArchive, sheets: Iterable[Sheet], rows_of: Callable[[str], Iterable[Row]]
) -> Iterator[str]:
    """Yield the text of each sheet. `rows_of` returns the rows in a member."""
    for sheet in sheets:
        yield sheet_text(sheet.name, rows_of(sheet.member), _drawn_texts(archive, sheet.member))


def _drawn_texts(archive: OfficeArchive, sheet: str) -> Iterator[str]:
    """Yield the texts of boxes, drawings and titles of charts on a sheet. The charts' values are in cells."""
    for kind, drawing in relations(archive, sheet).values():
        if not kind.endswith(_DRAWING):
            continue
        yield from paragraphs(parsed_if_there(archive, drawing))
        for inner_kind, member in relations(archive, drawing).values():
            if inner_kind.endswith(_SMART_ART):
                yield from paragraphs(parsed_if_there(archive, member))
            elif inner_kind.endswith(CHARTS):
                titles = (one for one in parsed_if_there(archive, member).iter() if local(one) == "title")
                for title in titles:
                    yield from paragraphs(title)
