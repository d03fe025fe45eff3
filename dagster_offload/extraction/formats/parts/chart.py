"""Read a chart in an Office document: its titles, and its values as a table of categories and series.

Reads the copy of the values that the chart itself holds. Format specification: ECMA-376 part 1, DrawingML charts.
"""

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.markdown import table_text
from dagster_offload.extraction.formats.parts.number_format import plain
from dagster_offload.extraction.formats.parts.zip_xml import attribute, int_or, local

_EXACT = re.compile(r"-?\d{1,15}\.\d{10,20}")
_MAX_POINTS = 1000  # of one series; a scatter plot has no useful text


def chart_text(chart: Element) -> str:
    """Return the chart's titles, one per line, and its values as a Markdown table; "" if it has neither."""
    titles = ["".join(_texts(element)) for element in chart.iter() if local(element) == "title"]
    series = [element for element in chart.iter() if local(element) == "ser"]
    return "\n".join(filter(str.strip, [*titles, _values(series)]))


def _values(series: list[Element]) -> str:
    columns = [(_first(one, "tx"), _points(one, ("cat", "xVal")), _points(one, ("val", "yVal"))) for one in series]
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
