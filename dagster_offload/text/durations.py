"""Durations as people read and write them. Pure."""

import re
from datetime import timedelta

_WRITTEN = re.compile(r"([0-9]{1,5})\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(seconds: float) -> str:
    """Seconds as text: `40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def read_duration(written: str) -> timedelta | None:
    """The duration of `30m`, `12h`, `1d` or `1w`: a number of at most five digits and a unit. None for any other text."""
    found = _WRITTEN.fullmatch(written.strip())
    return None if found is None else timedelta(**{_UNITS[found[2]]: int(found[1])})
