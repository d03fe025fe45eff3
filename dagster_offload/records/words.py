"""Values of records as people read them: in the terminal, and in the HTML page. Pure."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any


def in_words(value: Any) -> str:
    """A value on one line: `-` for none, `what: paper, price: 3` for an object."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        with suppress(OverflowError):  # a far date, such as 9999-12-31 for "without an end", stays in its own zone
            value = value if value.tzinfo is None else value.astimezone()  # as `status` and `explain` show it
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, list):
        return "; ".join(in_words(entry) for entry in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {in_words(entry)}" for name, entry in value.items())
    return str(plain_numbers(value))


def plain_numbers(value: Any) -> Any:
    """The value with its whole numbers as people write them: `889` instead of `889.0`."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [plain_numbers(entry) for entry in value]
    if isinstance(value, Mapping):
        return {name: plain_numbers(entry) for name, entry in value.items()}
    return value
