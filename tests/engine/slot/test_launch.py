"""Decisions without I/O: whether to launch a drain and why; how long a run waits and when it fails."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dagster_offload.drain import check_drain
from dagster_offload.engine.runs import summarize_run
from dagster_offload.engine.slot.launch import Decision, Facts, should_drain, together
from dagster_offload.engine.slot.state import SlotState, describe_wait
from dagster_offload.errors import DrainRefused
from dagster_offload.ledger.core.rows import BreakerState, SlotRow, State
from dagster_offload.ledger.work.left import Unfinished
from dagster_offload.settings import load_settings
from dagster_offload.slot.health import ProbeResult
from dagster_offload.slot.rest import Rest, RestKind
from tests.support.ledger import AWAKE, HOLD

GREEN = ProbeResult(True, "ok", answered=True)
PAUSED = Rest("deep", RestKind.PAUSED, "paused")
RED = ProbeResult(False, "warming", answered=True)
THIRTY_MINUTES = 1800.0


@pytest.fixture(autouse=True)
def in_seoul(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use a time zone nine hours ahead of UTC: messages show local time."""
    with monkeypatch.context() as here:
        here.setenv("TZ", "Asia/Seoul")
        time.tzset()
        yield
    time.tzset()


def slot(breaker: BreakerState = BreakerState.CLOSED, wait: float | None = None, reason: str | None = None) -> SlotRow:
    since = datetime(2026, 11, 25, 5, 2, tzinfo=UTC) if breaker is not BreakerState.CLOSED else None
    return replace(AWAKE, breaker=breaker, reason=reason, reason_since=since, refusal_wait_seconds=wait)


def at(*arguments: Any, **options: Any) -> SlotState:
    return SlotState(slot(*arguments, **options))


def waits(state: State = State.PENDING, seconds: float | None = None, stage: str = "summarize") -> Unfinished:
    return Unfinished("a.txt", stage, state, "why", 0, seconds)


def decide(**changes: Any) -> tuple[bool, str]:
    facts: dict[str, Any] = {
        "is_configured": True, "backlog": 3, "waiting": 1, "live_drains": 0, "probe": GREEN, "slot": slot(),
    }  # fmt: skip
    decision = should_drain(Facts(**(facts | changes)))
    return decision.launch, decision.message


@pytest.mark.rule("drain-2")
def test_a_drain_is_launched_if_all_conditions_hold() -> None:
    assert decide() == (True, "3 documents due, 1 deferred")


def test_no_drain_is_launched_for_work_that_an_earlier_stage_holds_back() -> None:
    launch, message = decide(is_free=False)
    assert not launch
    assert message == "what is due at deep waits for an earlier stage or for a worker; 3 documents due, 1 deferred"


@pytest.mark.rule("drain-2")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"is_configured": False}, "OFFLOAD_DEEP_URL"),
        ({"live_drains": 1}, "1 drain is running; 3 documents due, 1 deferred"),
        ({"live_drains": 2}, "2 drains are running; 3 documents due, 1 deferred"),
        ({"backlog": 0, "waiting": 0}, "nothing is due"),
        ({"backlog": 0}, "nothing is due: 0 documents due, 1 deferred"),
        ({"probe": RED}, "health probe reports warming; 3 documents due"),
        ({"probe": RED, "wake": "it was woken"}, "health probe reports warming; it was woken; 3 documents due"),
        ({"rest": PAUSED, "probe": None}, "deep is resting: paused; 3 documents due, 1 deferred"),
        ({"rest": PAUSED, "backlog": 0, "waiting": 0}, "nothing is due"),
        (
            {"in_reserve_for": ["studio"], "probe": None},
            "in reserve while studio is available; 3 documents due, 1 deferred",
        ),
        ({"in_reserve_for": ["studio"], "rest": PAUSED, "probe": None}, "deep is resting: paused"),
        ({"backlog": 0, "waiting": 0, "held": [HOLD]}, "deep holds the stage payment: 5 documents in a row ended in"),
        (
            {"slot": slot(BreakerState.OPEN, reason="editor_busy")},
            "editor_busy since Wed 25 Nov 14:02; 3 documents due",
        ),
        (
            {"slot": slot(BreakerState.MISCONFIGURED, reason="HTTP 401: check OFFLOAD_DEEP_API_KEY")},
            "OFFLOAD_DEEP_API_KEY",
        ),
    ],
)
def test_every_refusal_names_the_condition_and_the_numbers(changes: dict[str, Any], expected: str) -> None:
    launch, message = decide(**changes)
    assert not launch
    assert expected in message


@pytest.mark.rule("drain-2")
def test_one_slot_that_is_worth_a_drain_is_enough_and_every_reason_is_named_if_there_is_none() -> None:
    no, yes = Decision(False, "resting"), Decision(True, "3 documents due")
    assert together({"deep": no, "studio": yes}) == Decision(True, "studio: 3 documents due")
    assert together({"deep": no, "studio": no}) == Decision(False, "deep: resting; studio: resting")


def test_a_drain_is_launched_for_other_stages_while_one_is_held() -> None:
    assert decide(held=[HOLD]) == (True, "3 documents due, 1 deferred")


def test_messages_show_local_time() -> None:
    assert (
        "ended in answer_does_not_fit, since Wed 25 Nov 14:02; 12 documents are left in this stage; correct the stage"
        in str(HOLD)
    )
    unavailable = replace(
        slot(BreakerState.OPEN, reason="warming"), retry_at=datetime(2026, 11, 25, 5, 3, 10, tzinfo=UTC)
    )
    assert describe_wait(unavailable) == "deep is unavailable: warming since Wed 25 Nov 14:02 (next check 14:03:10)"


def test_a_slot_that_is_due_is_shown_as_due_and_not_with_a_past_time() -> None:
    unavailable = slot(BreakerState.OPEN, reason="warming")
    due = replace(unavailable, retry_at=datetime(2026, 11, 25, 5, 3, 10, tzinfo=UTC), is_retry_due=True)
    assert describe_wait(due) == (
        "deep is unavailable: warming since Wed 25 Nov 14:02; a check is due (by a running up, or dagster-offload drain)"
    )


def test_a_misconfigured_slot_names_the_next_step() -> None:
    assert describe_wait(slot(BreakerState.MISCONFIGURED, reason="HTTP 401 (check OFFLOAD_DEEP_API_KEY)")) == (
        "deep is misconfigured: HTTP 401 (check OFFLOAD_DEEP_API_KEY) since Wed 25 Nov 14:02; "
        "correct that; to check it at once, run dagster-offload slot set deep --try-again"
    )


def test_a_misconfigured_slot_shows_when_it_is_checked_again() -> None:
    wrong = slot(BreakerState.MISCONFIGURED, reason="HTTP 404")
    waits_until = replace(wrong, retry_at=datetime(2026, 11, 25, 5, 3, 10, tzinfo=UTC))
    assert describe_wait(waits_until).endswith("--try-again (next check 14:03:10)")


def test_a_slot_slower_than_the_sensors_trial_gets_a_drain_that_waits_longer() -> None:
    launch, message = decide(slot=slot(BreakerState.OPEN, reason="warming"), needs_patience=True)
    assert launch
    assert "no answer within 20 s: a drain waits longer, up to the limit of a call" in message


@pytest.mark.parametrize("stage", ["extract", "nonsense", ""])
def test_a_drain_of_an_unknown_stage_is_refused(stage: str) -> None:
    settings = load_settings(deep_url="http://x:1", deep_model="m")
    with pytest.raises(DrainRefused, match="not a drain stage"):
        check_drain(settings, stage)


def test_a_drain_without_a_deep_slot_is_refused() -> None:
    with pytest.raises(DrainRefused, match="OFFLOAD_DEEP_URL"):
        check_drain(load_settings(), "all")


def test_a_run_with_nothing_left_is_done() -> None:
    summary = summarize_run(3, [], at(), THIRTY_MINUTES)
    assert (summary.done, summary.failed, summary.wait_seconds) == (3, (), None)


def test_a_run_whose_slot_is_unavailable_waits_half_an_hour_and_counts_it_as_a_deferral() -> None:
    summary = summarize_run(3, [waits(State.DEFERRED, 20.0)], at(BreakerState.OPEN, reason="warming"), THIRTY_MINUTES)
    assert (summary.done, summary.wait_seconds, summary.is_deferral) == (2, THIRTY_MINUTES, True)


def test_a_run_waits_as_long_as_the_last_refusal_asked() -> None:
    summary = summarize_run(1, [waits()], at(BreakerState.OPEN, wait=5.0), THIRTY_MINUTES)
    assert summary.wait_seconds == 5.0


def test_a_run_whose_documents_another_worker_holds_checks_again_after_30_seconds() -> None:
    summary = summarize_run(1, [waits(State.CLAIMED)], at(), THIRTY_MINUTES)
    assert (summary.wait_seconds, summary.is_deferral) == (30.0, False)


def test_a_run_waits_for_a_documents_back_off_to_end() -> None:
    summary = summarize_run(2, [waits(seconds=60.0), waits(seconds=600.0)], at(), THIRTY_MINUTES)
    assert (summary.wait_seconds, summary.is_deferral) == (60.0, False)


@pytest.mark.parametrize("state", [State.FAILED, State.QUARANTINED, State.GONE])
def test_a_run_fails_at_once_if_a_document_needs_a_person(state: State) -> None:
    summary = summarize_run(2, [waits(state), waits(State.DEFERRED)], at(BreakerState.OPEN), THIRTY_MINUTES)
    assert [u.state for u in summary.failed] == [state]
    assert summary.wait_seconds is None


@pytest.mark.parametrize(
    ("others", "seconds"),
    [
        ([waits(seconds=60.0), waits(State.DEFERRED, 600.0)], 60.0),
        ([waits(seconds=2 * THIRTY_MINUTES)], THIRTY_MINUTES),
        ([waits(seconds=60.0), waits(State.CLAIMED)], 30.0),
        ([waits(seconds=0.1)], 1.0),
        ([waits()], THIRTY_MINUTES),  # its slot holds it, too, or is unavailable
    ],
)
def test_a_run_with_a_held_stage_looks_again_when_its_other_work_is_due(
    others: list[Unfinished], seconds: float
) -> None:
    held = replace(at(), hold=HOLD)
    summary = summarize_run(3, [waits(stage=HOLD.stage), *others], held, THIRTY_MINUTES)
    assert (summary.wait_seconds, summary.held_stage) == (seconds, HOLD.stage)


def test_a_run_waits_for_a_held_stage_until_the_slot_takes_it_again() -> None:
    held = replace(at(), hold=HOLD)
    summary = summarize_run(2, [waits(stage=HOLD.stage)], held, THIRTY_MINUTES)
    assert (summary.wait_seconds, summary.is_deferral) == (THIRTY_MINUTES, True)
    assert (summary.slot, summary.held_stage, summary.wait_reason) == (HOLD.slot, HOLD.stage, str(HOLD))
