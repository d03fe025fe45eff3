"""A person's run over chosen documents: its slots and its priority."""

from collections.abc import Iterator
from typing import Any

import pytest

from dagster_offload.engine.runs import run_documents
from dagster_offload.engine.scan import scan
from dagster_offload.errors import NoSuchDocument, SettingsError, SlotLost
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.slots import slots
from dagster_offload.simulator.request_log import fingerprint
from dagster_offload.simulator.server import Router
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.engine import FILLER, DrainsHeard, Engine

HALF_AN_HOUR = 1800.0


@pytest.fixture
def primary() -> Iterator[Router]:
    with Router() as router:
        yield router


def with_primary(primary: Router, **changes: Any) -> dict[str, Any]:
    return {"primary_url": primary.url, "primary_model": "small", **changes}


def test_a_run_does_its_documents_and_no_others(engine: Engine) -> None:
    engine.texts("a.txt", "b.txt", "c.txt")
    summary = engine.run("a.txt", "c.txt")
    assert (summary.done, summary.failed, summary.wait_seconds) == (2, (), None)
    assert len(engine.asked()) == 4
    assert engine.state("b.txt", CLASSIFY) == State.PENDING


def test_a_run_over_finished_documents_makes_no_call(engine: Engine) -> None:
    engine.texts("a.txt")
    engine.drain()
    assert engine.run("a.txt").done == 1
    assert len(engine.asked()) == 2


def test_a_run_at_an_unavailable_slot_waits_half_an_hour_and_fails_no_document(engine: Engine) -> None:
    engine.router.set(mode="cold")
    engine.texts("a.txt", "b.txt")
    summary = engine.run("a.txt", "b.txt")
    assert (summary.done, summary.failed, summary.wait_seconds, summary.is_deferral) == (0, (), HALF_AN_HOUR, True)
    assert "upstream_cold" in str(summary.wait_reason)


def test_a_run_waits_as_long_as_the_last_refusal_asked_even_without_a_call_of_its_own(engine: Engine) -> None:
    engine.router.set(mode="busy", retry_after="120")
    engine.texts("a.txt")
    assert engine.run("a.txt").wait_seconds == 120
    assert engine.run("a.txt").wait_seconds == 120
    assert len(engine.router.completions()) == 1


def test_a_run_fails_at_once_if_a_document_failed(engine: Engine) -> None:
    engine.texts("a.txt", "b.txt")
    engine.sql(
        "update work_items set state = 'failed', reason = 'no_json: why' where document_id = 1 and stage = 'classify'"
    )
    summary = engine.run("a.txt", "b.txt")
    assert [(u.document, u.stage, u.state) for u in summary.failed] == [("a.txt", CLASSIFY, State.FAILED)]
    assert summary.wait_seconds is None
    assert engine.state("b.txt", SUMMARIZE) == State.DONE


def test_a_run_checks_again_after_30_seconds_if_another_worker_holds_the_rest(engine: Engine) -> None:
    engine.texts("a.txt")
    engine.hold(engine.worker())
    summary = engine.run("a.txt")
    assert (summary.done, summary.wait_seconds, summary.is_deferral) == (0, 30.0, False)


def test_a_run_waits_out_a_back_off(engine: Engine) -> None:
    engine.router.set(answers="empty")
    engine.texts("a.txt")
    summary = engine.run("a.txt")
    assert summary.wait_seconds is not None
    assert 30 < summary.wait_seconds <= 60, "a run that another worker blocks checks again after 30 s"
    assert not summary.is_deferral


def test_an_unknown_document_key_is_refused_and_writes_nothing(engine: Engine) -> None:
    engine.texts("a.txt")
    with pytest.raises(NoSuchDocument, match=r"typed\.txt"):
        engine.run("a.txt", "typed.txt")
    with pytest.raises(NoSuchDocument, match=r"4\.txt and 2 more"):
        engine.run("a.txt", *(f"{number}.txt" for number in range(7)))
    assert engine.asked() == []
    assert engine.sql("select 1 from workers where kind = 'run'") == []
    assert engine.sql("select 1 from documents where key = 'typed.txt'") == []


@pytest.mark.rule("slot-8")
def test_a_lost_deep_slot_refuses_and_names_the_fix(engine: Engine, primary: Router) -> None:
    engine.texts("a.txt")
    with pytest.raises(SlotLost, match="slot forget deep"):
        engine.run("a.txt", **with_primary(primary), **without_deep(engine))
    assert primary.completions() == []
    engine.ledger.run(slots.forget, DEEP)
    assert engine.run("a.txt", **with_primary(primary), **without_deep(engine)).done == 1
    assert len(primary.completions()) == 2


def without_deep(engine: Engine) -> dict[str, Any]:
    for name in [name for name in engine.options if name.startswith("deep_")]:
        del engine.options[name]
    return {}


def test_a_run_without_any_slot_names_the_settings(engine: Engine) -> None:
    engine.texts("a.txt")
    engine.ledger.run(slots.forget, DEEP)
    without_deep(engine)
    with pytest.raises(SettingsError, match="OFFLOAD_DEEP_URL"):
        engine.run("a.txt")


@pytest.mark.parametrize("mode", ["cold", "warming", "busy", "cut", "refuse"])
def test_primary_is_never_called_for_deep_work_while_a_deep_slot_is_configured(
    engine: Engine, primary: Router, mode: str
) -> None:
    engine.router.set(mode=mode)
    engine.texts("a.txt", "b.txt")
    engine.run("a.txt", "b.txt", **with_primary(primary))
    engine.run("a.txt", "b.txt", **with_primary(primary))
    assert primary.completions() == []


@pytest.mark.rule("slot-8")
def test_only_any_stages_use_primary_while_the_deep_slot_is_unavailable(engine: Engine, primary: Router) -> None:
    engine.router.set(mode="cold")
    engine.texts("a.txt", "b.txt")
    options = with_primary(primary, any_stages="classify")
    summary = engine.run("a.txt", "b.txt", **options)
    assert engine.counts(CLASSIFY, **options).done == 2, "also the one deferred by the deep slot"
    assert engine.counts(SUMMARIZE, **options).done == 0
    assert {entry["stage"] for entry in primary.completions()} == {CLASSIFY}
    assert summary.is_deferral


def test_any_stages_use_the_deep_slot_while_it_answers(engine: Engine, primary: Router) -> None:
    engine.texts("a.txt")
    assert engine.run("a.txt", **with_primary(primary, any_stages="classify,summarize")).done == 1
    assert primary.completions() == []


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_persons_run_gets_the_slot_after_the_drains_current_call(
    engine: Engine, drains_heard: DrainsHeard, concurrency: int
) -> None:
    engine.texts(*[f"{n}.txt" for n in range(6)], "wanted.txt")
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain, deep_concurrency=concurrency)
    engine.router.wait(open=concurrency)
    person = engine.beside(engine.run, "wanted.txt", deep_concurrency=concurrency)
    engine.wait_until("select 1 from permit_waiters where is_person")
    drains_heard()
    engine.router.set(hold=False)
    assert person.result().done == 1
    assert drain.result().done >= 6
    order = [document for document, _stage in engine.asked()]
    wanted = fingerprint(f"wanted.txt\n{FILLER}")
    assert wanted in order[concurrency : 2 * concurrency + 1]
    assert engine.counts(SUMMARIZE).done == 7
    assert len(order) == 14


def test_a_run_first_extracts_missing_texts(engine: Engine) -> None:
    (engine.library / "note.txt").write_text(FILLER)
    scan(engine.settings(), engine.ledger)
    assert engine.state("note.txt", EXTRACT) == State.PENDING
    assert engine.run("note.txt").done == 1
    assert engine.item("note.txt", SUMMARIZE)["outcome"] == "ok"


def test_a_run_of_extraction_alone_needs_no_slot(engine: Engine) -> None:
    (engine.library / "note.txt").write_text(FILLER)
    engine.scan()
    engine.ledger.run(slots.forget, DEEP)
    without_deep(engine)
    summary = run_documents(engine.settings(), engine.ledger, ["note.txt"], [EXTRACT])
    assert (summary.done, summary.wait_seconds) == (1, None)
