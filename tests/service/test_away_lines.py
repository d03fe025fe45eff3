"""The lines of `up` about a slot that is away before it was ever called, and about its return."""

from dataclasses import replace
from datetime import UTC, datetime

from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.reports.news import News
from dagster_offload.ledger.slots.availability import Absence
from dagster_offload.service.event_lines import lines, what_is_left
from dagster_offload.slot.config import DEEP
from dagster_offload.slot.rest import Pause
from tests.support.engine import Engine
from tests.support.ledger import AWAKE
from tests.support.said_lines import saying

SINCE = datetime(2026, 1, 1, 14, 2, tzinfo=UTC)
THERE = News(slots={DEEP: AWAKE}, left=3)
AWAY = replace(THERE, absences={DEEP: Absence(1, SINCE, 0.0, "unavailable, no connection in time")})


def test_a_slot_that_no_probe_reaches_is_reported_once_and_so_is_its_return() -> None:
    assert lines(THERE, AWAY) == ["deep: unavailable, no connection in time; 3 documents wait, and none is lost"]
    assert lines(AWAY, AWAY) == []
    assert what_is_left(AWAY) == "Left: 3 documents (unavailable, no connection in time)"
    assert lines(AWAY, THERE) == ["deep: the slot is back; 3 documents left"]


def test_a_call_that_fails_where_a_probe_has_failed_is_no_second_absence() -> None:
    opened = replace(AWAY, slots={DEEP: replace(AWAKE, breaker=BreakerState.OPEN, reason="upstream_cold")})
    assert lines(AWAY, opened) == []
    closed = replace(THERE, slots={DEEP: replace(AWAKE, epoch=2)})
    assert lines(opened, closed) == ["deep: the slot is back; 3 documents left"]


def test_a_paused_slot_is_not_called_unavailable_as_well() -> None:
    paused = replace(AWAY, pauses={DEEP: Pause(SINCE)})
    assert lines(THERE, paused) == ["deep: paused"]
    assert what_is_left(paused) == "Left: 3 documents (paused)"
    unknown = replace(THERE, absences={DEEP: Absence(1, SINCE, 0.0)})
    assert lines(paused, unknown) == ["deep: no longer paused; 3 documents left"]
    assert lines(unknown, THERE) == []


def test_what_the_sensor_finds_is_said_though_no_call_was_ever_made(engine: Engine) -> None:
    engine.texts("a.txt")
    engine.router.set(mode="cold")
    with saying(engine.ledger) as said:
        assert not decide_drain(engine.settings(), engine.ledger).launch
        said.wait_for("deep: unavailable, upstream_cold; 1 document waits, and none is lost")
        assert not decide_drain(engine.settings(), engine.ledger).launch
        engine.router.set(mode="awake")
        assert decide_drain(engine.settings(), engine.ledger).launch
        said.wait_for("deep: the slot is back; 1 document left")
    assert len(said.lines) == 2, "one line when it begins, one when it ends"


def test_what_an_earlier_start_found_is_said_when_the_slot_was_looked_at_again(engine: Engine) -> None:
    engine.texts("a.txt")
    engine.router.set(mode="cold")
    decide_drain(engine.settings(), engine.ledger)
    with saying(engine.ledger) as said:
        assert said.lines == [], "the slot may be back by now"
        decide_drain(engine.settings(), engine.ledger)
        said.wait_for("deep: unavailable, upstream_cold; 1 document waits")
