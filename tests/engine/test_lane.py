"""What a lane does next, decided from the slot's row."""

from dataclasses import replace

import pytest

from dagster_offload.engine.lane import Next, after_no_claim, may_send
from dagster_offload.engine.progress import DocumentEnd
from dagster_offload.engine.tally import Tally
from dagster_offload.ledger.core.rows import BreakerState, Claim, SlotRow

CLOSED = SlotRow(
    name="deep",
    url="http://slot:1",
    model="qwen",
    permits=1,
    breaker=BreakerState.CLOSED,
    epoch=1,
    reason=None,
    reason_since=None,
    retry_at=None,
    refusal_wait_seconds=None,
    was_red_since_opening=False,
    is_retry_due=False,
    is_trial_running=False,
)
OPEN = replace(CLOSED, breaker=BreakerState.OPEN)
DUE = replace(OPEN, is_retry_due=True)
ON_TRIAL = replace(OPEN, is_trial_running=True, is_retry_due=True)
MISCONFIGURED = replace(CLOSED, breaker=BreakerState.MISCONFIGURED)


@pytest.mark.parametrize(
    ("slot", "expected"),
    [(None, False), (CLOSED, True), (OPEN, False), (DUE, True), (ON_TRIAL, True), (MISCONFIGURED, False)],
)
def test_a_lane_requests_a_permit_if_calls_may_flow_now_or_after_a_trial(slot: SlotRow | None, expected: bool) -> None:
    assert may_send(slot) is expected


@pytest.mark.parametrize(
    ("slot", "expected"),
    [(CLOSED, Next.END), (OPEN, Next.END), (DUE, Next.TRY_CLOSING), (ON_TRIAL, Next.WAIT)],
)
def test_a_lane_without_a_claim_waits_for_a_trial_runs_a_due_one_or_ends(slot: SlotRow, expected: Next) -> None:
    assert after_no_claim(slot) is expected


@pytest.mark.rule("drain-9")
def test_the_limit_counts_each_document_once_and_one_that_was_not_started_not_at_all() -> None:
    tally = Tally(limit=3)
    counted = []
    for document, token in ((1, 1), (1, 2), (2, 3)):  # the first document is put back and claimed again
        tally.reserve()
        tally.note_claim(_claim(document, token))
        counted.append(tally.counts.started)
    tally.note_release(_claim(1, 2))
    counted.append(tally.counts.started)
    tally.note_release(_claim(2, 3))
    counted.append(tally.counts.started)
    assert counted == [1, 1, 2, 2, 1]


@pytest.mark.rule("drain-9")
def test_a_document_that_is_done_at_two_slots_is_done_once() -> None:
    tally, done = Tally(), []
    for end in (DocumentEnd.DONE, DocumentEnd.DONE, DocumentEnd.DEFERRED, DocumentEnd.DONE):
        tally.count(1, end)
        done.append(tally.counts.done)
    assert done == [1, 1, 0, 1]


def _claim(document: int, token: int) -> Claim:
    return Claim(token, document, f"{document}.txt", is_alone=False, text="", items=())
