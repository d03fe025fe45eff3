"""The hours of a slot: when its owner lets it be used, such as `22:00-07:00, sat-sun`. Pure.

The hours are those that a clock on the wall shows. So on the night when daylight saving time ends, a window may last an
hour longer, and on the night when it begins, a window that lies in the missing hour does not open.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 24 * 60
MINUTES_A_WEEK = 7 * MINUTES_A_DAY
EXAMPLE = "22:00-07:00, sat-sun"

_DAY = "|".join(DAYS)
_WINDOW = re.compile(
    rf"(?:(?P<first>{_DAY})(?:-(?P<last>{_DAY}))?)?\s*(?:(?P<start>\d\d?:\d\d)\s*-\s*(?P<end>\d\d?:\d\d))?"
)


@dataclass(frozen=True)
class Hours:
    """Windows of a week. `windows` are minutes since Monday 00:00, from the first to before the second, which may be
    greater than a week."""

    text: str
    windows: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return self.text

    def is_open(self, at: datetime, zone: tzinfo | None = None) -> bool:
        """Whether the slot may be used at a moment (with a time zone). `zone`: None = this machine's."""
        minute = _minute_of_week(at.astimezone(zone))
        return any(first <= minute < last or first <= minute + MINUTES_A_WEEK < last for first, last in self.windows)

    def next_change(self, at: datetime, zone: tzinfo | None = None) -> datetime | None:
        """When `is_open` changes next after a moment, in UTC; None if it does not within nine days."""
        before = self.is_open(at, zone)
        moment, end = at.astimezone(UTC), at.astimezone(UTC) + timedelta(days=9)
        while moment < end:
            moment = self._next_candidate(moment, zone)
            if self.is_open(moment, zone) is not before:
                return moment
        return None

    def _next_candidate(self, moment: datetime, zone: tzinfo | None) -> datetime:
        """A later moment before which nothing can change: the wall clock shows the next edge of a window, unless the clock
        is changed on the way. Clocks are changed on whole minutes."""
        local = moment.astimezone(zone)
        minute = _minute_of_week(local)
        minutes = min((edge - minute - 1) % MINUTES_A_WEEK + 1 for window in self.windows for edge in window)
        whole = moment.replace(second=0, microsecond=0)
        while minutes > 1 and _offset(whole + timedelta(minutes=minutes), zone) != local.utcoffset():
            minutes //= 2
        return whole + timedelta(minutes=minutes)


def _offset(moment: datetime, zone: tzinfo | None) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _minute_of_week(local: datetime) -> int:
    return (local.weekday() * 24 + local.hour) * 60 + local.minute


def parse_hours(text: str) -> Hours:
    """Read windows, separated by commas: times of every day, days, or days with times. Raises `ValueError`."""
    windows = [window for part in text.split(",") for window in _windows(part.strip().lower())]
    return Hours(text.strip(), tuple(windows))


def _windows(part: str) -> Iterator[tuple[int, int]]:
    found = _WINDOW.fullmatch(part)
    if not part or found is None:
        raise ValueError(
            f"{part!r} is not a window: write times, days, or both, such as {EXAMPLE!r} or 'mon-fri 20:00-24:00'"
        )
    start, end = (0, MINUTES_A_DAY) if found["start"] is None else (_minute(found["start"]), _minute(found["end"]))
    if start == end:
        raise ValueError(f"{part!r} begins when it ends: the whole day is 00:00-24:00")
    if start == MINUTES_A_DAY:
        raise ValueError(f"{part!r} begins at 24:00: write 00:00")
    length = (end - start) % MINUTES_A_DAY or MINUTES_A_DAY
    for day in _days(found["first"], found["last"]):
        yield day * MINUTES_A_DAY + start, day * MINUTES_A_DAY + start + length


def _days(first: str | None, last: str | None) -> list[int]:
    """Days of the week from 0, Monday. A range may pass Sunday: fri-mon."""
    if first is None:
        return list(range(len(DAYS)))
    begin = DAYS.index(first)
    count = 1 if last is None else (DAYS.index(last) - begin) % len(DAYS) + 1
    return [(begin + day) % len(DAYS) for day in range(count)]


def _minute(time: str) -> int:
    hour, minute = map(int, time.split(":"))
    if minute > 59 or hour * 60 + minute > MINUTES_A_DAY:
        raise ValueError(f"{time!r} is not a time of day: 00:00 to 24:00")
    return hour * 60 + minute
