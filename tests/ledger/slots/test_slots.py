"""Slots in the ledger: what sets N, changed settings, a slot missing from the settings, a forgotten slot."""

from dataclasses import replace

import pytest

from dagster_offload.errors import SlotForgotten, SlotLost
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.slots import breaker, slots
from dagster_offload.slot.config import DEEP, PRIMARY, SlotConfig, Slots
from dagster_offload.stages.graph import CLASSIFY
from tests.support.ledger import SLOT, Bench

SMALL = SlotConfig(PRIMARY, "http://small:1", "small")


def register(bench: Bench, **changes: object) -> SlotRow:
    return bench.ledger.run(slots.register, replace(SLOT, **changes))  # type: ignore[arg-type]


def misconfigure(bench: Bench) -> None:
    worker = bench.worker("sensor")
    bench.ledger.run(breaker.open_breaker, DEEP, 1, "HTTP 401", None, at_once=True)
    bench.begin_trial(worker, 1)
    bench.ledger.run(
        breaker.end_trial, DEEP, worker, 1, breaker.TrialEnd(False, "HTTP 401", is_misconfigured=True), SLOT.url
    )


def test_n_follows_a_changed_setting_and_until_then_the_command_has_precedence(bench: Bench) -> None:
    assert register(bench, concurrency=3).permits == 3
    bench.ledger.run(slots.set_permits, DEEP, 7)
    assert register(bench, concurrency=3).permits == 7
    assert register(bench, concurrency=4).permits == 4


@pytest.mark.rule("breaker-10")
@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://other:1"},
        {"model": "other"},
        {"api_key": "a key"},
        {"expected_model": "Qwen"},
        {"health_path": "/healthz"},
        {"context_tokens": 65_536},
    ],
)
def test_a_changed_setting_makes_a_trial_due_at_a_misconfigured_slot(bench: Bench, changes: dict[str, object]) -> None:
    misconfigure(bench)
    row = register(bench, **changes)
    assert (row.breaker, row.is_retry_due, row.reason) == (
        BreakerState.OPEN,
        True,
        "the settings changed: a trial is due",
    )


def test_unchanged_settings_or_another_n_make_no_trial_due(bench: Bench) -> None:
    misconfigure(bench)
    register(bench)
    register(bench, concurrency=9, read_timeout=5.0)
    assert bench.slot().breaker is BreakerState.MISCONFIGURED


def test_a_stored_fingerprint_does_not_change_between_versions() -> None:
    """A changed fingerprint would make a trial due at every misconfigured slot after an upgrade."""
    assert SlotConfig("deep", "http://slot:1", "qwen").fingerprint == "b36b97478e9aacce"


def test_a_changed_setting_leaves_a_closed_breaker_closed(bench: Bench) -> None:
    row = register(bench, url="http://other:1")
    assert (row.breaker, row.url) == (BreakerState.CLOSED, "http://other:1")


def test_the_ledger_holds_no_api_key(bench: Bench) -> None:
    register(bench, api_key="sk-very-secret")
    assert "very-secret" not in str(bench.sql("select * from slots"))


def test_try_again_makes_a_trial_due_at_a_misconfigured_slot(bench: Bench) -> None:
    misconfigure(bench)
    bench.ledger.run(slots.try_again, DEEP, "requested by command")
    assert bench.slot().is_retry_due


def test_a_deep_slot_missing_from_the_settings_raises_with_both_remedies(bench: Bench) -> None:
    with pytest.raises(SlotLost) as refused:
        bench.ledger.run(slots.refuse_lost_slot, Slots(primary=SMALL))
    for part in ("OFFLOAD_DEEP_URL", "http://slot:1", "qwen", "slot forget deep"):
        assert part in str(refused.value)
    bench.ledger.run(slots.refuse_lost_slot, Slots(primary=SMALL, deep=SLOT))


def test_the_error_for_a_lost_slot_shows_no_password(bench: Bench) -> None:
    row = register(bench, url="http://me:s3cret@laptop:8890/llm")
    with pytest.raises(SlotLost, match=r"\(http://laptop:8890/llm\)") as raised:
        bench.ledger.run(slots.refuse_lost_slot, Slots())
    assert "s3cret" not in str(raised.value)
    assert "s3cret" not in repr(row)


def test_a_forgotten_slot_raises_no_error_and_its_deferred_work_is_due_at_other_slots(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker))
    assert bench.ledger.run(slots.forget, DEEP)
    assert not bench.ledger.run(slots.forget, DEEP)
    bench.ledger.run(slots.refuse_lost_slot, Slots(primary=SMALL))
    assert bench.take(worker, [CLASSIFY]) is not None


def test_a_slot_that_is_forgotten_and_configured_again_starts_from_scratch(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    for epoch in (1, 2):
        bench.defer(worker, bench.hold(worker), epoch=epoch)
        bench.close_breaker()
    bench.defer(worker, bench.hold(worker), epoch=3)
    bench.acquire(worker)
    bench.ledger.run(slots.forget, DEEP)
    row = register(bench)
    assert (row.breaker, row.epoch) == (BreakerState.CLOSED, 1)
    assert bench.sql("select 1 from permits") == []
    assert bench.take(worker) is not None


def test_a_ledger_that_never_had_a_deep_slot_raises_no_slot_lost(bench: Bench) -> None:
    bench.ledger.run(slots.forget, DEEP)
    bench.ledger.run(slots.register, SMALL)
    bench.ledger.run(slots.refuse_lost_slot, Slots(primary=SMALL))
    assert [row.name for row in bench.ledger.run(slots.list_slots)] == [PRIMARY]


def test_the_error_for_an_unknown_slot_names_it(bench: Bench) -> None:
    with pytest.raises(SlotForgotten, match="nowhere"):
        bench.ledger.run(slots.set_permits, "nowhere", 2)
    with pytest.raises(SlotForgotten, match="nowhere"):
        bench.ledger.run(slots.locked, "nowhere")
