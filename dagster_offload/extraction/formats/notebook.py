"""Read Jupyter notebooks: the cells in order, and what their code printed. Format: nbformat 3 and 4."""

import json
import re
from collections.abc import Iterator
from typing import Any

from dagster_offload.extraction.formats.html import html_text
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive

_PLAIN = "text/plain"
_NAME_OF_OBJECT = "<IPython.core.display."  # whose page is shown
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours of a terminal


def notebook_text(data: bytes) -> str:
    """Return the text of a notebook. Raises `BrokenArchive` if it is none."""
    try:
        notebook = json.loads(data)
        sheets = notebook.get("worksheets", [notebook])
        texts = [text for sheet in sheets for cell in sheet["cells"] for text in _texts(cell)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenArchive(type(error).__name__) from None
    return "\n\n".join(filter(str.strip, texts))


def _texts(cell: dict[str, Any]) -> Iterator[str]:
    yield _joined(cell.get("source", cell.get("input", "")))
    for output in cell.get("outputs", []):
        yield _CONTROL.sub("", _shown(output))


def _shown(output: dict[str, Any]) -> str:
    """Return what a cell's code printed, the first of its results that is text, or its error."""
    data = output.get("data", {})
    plain = _joined(output.get("text") or data.get("text/markdown") or data.get(_PLAIN, ""))
    page = _joined(data.get("text/html") or output.get("html", ""))
    if page and (not plain or plain.startswith(_NAME_OF_OBJECT)):
        return html_text(page)
    return plain or "\n".join(output.get("traceback", ()))


def _joined(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)
