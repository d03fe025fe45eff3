"""Automatic concurrency in the slot's row: measured over all workers' calls, restarted at each wake, overridden by command."""

from dataclasses import replace
from typing import Any

import pytest

from dagster_offload.ledger.core.rows import SlotRow
from dagster_offload.ledger.slots import breaker, concurrency, permits, slots
from dagster_offload.slot.config import DEEP
from tests.support.ledger import SLOT, Bench
from tests.support.patience import PATIENCE_SECONDS

AUTO = replace(SLOT, concurrency="auto")
PATIENT = 1000.0


@pytest.fixture
def auto(bench: Bench) -> Bench:
    bench.ledger.run(slots.register, AUTO)
    steer(bench)
    return bench


def steer(bench: Bench, longest: float = PATIENT) -> SlotRow:
    return bench.ledger.run(concurrency.steer, DEEP, longest)


def calls(bench: Bench, lanes: int, rounds: int, seconds: float, outcome: str = "ok", worker: int = 1) -> None:
    """Calls for documents, `lanes` at once, one after the other from the last change of concurrency until now."""
    bench.sql("update calls set ended_at = ended_at - make_interval(secs => %s)", rounds * seconds)  # time passes
    bench.sql(
        "update slots set concurrency_since = clock_timestamp() - make_interval(secs => %s)", rounds * seconds + 0.001
    )
    bench.sql(
        "insert into calls (item_id, worker_id, slot, epoch, asked_model, tokens_in, tokens_out, seconds, outcome, ended_at) "
        "select 1, %s, 'deep', 1, 'qwen', 1600, 50, %s, %s, clock_timestamp() - make_interval(secs => %s * round) "
        "from generate_series(1, %s), generate_series(0, %s) as round",
        worker,
        seconds,
        outcome,
        seconds,
        lanes,
        rounds - 1,
    )


def hold_permits(bench: Bench, number: int) -> None:
    bench.sql("delete from permits")
    worker = bench.worker()
    assert all(bench.acquire(worker) for _ in range(number))


def climb(bench: Bench, to: int) -> None:
    """Calls at a server that is never at its limit."""
    while bench.slot().permits < to:
        wide = bench.slot().permits
        hold_permits(bench, wide)
        calls(bench, wide, 6, 1.0)
        steer(bench)


def test_auto_starts_at_1_and_differs_from_the_number_1(auto: Bench) -> None:
    assert (auto.slot().permits, auto.slot().is_auto) == (1, True)
    row = auto.ledger.run(slots.register, SLOT)
    assert (row.permits, row.is_auto) == (2, False)


def test_calls_of_all_workers_count_for_the_slots_concurrency(auto: Bench) -> None:
    hold_permits(auto, 1)
    calls(auto, 1, 2, 1.0, worker=1)
    assert steer(auto).permits == 1, "too few yet"
    calls(auto, 1, 2, 1.0, worker=2)
    auto.sql("update slots set concurrency_since = concurrency_since - interval '2.5 s'")
    assert steer(auto).permits == 2
    assert auto.acquire(auto.worker()), "any worker may take the second permit"
    assert not auto.acquire(auto.worker())


def test_calls_begun_before_a_change_do_not_count_for_it(auto: Bench) -> None:
    hold_permits(auto, 1)
    calls(auto, 1, 8, 1.0)
    auto.sql("update slots set concurrency_since = clock_timestamp() - interval '3.5 s'")
    assert steer(auto).permits == 1


def test_too_few_calls_change_nothing_and_a_decrease_notifies_the_holders(auto: Bench) -> None:
    climb(auto, 3)
    hold_permits(auto, 3)
    with auto.ledger.connect() as listener:
        listener.execute(f"listen {auto.ledger.channel}")
        calls(auto, 1, 1, 0.01, outcome=concurrency.BUSY)
        row = steer(auto)
        assert [note.payload for note in listener.notifies(timeout=PATIENCE_SECONDS, stop_after=1)] == ["wanted:deep"]
    assert row.permits == 2
    assert row.concurrency_found is None or row.concurrency_found["concurrency"] == 2


def test_the_found_concurrency_is_stored_for_people(auto: Bench) -> None:
    climb(auto, 3)
    hold_permits(auto, 3)
    calls(auto, 3, 15, 1.5)  # three calls in the time of three: the server works on two at once
    row = steer(auto)
    assert (row.permits, row.is_auto) == (2, True)
    assert row.concurrency_found is not None
    assert row.concurrency_found["concurrency"] == 2
    assert row.concurrency_found["speed_up"] == pytest.approx(2.0, rel=0.05)


def test_tokens_that_are_read_again_do_not_count_as_work(auto: Bench) -> None:
    """More documents are in flight than fit the server's prompt cache: nothing comes from it, and calls take longer."""
    climb(auto, 3)
    hold_permits(auto, 3)
    calls(auto, 3, 15, 1.5)
    auto.sql("update calls set tokens_cached = case when seconds < 1.5 then 1500 else 0 end")
    assert steer(auto).permits == 2


@pytest.mark.parametrize("count", [None, 0])
def test_without_token_counts_each_call_counts_as_one(auto: Bench, count: int | None) -> None:
    for wide in (1, 2):
        hold_permits(auto, wide)
        calls(auto, wide, 6, 1.0)
        auto.sql("update calls set tokens_in = %s, tokens_out = %s", count, count)
        assert steer(auto).permits == wide + 1


def test_it_never_exceeds_the_prompt_cache_size(auto: Bench) -> None:
    auto.ledger.run(slots.set_prompt_cache_size, DEEP, 2)
    climb(auto, 2)
    hold_permits(auto, 2)
    calls(auto, 2, 8, 1.0)
    assert steer(auto).permits == 2


def test_a_slot_that_was_unavailable_starts_at_1_again_and_still_shows_the_last_result(auto: Bench) -> None:
    climb(auto, 3)
    auto.sql("""update slots set concurrency_found = '{"concurrency": 3}'""")
    auto.sql("delete from permits")
    auto.ledger.run(breaker.open_breaker, DEEP, 1, "upstream_cold", None)
    auto.sql("update slots set opened_at = opened_at - interval '20 s'")
    auto.close_breaker()
    assert (auto.slot().permits, auto.slot().concurrency_found) == (1, {"concurrency": 3})
    assert steer(auto).permits == 1


def test_a_slot_that_was_unavailable_starts_at_1_again_also_after_try_again(auto: Bench) -> None:
    climb(auto, 3)
    auto.sql("delete from permits")
    auto.ledger.run(breaker.open_breaker, DEEP, 1, "upstream_cold", None)
    auto.sql("update slots set opened_at = opened_at - interval '20 s'")
    auto.ledger.run(slots.try_again, DEEP, "requested by command")
    auto.close_breaker()
    assert auto.slot().permits == 1


def test_an_immediate_trial_after_a_document_fault_is_no_wake(auto: Bench) -> None:
    climb(auto, 3)
    auto.ledger.run(breaker.open_breaker, DEEP, 1, "HTTP 500", None, at_once=True)
    worker = auto.worker()
    auto.begin_trial(worker, 1)
    auto.ledger.run(breaker.end_trial, DEEP, worker, 1, breaker.TrialEnd(True, "answered"), SLOT.url)
    assert (auto.slot().permits, auto.slot().epoch) == (3, 2)


def test_a_slot_that_was_idle_for_long_starts_at_1_again(auto: Bench) -> None:
    climb(auto, 3)
    auto.sql("update calls set ended_at = ended_at - interval '31 minutes'")
    auto.sql("update slots set concurrency_since = concurrency_since - interval '31 minutes'")
    assert steer(auto).permits == 1


def test_a_fixed_n_and_an_open_breaker_are_not_changed(bench: Bench) -> None:
    hold_permits(bench, 2)
    calls(bench, 2, 8, 1.0)
    assert steer(bench).permits == 2
    assert bench.sql("select concurrency_memory, permits from slots") == [{"concurrency_memory": None, "permits": 2}]
    bench.ledger.run(slots.register, AUTO)
    bench.ledger.run(breaker.open_breaker, DEEP, 1, "warming", None)
    assert steer(bench).permits == 1


def test_a_number_set_by_command_overrides_auto_until_the_variable_changes(auto: Bench) -> None:
    auto.ledger.run(slots.set_permits, DEEP, 7)
    row = auto.ledger.run(slots.register, AUTO)
    assert (row.permits, row.is_auto) == (7, False)
    assert auto.ledger.run(slots.register, replace(SLOT, concurrency=3)).permits == 3
    row = auto.ledger.run(slots.register, AUTO)
    assert (row.permits, row.is_auto) == (1, True)


def test_auto_can_be_set_by_command_whatever_the_variable_is(bench: Bench) -> None:
    bench.ledger.run(slots.set_auto, DEEP)
    row = bench.ledger.run(slots.register, SLOT)
    assert (row.permits, row.is_auto) == (1, True)


@pytest.mark.parametrize(("n", "prompt_cache_size", "held"), [(4, 2, 2), (2, 4, 2), (3, None, 3)])
def test_permits_are_limited_by_n_and_by_the_prompt_cache_size(
    bench: Bench, n: int, prompt_cache_size: Any, held: int
) -> None:
    bench.ledger.run(slots.set_permits, DEEP, n)
    bench.ledger.run(slots.set_prompt_cache_size, DEEP, prompt_cache_size)
    worker = bench.worker()
    assert sum(bench.acquire(worker) for _ in range(6)) == held


def test_permits_above_a_lowered_prompt_cache_size_are_returned_after_the_current_call(bench: Bench) -> None:
    worker = bench.worker()
    assert bench.acquire(worker)
    assert bench.acquire(worker)
    assert not bench.ledger.run(permits.give_up_if_wanted, DEEP, worker, is_person=False)
    bench.ledger.run(slots.set_prompt_cache_size, DEEP, 1)
    assert bench.ledger.run(permits.give_up_if_wanted, DEEP, worker, is_person=False)
    assert not bench.ledger.run(permits.give_up_if_wanted, DEEP, worker, is_person=False)


def test_a_prompt_cache_size_set_by_command_overrides_the_servers(bench: Bench) -> None:
    assert bench.ledger.run(slots.learn_prompt_cache_size, DEEP, 4).prompt_cache_size == 4
    bench.ledger.run(slots.set_prompt_cache_size, DEEP, 2)
    assert bench.ledger.run(slots.learn_prompt_cache_size, DEEP, 8).prompt_cache_size == 2
    bench.ledger.run(slots.set_prompt_cache_size, DEEP, None)
    assert bench.ledger.run(slots.learn_prompt_cache_size, DEEP, 8).prompt_cache_size == 8
    assert bench.ledger.run(slots.learn_prompt_cache_size, DEEP, None).prompt_cache_size is None


def test_a_changed_url_clears_the_prompt_cache_size(bench: Bench) -> None:
    bench.ledger.run(slots.set_prompt_cache_size, DEEP, 2)
    row = bench.ledger.run(slots.register, replace(SLOT, url="http://other:1"))
    assert (row.prompt_cache_size, row.prompt_cache_size_from) == (None, None)
