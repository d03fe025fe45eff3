"""Durations as people read and write them. Pure."""

import re
from datetime import timedelta

_WRITTEN = re.compile(r"([0-9]{1,8})\s*([mhdw])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
LONGEST = timedelta(days=36_525)  # so that a date with it is always a date


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
    """The duration of `30m`, `12h`, `1d` or `1w`, of at most 100 years. None for any other text."""
    if (found := _WRITTEN.fullmatch(written.strip())) is None:
        return None
    length = int(found[1]) * _UNITS[found[2]]
    return length if length <= LONGEST else None
