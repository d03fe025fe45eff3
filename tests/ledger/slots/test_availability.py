"""How much of an hour a slot was available."""

from datetime import UTC, datetime, timedelta

import pytest

from dagster_offload.ledger.slots import availability
from dagster_offload.ledger.slots.availability import share
from dagster_offload.stages.graph import CLASSIFY
from tests.support.ledger import Bench

NINE = datetime(2026, 1, 1, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)


def at(minutes: int) -> datetime:
    return NINE + timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("changes", "now_available", "expected"),
    [
        ([], True, 1.0),
        ([], False, 0.0),
        ([(at(-30), True)], True, 1.0),
        ([(at(30), False)], False, 0.5),
        ([(at(-30), False), (at(15), True), (at(45), False)], False, 0.5),
        ([(at(54), True)], True, 0.1),
        ([(at(90), False)], False, 1.0),
        ([(at(30), True), (at(90), False), (at(95), True)], True, 0.5),
    ],
)
def test_the_share_of_a_period(changes: list[tuple[datetime, bool]], now_available: bool, expected: float) -> None:
    assert share(changes, NINE, TEN, now_available=now_available) == pytest.approx(expected)


def test_the_time_before_a_slot_was_first_looked_at_does_not_count(bench: Bench) -> None:
    def share_of_the_hour() -> float | None:
        now = datetime.now(UTC)
        return bench.ledger.run(availability.share_between, "deep", now - timedelta(hours=1), now)

    assert share_of_the_hour() is None
    bench.ledger.run(availability.note, "deep", is_available=False)
    assert share_of_the_hour() == 0.0
    bench.sql("update availability set is_available = true")
    assert share_of_the_hour() == 1.0


def test_a_slot_that_answered_before_the_first_look_was_available_until_then(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]))
    bench.sql("update calls set ended_at = clock_timestamp() - interval '30 minutes'")
    bench.sql(
        "insert into availability (slot, is_available, since) values "
        "('deep', false, clock_timestamp() - interval '15 minutes')"
    )
    now = datetime.now(UTC)
    found = bench.ledger.run(availability.share_between, "deep", now - timedelta(hours=1), now)
    assert found == pytest.approx(0.5, abs=0.05)


def test_a_breaker_that_opens_after_a_red_probe_begins_no_new_absence(bench: Bench) -> None:
    bench.ledger.run(availability.note, "deep", is_available=False)
    before = bench.ledger.run(availability.absence, "deep")
    bench.sql("update slots set breaker = 'open' where name = 'deep'")
    after = bench.ledger.run(availability.absence, "deep")
    assert before is not None
    assert after is not None
    assert (after.number, after.since) == (before.number, before.since)


def test_each_change_of_the_breaker_is_noted_and_a_probe_adds_only_changes(bench: Bench) -> None:
    bench.ledger.run(availability.note, "deep", is_available=True)
    bench.ledger.run(availability.note, "deep", is_available=True)
    bench.sql("update slots set breaker = 'open' where name = 'deep'")
    bench.sql("update slots set breaker = 'misconfigured' where name = 'deep'")
    bench.sql("update slots set breaker = 'closed' where name = 'deep'")
    assert [
        row["is_available"] for row in bench.sql("select is_available from availability order by availability_id")
    ] == [
        True,
        False,
        True,
    ]
