"""Wakes are bounded: at most so many a day, with growing pauses, whether they work or not."""

from datetime import UTC, datetime, timedelta

import pytest

from dagster_offload.slot.waking import Wake, WakeConfig, describe_wakes, is_wake_due, magic_packet

MIDNIGHT = datetime(2026, 11, 27, tzinfo=UTC)
MINUTES = timedelta(minutes=1)


@pytest.mark.rule("wake-2")
@pytest.mark.parametrize(("times", "minutes"), [(1, [0]), (3, [0, 10, 30]), (5, [0, 10, 30, 70, 150])])
def test_a_machine_is_woken_at_most_so_often_a_day_with_growing_pauses(times: int, minutes: list[int]) -> None:
    config, made = WakeConfig(mac="a4:83:e7:01:23:45", times_a_day=times), list[Wake]()
    for minute in range(24 * 60):
        if is_wake_due(config, made, MIDNIGHT + minute * MINUTES):
            made.append(Wake(MIDNIGHT + minute * MINUTES, "exit code 1"))
    assert [wake.at - MIDNIGHT for wake in made] == [minute * MINUTES for minute in minutes]


@pytest.mark.rule("wake-3")
def test_failures_are_shown_with_their_beginning_and_their_number() -> None:
    week = [Wake(MIDNIGHT + timedelta(days=day), None if day == 0 else f"exit code {day}") for day in range(7)]
    said = describe_wakes(week, week[-1].at)
    begun = week[1].at.astimezone()
    assert said == f"waking failed 6 times since {begun:%a %d %b %H:%M}: exit code 6"


def test_wakes_that_worked_are_counted_for_today() -> None:
    week = [Wake(MIDNIGHT - MINUTES), Wake(MIDNIGHT), Wake(MIDNIGHT + MINUTES)]
    assert describe_wakes(week, MIDNIGHT) == f"woken 2 times today, last {week[-1].at.astimezone():%a %H:%M}"
    assert describe_wakes([], MIDNIGHT) is None


@pytest.mark.parametrize("mac", ["a4:83:e7:01:23:45", "A4-83-E7-01-23-45", "a483e7012345"])
def test_a_magic_packet_has_the_address_sixteen_times(mac: str) -> None:
    assert magic_packet(mac) == b"\xff" * 6 + b"\xa4\x83\xe7\x01\x23\x45" * 16


def test_a_wake_does_not_show_the_arguments_of_its_program() -> None:
    assert "secret" not in repr(WakeConfig(command=("wake", "--password", "secret")))
