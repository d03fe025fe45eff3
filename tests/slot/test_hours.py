"""The hours of a slot are those of the wall clock, in every time zone and on every day, also when clocks are changed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dagster_offload.slot.hours import DAYS, parse_hours

BERLIN = ZoneInfo("Europe/Berlin")
# Whole hours, half hours and quarters; both hemispheres; a change of half an hour; changes around Ramadan; none at all.
ZONES = tuple(
    map(
        ZoneInfo,
        (
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "America/Santiago",
            "Asia/Kathmandu",
            "Africa/Casablanca",
            "Asia/Seoul",
        ),
    )
)
MINUTE = timedelta(minutes=1)


def is_in(day_first: int, days: int, start: int, end: int, wall: datetime) -> bool:
    """Whether a window that begins at `start` on each of `days` days is open at a wall-clock time, computed day by day."""
    length = (end - start) % 1440 or 1440
    for back in (0, 1):  # it may have begun yesterday
        begun = (wall - timedelta(days=back)).replace(hour=0, minute=0) + timedelta(minutes=start)
        begins_that_day = (begun.weekday() - day_first) % 7 < days
        if begins_that_day and begun <= wall < begun + timedelta(minutes=length):
            return True
    return False


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


windows = some.tuples(some.integers(0, 6), some.integers(1, 7), some.integers(0, 1439), some.integers(0, 1440)).filter(
    lambda window: window[2] != window[3]
)
# Around the changes of 2026 in these zones, and any day.
moments = some.one_of(
    some.sampled_from(
        [
            datetime(2026, month, day, tzinfo=UTC)
            for month, day in ((2, 14), (3, 7), (3, 21), (3, 28), (4, 4), (9, 5), (10, 3), (10, 24), (10, 31))
        ]
    ).flatmap(lambda day: some.integers(0, 3 * 86_400).map(lambda seconds: day + timedelta(seconds=seconds))),
    some.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1)).map(lambda naive: naive.replace(tzinfo=UTC)),
)


def written(given_windows: list[tuple[int, int, int, int]]) -> str:
    return ", ".join(
        f"{DAYS[first]}-{DAYS[(first + days - 1) % 7]} {clock(start)}-{clock(end)}"
        for first, days, start, end in given_windows
    )


@pytest.mark.rule("rest-2")
@given(some.lists(windows, min_size=1, max_size=3), moments, some.sampled_from(ZONES))
def test_hours_are_open_exactly_while_the_wall_clock_shows_a_window(
    given_windows: list[tuple[int, int, int, int]], at: datetime, zone: ZoneInfo
) -> None:
    hours = parse_hours(written(given_windows))
    wall = at.astimezone(zone).replace(tzinfo=None)
    assert hours.is_open(at, zone) == any(is_in(*window, wall) for window in given_windows)


@pytest.mark.rule("rest-2")
@given(some.lists(windows, min_size=1, max_size=3), moments, some.sampled_from(ZONES))
def test_the_next_change_is_the_first_minute_that_differs(
    given_windows: list[tuple[int, int, int, int]], at: datetime, zone: ZoneInfo
) -> None:
    hours = parse_hours(written(given_windows))
    now, change = hours.is_open(at, zone), hours.next_change(at, zone)
    minute = at.replace(second=0, microsecond=0) + MINUTE
    end = change if change is not None else at + timedelta(days=8)
    while minute < end:
        assert hours.is_open(minute, zone) is now, minute
        minute += MINUTE * 7  # looking at each would take a minute; a wrong change is off by an hour, or by a window
    if change is not None:
        assert hours.is_open(change, zone) is not now
        assert hours.is_open(change - MINUTE, zone) is now or change - MINUTE < at


@pytest.mark.parametrize(
    ("text", "at", "is_open"),
    [
        ("22:00-07:00, sat-sun", "2026-11-27T21:59", False),  # a Friday
        ("22:00-07:00, sat-sun", "2026-11-27T22:00", True),
        ("22:00-07:00, sat-sun", "2026-11-28T06:59", True),
        ("22:00-07:00, sat-sun", "2026-11-28T12:00", True),
        ("22:00-07:00, sat-sun", "2026-11-30T07:00", False),  # Monday
        ("fri 22:00-07:00", "2026-11-28T06:59", True),
        ("fri 22:00-07:00", "2026-11-27T06:59", False),
        ("sun 22:00-07:00", "2026-11-30T06:59", True),
        ("fri-mon", "2026-11-30T23:59", True),
        ("fri-mon", "2026-12-01T00:00", False),
        ("Mon-Fri 20:00-24:00", "2026-11-30T23:59", True),
    ],
)
def test_windows_mean_what_they_say(text: str, at: str, is_open: bool) -> None:
    assert parse_hours(text).is_open(datetime.fromisoformat(at).replace(tzinfo=BERLIN), BERLIN) is is_open


@pytest.mark.rule("rest-2")
def test_a_night_is_an_hour_shorter_or_longer_when_clocks_are_changed() -> None:
    night = parse_hours("22:00-07:00")
    for day, length in ((28, 8), (24, 10), (10, 9)):
        month = {28: 3, 24: 10, 10: 6}[day]
        opens = night.next_change(datetime(2026, month, day, 12, tzinfo=BERLIN), BERLIN)
        assert opens is not None
        closes = night.next_change(opens, BERLIN)
        assert closes is not None
        assert (closes - opens) == timedelta(hours=length)


def test_a_window_in_the_missing_hour_stays_closed_that_night_and_opens_the_next() -> None:
    opens = parse_hours("02:15-02:45").next_change(datetime(2026, 3, 28, 12, tzinfo=BERLIN), BERLIN)
    assert opens == datetime(2026, 3, 30, 2, 15, tzinfo=BERLIN)


def test_hours_of_the_whole_week_never_change() -> None:
    hours = parse_hours("00:00-24:00")
    assert hours.next_change(datetime(2026, 3, 28, tzinfo=UTC), BERLIN) is None
    assert hours.is_open(datetime(2026, 3, 28, tzinfo=UTC), BERLIN)


@pytest.mark.rule("rest-3")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a window"),
        ("22:00", "is not a window"),
        ("22:00-07:00,", "'' is not a window"),
        ("tonight", "'tonight' is not a window"),
        ("25:00-07:00", "'25:00' is not a time of day"),
        ("22:60-07:00", "'22:60' is not a time of day"),
        ("00:00-24:01", "'24:01' is not a time of day"),
        ("08:00-08:00", "begins when it ends: the whole day is 00:00-24:00"),
        ("24:00-07:00", "begins at 24:00: write 00:00"),
        ("monday", "is not a window"),
        ("sat,sun,22", "'22' is not a window"),
    ],
)
def test_hours_that_make_no_sense_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        parse_hours(text)


def test_hours_are_shown_as_they_were_written() -> None:
    assert str(parse_hours(" 22:00-07:00, Sat-Sun ")) == "22:00-07:00, Sat-Sun"
