"""Whether a slot rests is decided from its settings, a pause, the calls of the day and the time."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.hours import parse_hours
from dagster_offload.slot.rest import Pause, Rest, RestKind, beginning_of_day, rest_of

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 27, 12, tzinfo=BERLIN)  # a Friday


def rest(pause: Pause | None = None, used: float = 0, at: datetime = NOON, **settings: Any) -> Rest | None:
    return rest_of(SlotConfig("deep", "http://x:1", "m", **settings), pause, used, at, BERLIN)


def test_a_slot_without_hours_limit_and_pause_never_rests() -> None:
    assert rest(used=1e9) is None


@pytest.mark.rule("rest-1")
def test_a_pause_holds_until_its_time_or_until_it_is_removed() -> None:
    since = NOON - timedelta(hours=1)
    found = rest(Pause(since))
    assert found is not None
    assert (found.kind, found.until) == (RestKind.PAUSED, None)
    assert found.seconds_left(NOON) is None
    assert "paused since Fri 27 Nov 11:00 (dagster-offload resume deep)" in str(found)
    timed = rest(Pause(since, NOON + timedelta(hours=2)))
    assert timed is not None
    assert timed.seconds_left(NOON) == 7200
    assert rest(Pause(since, NOON)) is None


@pytest.mark.rule("rest-2")
def test_a_slot_rests_outside_its_hours_until_they_begin() -> None:
    found = rest(hours=parse_hours("22:00-07:00, sat-sun"))
    assert found is not None
    assert (found.kind, found.until) == (RestKind.OUTSIDE_HOURS, datetime(2026, 11, 27, 22, tzinfo=BERLIN))
    assert "outside its hours, 22:00-07:00, sat-sun (OFFLOAD_DEEP_HOURS)" in str(found)
    assert rest(hours=parse_hours("22:00-07:00, fri")) is None


@pytest.mark.rule("rest-4")
def test_a_slot_rests_until_midnight_when_the_minutes_of_the_day_are_used() -> None:
    assert rest(used=59 * 60 + 59, minutes_a_day=60) is None
    found = rest(used=60 * 60, minutes_a_day=60)
    assert found is not None
    assert (found.kind, found.until) == (RestKind.MINUTES_USED, datetime(2026, 11, 28, tzinfo=BERLIN))
    assert "the 60 minutes of today are used (OFFLOAD_DEEP_MINUTES_A_DAY)" in str(found)


def test_a_pause_is_named_before_the_hours_because_a_person_made_it() -> None:
    found = rest(Pause(NOON), hours=parse_hours("22:00-07:00"))
    assert found is not None
    assert found.kind is RestKind.PAUSED


@pytest.mark.parametrize(("day", "length"), [((3, 29), 23), ((10, 25), 25), ((6, 1), 24)])
def test_a_day_begins_at_local_midnight_also_when_clocks_are_changed(day: tuple[int, int], length: int) -> None:
    noon = datetime(2026, *day, 12, tzinfo=BERLIN)
    today, tomorrow = beginning_of_day(noon, BERLIN), beginning_of_day(noon, BERLIN, days=1)
    assert today == datetime(2026, *day, tzinfo=BERLIN)
    assert tomorrow - today == timedelta(hours=length)
    assert today.tzinfo is UTC
