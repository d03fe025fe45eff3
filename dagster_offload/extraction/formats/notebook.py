"""Read Jupyter notebooks: the cells in order, and what their code printed. Format: nbformat 3 and 4."""

import json
from collections.abc import Iterator
from typing import Any

from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive

_PLAIN = "text/plain"


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
        yield _joined(output.get("text") or output.get("data", {}).get(_PLAIN, ""))


def _joined(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)
