"""Read a chart in an Office document: its titles, and its values as a table of categories and series.

Reads the copy of the values that the chart itself holds. Format specifications: ECMA-376 part 1, DrawingML charts; [MS-ODRAWXML]
2.24.3 for the charts of Office 2016 (waterfall, funnel, tree map), whose values stand beside their series.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.markdown import table_text
from dagster_offload.extraction.formats.parts.number_format import plain
from dagster_offload.extraction.formats.parts.zip_xml import attribute, int_or, local

CHARTS = ("/chart", "/chartEx")  # the ends of relationship types
_EXACT = re.compile(r"-?\d{1,15}\.\d{10,20}")
_MAX_POINTS = 1000  # of one series; a scatter plot has no useful text


class _Column(NamedTuple):
    """A series: its name, and its categories and values by index."""

    name: str
    categories: dict[int, str]
    values: dict[int, str]


def chart_text(chart: Element) -> str:
    """Return the chart's titles, one per line, and its values as a Markdown table; "" if it has neither."""
    titles = ["".join(_texts(element)) for element in chart.iter() if local(element) == "title"]
    columns = [*_columns(chart), *_columns_of_2016(chart)]
    return "\n".join(filter(str.strip, [*titles, _values(columns)]))


def _columns(chart: Element) -> Iterator[_Column]:
    for one in (element for element in chart.iter() if local(element) == "ser"):
        yield _Column(_first(one, "tx"), _points(one, ("cat", "xVal")), _points(one, ("val", "yVal")))


def _columns_of_2016(chart: Element) -> Iterator[_Column]:
    data = {attribute(element, "id"): element for element in chart.iter() if local(element) == "data"}
    for series in (element for element in chart.iter() if local(element) == "series"):
        name = "".join(text for part in series if local(part) == "tx" for text in _texts(part))
        chosen = next((attribute(part, "val") for part in series if local(part) == "dataId"), None)
        dimensions = data.get(chosen, ())
        categories = next((_levels(one) for one in dimensions if local(one) == "strDim"), {})
        yield from (_Column(name, categories, _levels(one)) for one in dimensions if local(one) == "numDim")


def _levels(dimension: Element) -> dict[int, str]:
    """Return the texts of the points, by index. Of categories in categories, the innermost come first in the file."""
    found: dict[int, list[str]] = {}
    for level in (one for one in dimension if local(one) == "lvl"):
        for point in level:
            index = int_or(attribute(point, "idx"), None)
            if index is not None and point.text:
                found.setdefault(index, []).insert(0, _value(point.text))
    return {index: ", ".join(texts) for index, texts in found.items()}


def _values(columns: Sequence[_Column]) -> str:
    categories: dict[int, str] = {}
    for _, own_categories, _ in columns:
        categories |= own_categories
    indexes = sorted({index for _, _, values in columns for index in values} | set(categories))[:_MAX_POINTS]
    rows = [["", *(name for name, _, _ in columns)]]
    rows += [[categories.get(index, ""), *(values.get(index, "") for _, _, values in columns)] for index in indexes]
    return table_text(rows)


def _first(series: Element, name: str) -> str:
    return next(iter(_points(series, (name,)).values()), "") or "".join(
        child.text or "" for part in series if local(part) == name for child in part if local(child) == "v"
    )


def _points(series: Element, names: tuple[str, ...]) -> dict[int, str]:
    """Return the texts of the points of one part of a series, by index."""
    found = {}
    for part in series:
        if local(part) not in names:
            continue
        for point in part.iter():
            index = int_or(attribute(point, "idx"), None) if local(point) == "pt" else None
            if index is not None:
                found[index] = " ".join(_value(child.text or "") for child in point if local(child) == "v")
    return found


def _value(text: str) -> str:
    """Return a value without the digits that only its binary form has, such as 4.4000000000000004."""
    return plain(float(text)) if _EXACT.fullmatch(text) else text


def _texts(element: Element) -> Iterator[str]:
    for child in element.iter():
        if local(child) in ("t", "v"):
            yield child.text or ""
