"""The breaker: what opens it, when a trial is due, what closes it, and which failures are too old to count."""

import time

import pytest

from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.slots import breaker, slots
from dagster_offload.ledger.slots.breaker import TrialEnd, TrialTurn
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY
from tests.support.ledger import SLOT, Bench
from tests.support.patience import PATIENCE_SECONDS


def open_it(bench: Bench, wait: float | None = None, *, epoch: int = 1, at_once: bool = False) -> bool:
    return bench.ledger.run(breaker.open_breaker, DEEP, epoch, "upstream_cold", wait, at_once=at_once)


def seconds_to_retry(bench: Bench) -> int:
    """Seconds until the next trial is due, rounded up to five: some time has passed since it was scheduled."""
    (row,) = bench.sql("select ceil(extract(epoch from retry_at - clock_timestamp()) / 5)::integer * 5 as s from slots")
    return int(row["s"])


def reach_retry_at(bench: Bench) -> None:
    bench.sql("update slots set retry_at = clock_timestamp()")


def refuse(bench: Bench, wait: float | None = None, *, is_misconfigured: bool = False) -> SlotRow:
    worker, epoch = bench.worker("sensor"), bench.slot().epoch
    reach_retry_at(bench)
    assert bench.begin_trial(worker, epoch) is TrialTurn.YOURS
    end = TrialEnd(False, "editor_busy", is_misconfigured, wait)
    return bench.ledger.run(breaker.end_trial, DEEP, worker, epoch, end, SLOT.url)


@pytest.mark.parametrize(("retry_after", "expected"), [(None, 15), (120.0, 120), (5.0, 5)])
def test_after_opening_a_trial_is_due_after_retry_after_else_after_15_seconds(
    bench: Bench, retry_after: float | None, expected: float
) -> None:
    assert open_it(bench, retry_after)
    row = bench.slot()
    assert (row.breaker, row.reason, row.is_retry_due) == (BreakerState.OPEN, "upstream_cold", False)
    assert row.refusal_wait_seconds == retry_after
    assert seconds_to_retry(bench) == expected


def test_a_fault_that_a_document_may_have_caused_makes_a_trial_due_at_once(bench: Bench) -> None:
    open_it(bench, at_once=True)
    assert bench.slot().is_retry_due


def test_a_second_deferral_stores_its_wait_and_does_not_move_the_next_trial(bench: Bench) -> None:
    open_it(bench, 300.0)
    assert open_it(bench, 40.0)
    assert seconds_to_retry(bench) == 300
    assert bench.slot().refusal_wait_seconds == 40.0


@pytest.mark.rule("breaker-3")
def test_refused_trials_wait_15_seconds_doubling_to_45(bench: Bench) -> None:
    open_it(bench)
    waits = []
    for _ in range(4):
        refuse(bench)
        waits.append(seconds_to_retry(bench))
    assert waits == [15, 30, 45, 45]


def test_the_retry_after_of_a_refused_trial_has_precedence(bench: Bench) -> None:
    open_it(bench)
    assert refuse(bench, 200.0).refusal_wait_seconds == 200.0
    assert seconds_to_retry(bench) == 200


def test_an_answered_trial_closes_the_breaker_raises_the_epoch_and_resets_the_waits(bench: Bench) -> None:
    open_it(bench)
    refuse(bench)
    refuse(bench)
    bench.close_breaker()
    row = bench.slot()
    assert (row.breaker, row.epoch, row.reason, row.retry_at) == (BreakerState.CLOSED, 2, None, None)
    open_it(bench, epoch=2)
    refuse(bench)
    assert seconds_to_retry(bench) == 15


def test_an_old_calls_failure_cannot_open_a_newer_epoch(bench: Bench) -> None:
    open_it(bench)
    bench.close_breaker()
    assert not open_it(bench, epoch=1)
    assert bench.slot().breaker is BreakerState.CLOSED
    assert open_it(bench, epoch=2)


def test_an_old_trials_answer_cannot_close_a_newer_epoch(bench: Bench) -> None:
    open_it(bench)
    bench.close_breaker()
    open_it(bench, epoch=2)
    late = bench.worker()
    bench.ledger.run(breaker.end_trial, DEEP, late, 1, TrialEnd(True, "answered"), SLOT.url)
    row = bench.slot()
    assert (row.breaker, row.epoch) == (BreakerState.OPEN, 2)


@pytest.mark.rule("breaker-4")
def test_one_trial_runs_at_a_time_and_all_workers_use_its_result(bench: Bench) -> None:
    open_it(bench, at_once=True)
    first, second = bench.worker(), bench.worker()

    def turn(worker: int) -> TrialTurn:
        return bench.begin_trial(worker, 1)

    assert turn(first) is TrialTurn.YOURS
    assert turn(second) is TrialTurn.WAIT
    bench.ledger.run(breaker.end_trial, DEEP, first, 1, TrialEnd(False, "warming"), SLOT.url)
    assert turn(second) is TrialTurn.REFUSED
    reach_retry_at(bench)
    assert turn(second) is TrialTurn.YOURS
    bench.ledger.run(breaker.end_trial, DEEP, second, 1, TrialEnd(True, "answered"), SLOT.url)
    assert turn(first) is TrialTurn.ANSWERED


def test_a_trial_of_a_dead_worker_does_not_block_the_next(bench: Bench) -> None:
    open_it(bench, at_once=True)
    dead = bench.worker()
    bench.begin_trial(dead, 1)
    assert bench.slot().is_trial_running
    bench.die(dead)
    assert not bench.slot().is_trial_running
    assert bench.begin_trial(bench.worker(), 1) is TrialTurn.YOURS


def test_a_trial_of_a_reclaimed_worker_does_not_block_the_next(bench: Bench) -> None:
    open_it(bench, at_once=True)
    lost = bench.worker()
    bench.die(lost)
    bench.begin_trial(lost, 1)
    assert bench.begin_trial(bench.worker(), 1) is TrialTurn.YOURS


def test_a_healthy_probe_after_an_unhealthy_one_makes_a_trial_due(bench: Bench) -> None:
    open_it(bench, 3600.0)
    assert not bench.ledger.run(breaker.note_probe, DEEP, is_healthy=True, reason="ok").is_retry_due
    assert not bench.ledger.run(breaker.note_probe, DEEP, is_healthy=False, reason="warming").is_retry_due
    assert bench.ledger.run(breaker.note_probe, DEEP, is_healthy=True, reason="ok").is_retry_due


def test_a_refused_trial_resets_the_sequence_of_probes(bench: Bench) -> None:
    open_it(bench)
    bench.ledger.run(breaker.note_probe, DEEP, is_healthy=False, reason="warming")
    refuse(bench)
    assert not bench.ledger.run(breaker.note_probe, DEEP, is_healthy=True, reason="ok").is_retry_due


def test_a_probe_never_opens_or_closes_the_breaker(bench: Bench) -> None:
    bench.ledger.run(breaker.note_probe, DEEP, is_healthy=False, reason="warming")
    assert bench.slot().breaker is BreakerState.CLOSED
    open_it(bench)
    for _ in range(3):
        bench.ledger.run(breaker.note_probe, DEEP, is_healthy=True, reason="ok")
    assert bench.slot().breaker is BreakerState.OPEN


def seconds_of_its_reason(bench: Bench) -> float:
    (row,) = bench.sql("select extract(epoch from clock_timestamp() - reason_since)::double precision as s from slots")
    return float(row["s"])


def an_hour_passes(bench: Bench) -> None:
    bench.sql("update slots set reason_since = reason_since - interval '1 h', opened_at = opened_at - interval '1 h'")


def test_the_time_of_a_reason_is_when_it_became_the_reason(bench: Bench) -> None:
    open_it(bench)
    an_hour_passes(bench)
    assert refuse(bench).reason == "editor_busy"
    assert seconds_of_its_reason(bench) < 3600
    an_hour_passes(bench)
    refuse(bench)
    assert seconds_of_its_reason(bench) > 3600, "a repeated reason keeps its time"
    bench.ledger.run(slots.try_again, DEEP, "requested by command")
    assert seconds_of_its_reason(bench) < 3600
    bench.close_breaker()
    assert bench.slot().reason_since is None


def test_only_the_reason_of_an_unhealthy_probe_becomes_the_slots_reason(bench: Bench) -> None:
    open_it(bench)
    bench.ledger.run(slots.try_again, DEEP, "requested by command")
    an_hour_passes(bench)
    assert bench.ledger.run(breaker.note_probe, DEEP, is_healthy=False, reason="warming").reason == "warming"
    assert seconds_of_its_reason(bench) < 3600
    an_hour_passes(bench)
    bench.ledger.run(breaker.note_probe, DEEP, is_healthy=False, reason="warming")
    assert bench.ledger.run(breaker.note_probe, DEEP, is_healthy=True, reason="ok").reason == "warming"
    assert seconds_of_its_reason(bench) > 3600


def test_an_unhealthy_probe_with_the_same_reason_keeps_the_setting_to_check(bench: Bench) -> None:
    reason = "connection refused (check OFFLOAD_DEEP_URL)"
    bench.ledger.run(breaker.open_breaker, DEEP, 1, reason, None)
    an_hour_passes(bench)
    seen = bench.ledger.run(breaker.note_probe, DEEP, is_healthy=False, reason="connection refused")
    assert (seen.reason, seen.was_red_since_opening) == (reason, True)
    assert seconds_of_its_reason(bench) > 3600


@pytest.mark.rule("breaker-10")
def test_trials_of_a_misconfigured_slot_are_due_after_a_minute_and_then_at_growing_intervals(bench: Bench) -> None:
    open_it(bench)
    waits = []
    for _ in range(7):
        assert refuse(bench, is_misconfigured=True).breaker is BreakerState.MISCONFIGURED
        waits.append(seconds_to_retry(bench))
        assert bench.begin_trial(bench.worker(), 1) is TrialTurn.REFUSED
        bench.ledger.run(slots.register, SLOT)
        assert not bench.slot().is_retry_due, "unchanged settings make no trial due at once"
        reach_retry_at(bench)
    assert waits == [60, 120, 240, 480, 960, 1800, 1800]
    bench.close_breaker()
    assert bench.slot().breaker is BreakerState.CLOSED


def test_a_misconfigured_slot_that_becomes_unavailable_gets_trials_like_any_unavailable_slot(bench: Bench) -> None:
    open_it(bench)
    for _ in range(3):
        refuse(bench, is_misconfigured=True)
        reach_retry_at(bench)
    assert refuse(bench).breaker is BreakerState.OPEN
    assert seconds_to_retry(bench) == 45


@pytest.mark.rule("breaker-10")
def test_a_misconfigured_slot_that_becomes_healthy_gets_a_trial_at_once(bench: Bench) -> None:
    open_it(bench)
    reason = refuse(bench, is_misconfigured=True).reason
    assert not bench.ledger.run(breaker.note_probe, DEEP, is_healthy=True, reason="ok").is_retry_due
    red = bench.ledger.run(breaker.note_probe, DEEP, is_healthy=False, reason="connection refused")
    assert (red.is_retry_due, red.reason) == (False, reason)
    assert bench.ledger.run(breaker.note_probe, DEEP, is_healthy=True, reason="ok").is_retry_due


@pytest.mark.rule("breaker-10")
def test_a_changed_model_list_of_a_misconfigured_slot_makes_a_trial_due_at_once(bench: Bench) -> None:
    open_it(bench)
    refuse(bench, is_misconfigured=True)
    for models, is_due in (("a", False), ("a", False), ("a\nqwen", True)):
        bench.ledger.run(slots.note_models, DEEP, models)
        assert bench.slot().is_retry_due is is_due


# 429


def busy(bench: Bench, wait: float | None = 5.0, epoch: int = 1, *, sent_at: float | None = None) -> bool:
    sent_at = time.monotonic() if sent_at is None else sent_at
    return bench.ledger.run(breaker.count_busy, DEEP, epoch, "busy", wait, sent_at)


@pytest.mark.rule("slot-9")
def test_three_429s_in_a_row_without_a_success_open_the_breaker(bench: Bench) -> None:
    assert [busy(bench), busy(bench), busy(bench)] == [False, False, True]
    row = bench.slot()
    assert (row.breaker, row.reason, row.refusal_wait_seconds) == (BreakerState.OPEN, "busy", 5.0)


@pytest.mark.rule("slot-9")
def test_calls_of_several_workers_that_are_refused_together_count_as_one(bench: Bench) -> None:
    together = time.monotonic() - 60  # clearly before the first is counted: it is compared by two clocks
    assert [busy(bench, sent_at=together) for _ in range(9)] == [False] * 9
    assert not busy(bench)
    with bench.ledger.transaction() as cur:  # the clock of Postgres was set back
        cur.execute("update slots set busy_counted_at = clock_timestamp() + interval '1 hour'")
    assert busy(bench, sent_at=together)


def test_a_success_between_429s_resets_their_count(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    claim = bench.hold(worker, [CLASSIFY])
    busy(bench)
    busy(bench)
    bench.finish(worker, claim)
    assert [busy(bench), busy(bench)] == [False, False]
    assert bench.slot().breaker is BreakerState.CLOSED


@pytest.mark.rule("slot-9")
def test_one_429_with_a_wait_over_a_minute_opens_the_breaker(bench: Bench) -> None:
    assert not busy(bench, 60.0)
    assert busy(bench, 61.0)
    assert bench.slot().breaker is BreakerState.OPEN


def test_a_429_of_an_ended_epoch_neither_waits_nor_counts(bench: Bench) -> None:
    open_it(bench)
    bench.close_breaker()
    assert [busy(bench, 600.0) for _ in range(4)] == [True] * 4
    assert bench.slot().breaker is BreakerState.CLOSED


def test_opening_and_closing_notify_all_workers_at_once(bench: Bench) -> None:
    with bench.ledger.connect() as listener:
        listener.execute(f"listen {bench.ledger.channel}")
        open_it(bench)
        bench.close_breaker()
        messages = [notification.payload for notification in listener.notifies(timeout=PATIENCE_SECONDS, stop_after=3)]
    assert messages == ["breaker:deep", "started", "breaker:deep"]
