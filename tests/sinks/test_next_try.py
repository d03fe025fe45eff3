"""The decision after a failed delivery, without I/O."""

import pytest

from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.sinks.next_try import LONGEST_WAIT, REFUSAL_PAUSES, SinkState, after_failure


@pytest.mark.rule("sink-3")
@pytest.mark.parametrize("blame", [Blame.UNAVAILABLE, Blame.MISCONFIGURED])
def test_a_sink_waits_longer_each_time_and_its_record_is_left_alone(blame: Blame) -> None:
    waits, state = [], SinkState()
    for _ in range(12):
        decided = after_failure(SinkFault(blame, "down"), state, attempts=0)
        assert not decided.is_refusal
        waits.append(decided.sink_wait)
        state = decided.state
    assert waits[:4] == [5.0, 10.0, 20.0, 40.0]
    assert waits[-1] == LONGEST_WAIT


@pytest.mark.rule("sink-2", "sink-3")
def test_a_record_over_which_a_server_fails_again_and_again_lets_others_go_first() -> None:
    fails = SinkFault(Blame.UNAVAILABLE, "HTTP 500", may_be_of_record=True)
    decided = [after_failure(fails, SinkState(waits), attempts=3) for waits in range(5)]
    assert [each.is_refusal for each in decided] == [False, False, False, True, True]
    assert all(each.sink_wait is not None and not each.counts for each in decided)
    assert decided[-1].record_wait == REFUSAL_PAUSES[0], "it is never dead"


@pytest.mark.rule("sink-3")
def test_a_record_that_has_let_others_go_first_holds_them_up_no_more() -> None:
    fails = SinkFault(Blame.UNAVAILABLE, "HTTP 500", may_be_of_record=True)
    alone = after_failure(fails, SinkState(), attempts=0, is_behind_others=True)
    assert (alone.sink_wait, alone.is_refusal, alone.record_wait, alone.counts) == (None, True, LONGEST_WAIT, False)
    still_down = after_failure(fails, SinkState(waits=4), attempts=0, is_behind_others=True)
    assert still_down.sink_wait is not None, "the sink took no other record since"
    asks = SinkFault(Blame.UNAVAILABLE, "HTTP 500", 120.0, may_be_of_record=True)
    assert after_failure(asks, SinkState(), attempts=0, is_behind_others=True).sink_wait == 120.0
    down = SinkFault(Blame.UNAVAILABLE, "connection refused")
    assert after_failure(down, SinkState(), attempts=0, is_behind_others=True).sink_wait is not None


def test_a_sink_waits_as_long_as_it_asks() -> None:
    assert after_failure(SinkFault(Blame.UNAVAILABLE, "busy", 120.0), SinkState(), attempts=0).sink_wait == 120.0


@pytest.mark.rule("sink-3")
def test_a_refused_record_has_its_pauses_and_is_then_dead() -> None:
    refused = SinkFault(Blame.REFUSED, "HTTP 400")
    decided = [after_failure(refused, SinkState(), attempts) for attempts in range(len(REFUSAL_PAUSES) + 1)]
    assert [each.record_wait for each in decided] == [*REFUSAL_PAUSES, None]
    assert all(each.counts and each.is_refusal and each.sink_wait is None for each in decided)


@pytest.mark.rule("sink-4")
def test_after_five_refusals_in_a_row_the_sink_waits_and_no_record_pays() -> None:
    decided = after_failure(SinkFault(Blame.REFUSED, "exit code 1"), SinkState(refusals=5), attempts=3)
    assert (decided.counts, decided.is_refusal, decided.record_wait is None) == (False, True, False)
    assert decided.sink_wait is not None


@pytest.mark.rule("sink-2", "sink-4")
def test_refusals_that_are_about_one_record_never_make_the_sink_wait() -> None:
    refused = SinkFault(Blame.REFUSED, "no such document", is_of_record=True)
    decided = after_failure(refused, SinkState(refusals=5), attempts=0)
    assert (decided.sink_wait, decided.record_wait, decided.counts) == (None, REFUSAL_PAUSES[0], True)
    assert decided.state == SinkState(refusals=5), "it says nothing about the sink"
    assert after_failure(refused, SinkState(), attempts=len(REFUSAL_PAUSES)).record_wait is None
