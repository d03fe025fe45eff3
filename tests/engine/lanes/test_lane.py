"""What a lane does next, decided from the slot's row."""

from dataclasses import replace

import pytest

from dagster_offload.engine.lanes.lane import Next, after_no_claim
from dagster_offload.engine.lanes.shared import may_send
from dagster_offload.engine.lanes.totals import Totals
from dagster_offload.engine.progress import DocumentEnd
from dagster_offload.ledger.core.rows import BreakerState, Claim, SlotRow
from tests.support.ledger import AWAKE

OPEN = replace(AWAKE, breaker=BreakerState.OPEN)
DUE = replace(OPEN, is_retry_due=True)
ON_TRIAL = replace(OPEN, is_trial_running=True, is_retry_due=True)
MISCONFIGURED = replace(AWAKE, breaker=BreakerState.MISCONFIGURED)


@pytest.mark.parametrize(
    ("slot", "expected"),
    [(None, False), (AWAKE, True), (OPEN, False), (DUE, True), (ON_TRIAL, True), (MISCONFIGURED, False)],
)
def test_a_lane_requests_a_permit_if_calls_may_flow_now_or_after_a_trial(slot: SlotRow | None, expected: bool) -> None:
    assert may_send(slot) is expected


@pytest.mark.parametrize(
    ("slot", "expected"),
    [(AWAKE, Next.END), (OPEN, Next.END), (DUE, Next.TRY_CLOSING), (ON_TRIAL, Next.WAIT)],
)
def test_a_lane_without_a_claim_waits_for_a_trial_runs_a_due_one_or_ends(slot: SlotRow, expected: Next) -> None:
    assert after_no_claim(slot) is expected


@pytest.mark.rule("drain-9")
def test_the_limit_counts_each_document_once_and_one_that_was_not_started_not_at_all() -> None:
    totals = Totals(limit=3)
    counted = []
    for document, token in ((1, 1), (1, 2), (2, 3)):  # the first document is put back and claimed again
        totals.count_ahead()
        totals.note_claim(_claim(document, token))
        counted.append(totals.counts.started)
    totals.note_release(_claim(1, 2))
    counted.append(totals.counts.started)
    totals.note_release(_claim(2, 3))
    counted.append(totals.counts.started)
    assert counted == [1, 1, 2, 2, 1]


@pytest.mark.rule("drain-9")
def test_a_document_that_is_done_at_two_slots_is_done_once() -> None:
    totals, done = Totals(), []
    for end in (DocumentEnd.DONE, DocumentEnd.DONE, DocumentEnd.DEFERRED, DocumentEnd.DONE):
        totals.count(1, end)
        done.append(totals.counts.done)
    assert done == [1, 1, 0, 1]


@pytest.mark.rule("drain-9")
def test_a_document_that_fails_in_two_stages_fails_once() -> None:
    totals, failed = Totals(), []
    for end in (DocumentEnd.FAILED, DocumentEnd.FAILED):
        totals.count(1, end)
        failed.append(totals.counts.failed)
    assert failed == [1, 1]


def _claim(document: int, token: int) -> Claim:
    return Claim(token, document, f"{document}.txt", is_alone=False, text="", items=())
