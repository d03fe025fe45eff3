"""Records as CSV: one row per document, one column per field. Lists and objects are JSON."""

import csv
import json
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, TextIO

from dagster_offload.records.columns import Column, flat

# A spreadsheet takes a cell that begins so for a formula and may run it. In East Asian languages, the full-width forms count, too
# (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write(records: Iterable[Mapping[str, Any]], columns: tuple[Column, ...], out: TextIO) -> int:
    """Write a header and a row for each record. Returns the number of records.

    A text that a spreadsheet would take for a formula gets a `'` before it.
    """
    writer = csv.writer(out)
    writer.writerow([column.name for column in columns])
    count = 0
    for record in records:
        writer.writerow([_cell(value) for value in flat(record, columns).values()])
        count += 1
    return count


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, date):
        return value.isoformat()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA) else text
