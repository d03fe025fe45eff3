"""The time zone of the author of an appointment, with its summer time ([MS-OXOCAL] 2.2.1.41)."""

import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

_RULE_BYTES, _BEFORE_BIAS, _IN_EFFECT = 66, 22, 2
_LAST_WEEK = 5


class _Change(NamedTuple):
    """When the clocks change, in the time that they show before it."""

    year: int  # 0 for every year
    month: int  # 0 for never
    weekday: int  # 0 is Sunday
    day: int  # of the month; for every year, which of these weekdays of the month, 5 for the last
    hour: int
    minute: int

    def in_year(self, year: int) -> datetime:
        first = datetime(year, self.month, 1, self.hour, self.minute, tzinfo=UTC)
        if self.year:
            return first.replace(day=self.day)
        day = first + timedelta(days=(self.weekday - first.isoweekday()) % 7, weeks=self.day - 1)
        return day - timedelta(weeks=1) if self.day == _LAST_WEEK and day.month != self.month else day


def local_time(moment: datetime, definition: bytes) -> datetime | None:
    """Return the moment as the clocks of a zone show it, None if the definition is damaged."""
    try:
        rule = _rule_in_effect(definition)
        bias, in_winter, in_summer, *changes = struct.unpack_from("<iii8H8H", definition, rule + _BEFORE_BIAS)
        winter, summer = timedelta(minutes=bias + in_winter), timedelta(minutes=bias + in_summer)
        ends, begins = _Change(*changes[:6]), _Change(*changes[8:14])  # of summer time
        is_summer = False
        if ends.month and begins.month:
            year = (moment - winter).year
            end, begin = ends.in_year(year) + summer, begins.in_year(year) + winter
            is_summer = begin <= moment < end if begin < end else not end <= moment < begin
        return moment.astimezone(timezone(-(summer if is_summer else winter)))
    except (struct.error, IndexError, ValueError, OverflowError):
        return None


def _rule_in_effect(definition: bytes) -> int:
    """Return where the rule of now begins. The others are of other years."""
    name_length = int.from_bytes(definition[6:8], "little")
    start = 8 + 2 * name_length
    count = int.from_bytes(definition[start : start + 2], "little")
    rules = [start + 2 + number * _RULE_BYTES for number in range(count)]
    return next((one for one in rules if struct.unpack_from("<H", definition, one + 4)[0] & _IN_EFFECT), rules[0])
