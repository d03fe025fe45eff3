"""Which events a channel is notified of: decided from facts, without I/O."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dagster_offload.ledger.core.rows import BreakerState, State
from dagster_offload.ledger.reports.status import ProblemGroup
from dagster_offload.ledger.slots.availability import Absence
from dagster_offload.notify.events import GROUPED_SECONDS, NAMED, Due, Facts, decide, seconds_for_others
from dagster_offload.settings.sections.notify import NtfyChannel
from tests.support.engine import Engine
from tests.support.ledger import HOLD

QUIET = Facts(latest=7, left=0, is_working=False, was_done=False)


def channel(**changes: Any) -> NtfyChannel:
    return NtfyChannel(ntfy="http://127.0.0.1/topic", **changes)


def failed(*groups: int) -> Facts:
    """Groups of so many documents that failed for one reason each."""
    failures = [
        ProblemGroup("summarize", State.FAILED, f"r{n}", f"r{n}: no JSON", False, count, [f"{n}.txt", "b.txt"][:count])
        for n, count in enumerate(groups)
    ]
    return replace(QUIET, failed=[5], failures=failures, failed_documents=sum(groups))


def events(facts: Facts, **changes: Any) -> list[str]:
    return [notification.event for notification in decide(facts, channel(**changes)).messages]


def test_a_quiet_ledger_says_nothing() -> None:
    assert events(QUIET) == []


def test_all_done_is_said_when_the_last_worker_has_ended() -> None:
    done = replace(QUIET, was_done=True, documents=3)
    assert events(done) == ["done"]
    assert events(replace(done, is_working=True)) == []
    assert events(replace(done, left=1)) == []
    assert "3 documents, nothing is left" in decide(done, channel()).messages[0].message


@pytest.mark.rule("notify-2")
def test_the_first_failure_is_said_at_once_and_others_wait_an_hour_for_each_other() -> None:
    assert seconds_for_others(None, is_over=False) is None
    assert seconds_for_others(600.0, is_over=False) == GROUPED_SECONDS - 600
    assert seconds_for_others(GROUPED_SECONDS, is_over=False) is None
    assert events(replace(failed(1, 1), left=5, is_working=True)) == ["needs_you"]
    decision = decide(replace(QUIET, left=5, seconds_for_others=3000.0), channel())
    assert (decision.messages, decision.are_failures_looked_at, decision.seconds) == ([], False, 3000.0)


@pytest.mark.rule("notify-2")
def test_failures_do_not_wait_for_others_when_the_work_is_over() -> None:
    assert seconds_for_others(1.0, is_over=True) is None


def test_many_failures_are_one_message_with_a_line_for_each_reason() -> None:
    [notification] = decide(failed(990, *[1] * (NAMED - 1), 2, 3), channel()).messages
    assert notification.title == "1,004 documents need you"
    lines = notification.message.splitlines()
    assert lines[0] == "failed: 990 documents (0.txt, b.txt and 988 more), summarize: r0: no JSON"
    assert lines[1] == "failed: 1.txt, summarize: r1: no JSON"
    assert (len(lines), lines[NAMED]) == (NAMED + 2, "and 5 more")


def test_without_names_no_document_is_named() -> None:
    [notification] = decide(failed(2), channel(names=False)).messages
    assert notification.title == "2 documents need you"
    assert ".txt" not in notification.message


def test_a_channel_gets_only_its_events_and_the_others_count_as_looked_at() -> None:
    facts = replace(failed(1), was_done=True)
    assert sorted(events(facts)) == ["done", "needs_you"]
    decision = decide(facts, channel(events="needs_you"))
    assert [notification.event for notification in decision.messages] == ["needs_you"]
    assert decision.is_done_looked_at


@pytest.mark.parametrize(("days", "due", "expected"), [(2.9, 5, []), (3.1, 5, ["away"]), (3.1, 0, [])])
def test_a_slot_is_away_after_so_many_days_with_work_due(
    engine: Engine, days: float, due: int, expected: list[str]
) -> None:
    facts = replace(
        QUIET,
        left=due,
        slots=[replace(engine.slot(), breaker=BreakerState.OPEN)],
        absences={"deep": Absence(4, datetime(2026, 1, 1, tzinfo=UTC), days)},
        due={"deep": Due(due, due)},
    )
    assert events(facts) == expected
    assert events(facts, away_days=1.0) == (["away"] if due else [])


@pytest.mark.parametrize(
    ("due", "words"),
    [
        (Due(5, 5), "5 documents wait for it, and none is lost"),
        (Due(5, 0), "5 documents left, and none is lost"),
        (Due(5, 2), "5 documents left, 2 of them wait for it, and none is lost"),
        (Due(5, 1), "5 documents left, 1 of them waits for it, and none is lost"),
    ],
)
def test_a_message_says_how_many_documents_wait_for_the_slot(engine: Engine, due: Due, words: str) -> None:
    slot = replace(engine.slot(), breaker=BreakerState.OPEN)
    absences = {"deep": Absence(4, datetime(2026, 1, 1, tzinfo=UTC), 9.0)}
    facts = replace(QUIET, left=5, slots=[slot], absences=absences, due={"deep": due})
    [away] = decide(facts, channel()).messages
    broken = replace(slot, breaker=BreakerState.MISCONFIGURED, reason="HTTP 401: check the key")
    [misconfigured] = decide(replace(facts, slots=[broken]), channel()).messages
    assert (away.event, misconfigured.event) == ("away", "misconfigured")
    assert words in away.message
    assert words in misconfigured.message


def test_a_held_stage_is_said_once_for_each_hold_with_the_next_step_and_without_a_name() -> None:
    [notification] = decide(replace(QUIET, left=12, holds=[HOLD]), channel()).messages
    assert (notification.event, notification.title) == ("misconfigured", "the slot deep holds the stage payment")
    assert "5 documents in a row ended in answer_does_not_fit" in notification.message
    assert "12 documents are left in this stage, and none is lost." in notification.message
    assert "dagster-offload slot set deep --try-again" in notification.message
    assert "a.txt" not in notification.message
    again = replace(HOLD, since=datetime(2026, 12, 1, tzinfo=UTC))
    [another] = decide(replace(QUIET, left=12, holds=[again]), channel()).messages
    assert another.key != notification.key
