"""Records as JSON Lines: one object per line, as `records.read` yields them."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from dagster_offload.text.plain_text import escaped_json


def write(records: Iterable[Mapping[str, Any]], out: TextIO) -> int:
    """Write a line for each record. Returns the number of records."""
    count = 0
    for record in records:
        out.write(escaped_json(json.dumps(record, ensure_ascii=False)) + "\n")
        count += 1
    return count
