"""A slot that rests is not called, no document pays for it, and work goes on when the rest is over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dagster_offload.engine.lanes.lanes import Lanes
from dagster_offload.engine.runs import summarize_run
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.engine.slot.state import SlotState
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import BreakerState, State
from dagster_offload.ledger.slots import availability, rests
from dagster_offload.ledger.work.left import Unfinished
from dagster_offload.simulator.server import Router
from dagster_offload.slot.config import DEEP, PRIMARY
from dagster_offload.slot.rest import Rest, RestKind
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.testing import ChangeTiming
from tests.support.engine import REST, DrainsHeard, Engine

KEYS = [f"{n}.txt" for n in range(4)]
HALF_AN_HOUR = 1800.0


@pytest.fixture(autouse=True)
def one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day began 24 hours ago and does not end: at midnight, the minutes that were just used would be those of yesterday."""
    today = datetime.now(UTC) - timedelta(hours=24)
    monkeypatch.setattr(rests, "beginning_of_day", lambda _now: today)


def closed_now() -> str:
    """Hours that begin in six hours."""
    local = datetime.now(UTC).astimezone()
    return f"{local + timedelta(hours=6):%H:%M}-{local + timedelta(hours=9):%H:%M}"


def open_now() -> str:
    local = datetime.now(UTC).astimezone()
    return f"{local - timedelta(hours=6):%H:%M}-{local + timedelta(hours=6):%H:%M}"


def use_minutes(engine: Engine, minutes: int, hours_ago: int = 0, slot: str = DEEP) -> None:
    """Store a call of so many minutes."""
    engine.sql(
        "insert into calls (slot, epoch, asked_model, seconds, outcome, ended_at) "
        "values (%s, 1, 'm', %s, 'ok', clock_timestamp() - make_interval(hours => %s))",
        slot, minutes * 60, hours_ago,
    )  # fmt: skip


def assert_untouched(engine: Engine) -> None:
    """No request reached the slot, the breaker is closed, and no document has paid anything."""
    assert engine.router.log()["requests"] == []
    assert engine.slot().breaker is BreakerState.CLOSED
    assert engine.counts(CLASSIFY).pending == len(KEYS)
    assert engine.sql("select 1 from work_items where stage = %s and attempts + deferrals > 0", CLASSIFY) == []


RESTS: list[tuple[dict[str, Any], str]] = [
    ({}, "paused since"),
    ({"deep_hours": "closed"}, "outside its hours"),
    ({"deep_minutes_a_day": 5}, "the 5 minutes of today are used"),
]


def begin_rest(engine: Engine, changes: dict[str, Any]) -> None:
    if not changes:
        engine.ledger.run(rests.pause, DEEP, None)
    elif "deep_hours" in changes:
        engine.options["deep_hours"] = closed_now()
    else:
        engine.options |= changes
        use_minutes(engine, 5)


@pytest.mark.rule("rest-1", "rest-2", "rest-4")
@pytest.mark.parametrize(("changes", "said"), RESTS)
def test_the_sensor_skips_with_the_reason_and_makes_no_request(
    engine: Engine, changes: dict[str, Any], said: str
) -> None:
    engine.texts(*KEYS)
    begin_rest(engine, changes)
    decision = decide_drain(engine.settings(), engine.ledger)
    assert not decision.launch
    assert said in decision.message
    assert "4 documents due, 0 deferred" in decision.message
    absence = engine.ledger.run(availability.absence, DEEP)
    assert absence is not None
    assert (absence.reason is None) if not changes else (said in str(absence.reason)), "the pause itself says it"
    assert_untouched(engine)


@pytest.mark.rule("rest-1", "rest-2", "rest-4")
@pytest.mark.parametrize(("changes", "said"), RESTS)
def test_a_drain_makes_no_call_and_says_why(engine: Engine, changes: dict[str, Any], said: str) -> None:
    engine.texts(*KEYS)
    begin_rest(engine, changes)
    summary = engine.drain()
    assert (summary.done, summary.left, summary.is_slot_unavailable, summary.is_misconfigured) == (0, 4, True, False)
    assert said in str(summary.reason)
    assert (summary.next_check_at is None) is (not changes)  # a pause has no end
    assert_untouched(engine)


@pytest.mark.rule("rest-1", "rest-2", "rest-4")
@pytest.mark.parametrize(("changes", "said"), RESTS)
def test_a_run_waits_as_at_an_unavailable_slot(engine: Engine, changes: dict[str, Any], said: str) -> None:
    engine.texts(*KEYS)
    begin_rest(engine, changes)
    summary = engine.run(*KEYS)
    assert (summary.done, summary.failed, summary.is_deferral, summary.slot) == (0, (), True, None)
    assert said in str(summary.wait_reason)
    assert summary.wait_seconds is not None
    assert 0 < summary.wait_seconds <= HALF_AN_HOUR
    assert_untouched(engine)


def test_a_slot_in_its_hours_and_with_minutes_left_works(engine: Engine) -> None:
    engine.texts(*KEYS)
    use_minutes(engine, 500, hours_ago=25)
    use_minutes(engine, 500, slot=PRIMARY)
    engine.options |= {"deep_hours": open_now(), "deep_minutes_a_day": 5}
    assert decide_drain(engine.settings(), engine.ledger).launch
    assert engine.drain().done == 4


@pytest.mark.rule("rest-1")
def test_a_pause_is_in_the_ledger_and_ends_by_itself_or_by_a_person(engine: Engine) -> None:
    engine.texts(*KEYS)
    engine.ledger.run(rests.pause, DEEP, datetime.now(UTC) + timedelta(hours=1))
    with Ledger(engine.ledger.conninfo) as restarted:
        assert "paused since" in decide_drain(engine.settings(), restarted).message
        engine.sql("update pauses set until = clock_timestamp()")
        assert decide_drain(engine.settings(), restarted).launch
        engine.ledger.run(rests.pause, DEEP, None)
        assert not decide_drain(engine.settings(), restarted).launch
        assert restarted.run(rests.resume, DEEP)
        assert not restarted.run(rests.resume, DEEP)
        assert decide_drain(engine.settings(), restarted).launch


@pytest.mark.rule("rest-5")
@pytest.mark.parametrize("limit", [None, 60])
def test_a_running_drain_finishes_its_open_call_and_starts_no_other(
    engine: Engine, change_timing: ChangeTiming, drains_heard: DrainsHeard, limit: int | None
) -> None:
    """`limit`: the minutes of the day are used up while the call is open. None: a person pauses the slot."""
    if limit is not None:
        change_timing(recheck=0.05)
    engine.texts(*KEYS)
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain, **({} if limit is None else {"deep_minutes_a_day": limit}))
    engine.router.wait(open=1)
    if limit is None:
        engine.ledger.run(rests.pause, DEEP, None)
    else:
        use_minutes(engine, limit)
    drains_heard(REST)  # by the notification, or by looking
    engine.router.set(hold=False)
    summary = drain.result()
    assert engine.asked() == [(engine.asked()[0][0], CLASSIFY)]
    assert engine.counts(CLASSIFY).done == 1
    assert engine.counts(SUMMARIZE).pending == 4
    assert (summary.left, summary.is_slot_unavailable) == (4, True)
    assert "deep is resting" in str(summary.reason)
    assert engine.sql("select 1 from work_items where attempts + deferrals > 0") == []
    engine.ledger.run(rests.resume, DEEP)
    assert engine.drain().done == 4
    assert len(engine.asked()) == 8  # nothing was asked twice


@pytest.mark.rule("rest-5")
def test_documents_that_run_alone_are_not_started_in_a_rest_either(engine: Engine, drains_heard: DrainsHeard) -> None:
    engine.texts(*KEYS)
    engine.sql("update work_items set must_run_alone = true where state = 'pending'")
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain)
    engine.router.wait(open=1)
    engine.ledger.run(rests.pause, DEEP, None)
    drains_heard(REST)
    engine.router.set(hold=False)
    assert drain.result().left == 4
    assert len(engine.asked()) == 1


@pytest.mark.rule("slot-2")
def test_a_smaller_model_never_takes_the_place_of_a_slot_that_rests(engine: Engine) -> None:
    engine.texts(*KEYS)
    with Router() as primary:
        engine.options |= {"primary_url": primary.url, "primary_model": "small"}
        engine.ledger.run(rests.pause, DEEP, None)
        assert engine.run(*KEYS).done == 0
        assert primary.completions() == []
        summary = engine.run(*KEYS, any_stages=CLASSIFY)  # its owner allowed this stage
        assert {entry["stage"] for entry in primary.completions() if entry["document"]} == {CLASSIFY}
        assert (summary.done, summary.is_deferral) == (0, True)
        engine.ledger.run(rests.pause, PRIMARY, None)
        engine.texts("new.txt")
        before = len(primary.completions())
        engine.run("new.txt", any_stages=CLASSIFY)
        assert len(primary.completions()) == before
    assert engine.router.completions() == []
    assert engine.counts(CLASSIFY).failed == 0


def test_a_slot_that_is_forgotten_is_not_paused_any_more(engine: Engine) -> None:
    from dagster_offload.ledger.slots import slots

    engine.ledger.run(rests.pause, DEEP, None)
    engine.ledger.run(slots.forget, DEEP)
    assert engine.ledger.run(rests.pause_of, DEEP) is None


@pytest.mark.parametrize(("minutes", "waits"), [(None, HALF_AN_HOUR), (600, HALF_AN_HOUR), (10, 600), (-1, 1)])
def test_a_run_looks_again_at_the_end_of_a_rest_or_after_half_an_hour(minutes: int | None, waits: float) -> None:
    until = None if minutes is None else datetime.now(UTC) + timedelta(minutes=minutes)
    rest = Rest(DEEP, RestKind.OUTSIDE_HOURS, "outside its hours", until)
    left, resting = [Unfinished("a.txt", SUMMARIZE, State.PENDING, None, 0, None)], SlotState(rest=rest)
    summary = summarize_run(1, left, resting, HALF_AN_HOUR)
    assert summary.wait_seconds == pytest.approx(waits, abs=30)
    failed = [Unfinished("b.txt", SUMMARIZE, State.FAILED, "why", 3, None)]
    assert summarize_run(2, left + failed, resting, HALF_AN_HOUR).wait_seconds is None  # it fails at once


def test_an_error_of_the_watch_over_the_hours_ends_the_drain(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming
) -> None:
    change_timing(recheck=0.05)
    engine.texts("0.txt")
    engine.router.set(hold=True)  # the drain cannot end by itself
    look, looks = Lanes.look, 0

    async def break_later(lanes: Lanes) -> bool:
        nonlocal looks
        looks += 1
        if looks > 2:  # before the turn and before the lanes; then only the watch looks
            raise RuntimeError("broken")
        return await look(lanes)

    monkeypatch.setattr(Lanes, "look", break_later)
    with pytest.raises(RuntimeError, match="broken"):
        engine.drain()
