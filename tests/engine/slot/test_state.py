"""What a slot's row and its rest mean together, and which slot a run waits for. No database."""

from dataclasses import replace

import pytest

from dagster_offload.engine.runs import state_waited_for
from dagster_offload.engine.slot.state import SlotState
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.slot.rest import Rest, RestKind
from tests.support.ledger import AWAKE

OPEN = SlotState(replace(AWAKE, breaker=BreakerState.OPEN, reason="warming"))
MISCONFIGURED = SlotState(replace(AWAKE, breaker=BreakerState.MISCONFIGURED, reason="HTTP 401"))
PAUSED = SlotState(AWAKE, Rest("deep", RestKind.PAUSED, "paused"))
CLOSED = SlotState(AWAKE)


@pytest.mark.parametrize(
    ("state", "is_available", "is_unavailable", "is_misconfigured"),
    [
        (CLOSED, True, False, False),
        (SlotState(), True, False, False),
        (OPEN, False, True, False),
        (PAUSED, False, True, False),
        (MISCONFIGURED, False, False, True),
    ],
)
def test_a_slot_is_available_or_comes_back_or_waits_for_a_person(
    state: SlotState, is_available: bool, is_unavailable: bool, is_misconfigured: bool
) -> None:
    assert (state.is_available, state.is_unavailable, state.is_misconfigured) == (
        is_available, is_unavailable, is_misconfigured,
    )  # fmt: skip
    assert (state.reason is None) is is_available


def test_a_slot_that_is_paused_while_its_breaker_is_open_waits_for_the_pause_to_end() -> None:
    both = replace(OPEN, rest=PAUSED.rest)
    assert both.reason == str(PAUSED.rest)
    assert both.next_check is None


def test_a_run_waits_for_the_slot_of_the_first_stage_that_no_available_slot_may_answer() -> None:
    states = {"deep": CLOSED, "strong": OPEN, "third": PAUSED}
    assert state_waited_for(states, [["deep", "strong"], ["strong", "third"], ["third"]]) is OPEN


def test_a_run_whose_stages_all_have_an_available_slot_waits_for_none_of_the_others() -> None:
    assert state_waited_for({"strong": OPEN, "deep": CLOSED}, [["deep", "strong"], []]) is CLOSED


def test_a_run_without_a_slot_waits_for_no_slot() -> None:
    assert state_waited_for({}, [[]]) == SlotState()
