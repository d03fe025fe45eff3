"""What a lane does next, decided from the slot's row."""

from dataclasses import replace

import pytest

from dagster_offload.engine.lane import Next, after_no_claim, may_send
from dagster_offload.ledger.core.rows import BreakerState, SlotRow

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
