"""What a slot's row and its rest mean together, and which slot a run waits for. No database."""

from dataclasses import replace

import pytest

from dagster_offload.engine.runs import state_waited_for
from dagster_offload.engine.slot.state import SlotState
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.slot.rest import Rest, RestKind
from tests.support.ledger import AWAKE, HOLD

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


@pytest.mark.rule("breaker-12")
def test_a_held_stage_waits_for_a_person_even_if_its_slot_is_away_or_rests() -> None:
    for state in (CLOSED, OPEN, PAUSED):
        held = replace(state, hold=HOLD)
        assert (held.is_available, held.is_unavailable, held.is_misconfigured) == (False, False, True)
        assert held.reason == str(HOLD)
        assert held.next_check is None


def test_a_run_waits_for_the_slot_of_the_first_stage_that_no_available_slot_may_answer() -> None:
    may_answer = [[CLOSED, OPEN], [OPEN, PAUSED], [PAUSED]]
    assert state_waited_for(may_answer, [CLOSED, OPEN, PAUSED]) is OPEN


@pytest.mark.rule("breaker-12")
def test_a_run_waits_for_a_held_stage_only_if_no_other_slot_may_answer_it() -> None:
    held = replace(CLOSED, hold=HOLD)
    assert state_waited_for([[CLOSED], [held]], [CLOSED]) is held
    assert state_waited_for([[held, CLOSED]], [CLOSED]) is CLOSED
    assert state_waited_for([[held, OPEN]], [CLOSED]) is OPEN
    assert state_waited_for([[held, MISCONFIGURED]], [CLOSED]) is held, "both wait for a person"


def test_a_run_whose_stages_all_have_an_available_slot_waits_for_none_of_the_others() -> None:
    assert state_waited_for([[CLOSED, OPEN], []], [OPEN, CLOSED]) is CLOSED


def test_a_run_without_a_slot_waits_for_no_slot() -> None:
    assert state_waited_for([[]], []) == SlotState()
