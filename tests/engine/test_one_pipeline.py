"""One home, one pipeline: a process whose recipes differ from those of the running `up` refuses before it writes."""

from collections.abc import Callable, Iterator

import pytest

from dagster_offload import timing
from dagster_offload.drain import SUPERSEDED
from dagster_offload.engine import agreement
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.errors import OtherPipeline
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.pipelines import announce, pipeline_message, refuse_other_pipeline, running_pipelines
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.stages.graph import CLASSIFY
from dagster_offload.stages.pipeline import Pipeline, pipeline_of
from tests.support.engine import Engine, Superseded
from tests.support.several_slots import BOTH, KEYS, Several

WRITTEN = "select count(*) as n, max(changed_at) as last, (select fingerprint from slots) as slot from work_items"


@pytest.fixture
def up(engine: Engine) -> Iterator[Worker]:
    """An `up` with the classes `invoice` and `letter`."""
    with Worker(engine.ledger, "up") as worker:
        engine.ledger.run(
            announce, worker.id, pipeline_of(engine.settings(classes="invoice,letter")), "/own/offload.yaml"
        )
        yield worker


@pytest.mark.rule("pipeline-1")
@pytest.mark.parametrize(
    "door",
    [
        lambda engine: engine.drain(classes="tax"),
        lambda engine: engine.run("a.txt", classes="tax"),
        lambda engine: decide_drain(engine.settings(classes="tax"), engine.ledger),
    ],
    ids=["drain", "run over chosen documents", "sensor"],
)
def test_a_door_with_other_recipes_refuses_before_it_writes(
    engine: Engine, up: Worker, door: Callable[[Engine], object]
) -> None:
    engine.texts("a.txt")
    before = engine.sql(WRITTEN)
    with timing.use(take_over=0), pytest.raises(OtherPipeline) as refused:
        door(engine)
    assert "stages.classify.classes is tax here and invoice, letter there (classify)" in str(refused.value)
    assert "/own/offload.yaml" in str(refused.value)
    assert "summarize" not in str(refused.value)
    assert engine.sql(WRITTEN) == before
    assert engine.asked() == []


@pytest.mark.rule("pipeline-1")
def test_a_run_waits_until_up_takes_over_an_edit_that_the_run_already_has(
    engine: Engine, up: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(cur: Cursor, here: Pipeline) -> None:
        try:
            refuse_other_pipeline(cur, here)
        except OtherPipeline:
            engine.ledger.run(announce, up.id, here, None)
            raise

    monkeypatch.setattr(agreement, "refuse_other_pipeline", check)
    engine.texts("a.txt")
    with timing.use(take_over=240):
        assert engine.run("a.txt", classes="tax").done == 1


def test_a_refusal_says_why_an_edit_is_not_in_force(engine: Engine, up: Worker) -> None:
    pipeline = pipeline_of(engine.settings(classes="invoice"))
    engine.ledger.run(announce, up.id, pipeline, "/own/offload.yaml", "3:5: there is no key `clases`")
    with timing.use(take_over=0), pytest.raises(OtherPipeline, match="not in force there: 3:5: there is no key"):
        engine.drain(classes="tax")


def test_a_door_with_the_same_recipes_works_beside_the_running_up(engine: Engine, up: Worker) -> None:
    engine.texts("a.txt")
    assert engine.drain(classes="invoice, letter").done == 1


def test_after_the_end_of_up_another_pipeline_works(engine: Engine) -> None:
    engine.texts("a.txt")
    with Worker(engine.ledger, "up") as worker:
        engine.ledger.run(announce, worker.id, pipeline_of(engine.settings(classes="invoice")), None)
    assert engine.drain(classes="tax").done == 1


def test_an_up_that_was_killed_refuses_nothing(engine: Engine, up: Worker) -> None:
    engine.texts("a.txt")
    engine.sql("update workers set boot_id = 'before the power cut' where kind = 'up'")
    assert engine.ledger.run(running_pipelines) == []
    assert engine.drain(classes="tax").done == 1


def test_a_scan_of_another_library_is_refused_while_up_runs(engine: Engine, up: Worker) -> None:
    engine.library = engine.library.parent / "another"
    engine.library.mkdir()
    engine.options["library"] = engine.library
    with pytest.raises(OtherPipeline, match="another: use one library for one home"):
        engine.scan()


def test_a_drain_ends_when_the_running_up_takes_over_an_edited_pipeline(engine: Engine, superseded: Superseded) -> None:
    engine.texts("a.txt", "b.txt", "c.txt")
    with Worker(engine.ledger, "up") as worker:
        engine.ledger.run(announce, worker.id, pipeline_of(engine.settings()), None)
        engine.router.set(hold=True)
        drain = engine.beside(engine.drain)
        engine.router.wait(open=1)
        engine.ledger.run(announce, worker.id, pipeline_of(engine.settings(classes="tax")), None)
        superseded("deep")
        engine.router.set(hold=False)
        summary = drain.result()
        assert len(engine.asked()) == 1, "the open call is answered, and no other is sent"
        assert summary.reason == "the running `up` took over an edited pipeline: the next drain works with it"
        assert engine.counts("classify").done == 1
        assert engine.drain(classes="tax").done == 3


def test_an_edit_that_changes_neither_a_recipe_nor_a_stages_slots_ends_no_drain(engine: Engine) -> None:
    assert pipeline_message(pipeline_of(engine.settings(classes="invoice"))) == pipeline_message(
        pipeline_of(engine.settings(classes="invoice", deep_concurrency=4))
    )


def test_an_announcement_can_change_and_name_a_problem(engine: Engine, up: Worker) -> None:
    pipeline = pipeline_of(engine.settings(classes="tax"))
    engine.ledger.run(announce, up.id, pipeline, "/own/offload.yaml", "3:5: there is no key")
    (running,) = engine.ledger.run(running_pipelines)
    assert (running.file, running.problem) == ("/own/offload.yaml", "3:5: there is no key")
    assert running.pipeline.recipes == pipeline.recipes


@pytest.mark.rule("pipeline-4")
def test_a_drain_ends_when_a_slot_is_removed_from_the_list_of_a_stage(several: Several, superseded: Superseded) -> None:
    several.engine.texts(*KEYS)
    with Worker(several.engine.ledger, "up") as worker:
        before = pipeline_of(several.engine.settings())
        several.engine.ledger.run(announce, worker.id, before, None)
        for router in (several.deep, several.studio):
            router.set(hold=True)
        drain = several.engine.beside(several.engine.drain)
        several.deep.wait(open=1)
        several.studio.wait(open=1)
        several.stages(classify=["deep"])
        edited = pipeline_of(several.engine.settings())
        assert edited.recipes == before.recipes, "otherwise the recipes alone would end the drain"
        several.engine.ledger.run(announce, worker.id, edited, None)
        superseded(*BOTH)
        for router in (several.deep, several.studio):
            router.set(hold=False)
        assert drain.result().reason == SUPERSEDED
        assert sum(several.answers().values()) == 2, "the open calls are answered, and no other is sent"
        assert several.engine.drain().done == 8
        assert several.answers()["studio", CLASSIFY] == 1


@pytest.mark.rule("pipeline-1")
def test_a_drain_with_other_slots_for_a_stage_than_the_running_up_refuses(several: Several) -> None:
    with Worker(several.engine.ledger, "up") as worker:
        several.engine.ledger.run(announce, worker.id, pipeline_of(several.engine.settings()), None)
        several.stages(classify=["deep"])
        with timing.use(take_over=0), pytest.raises(OtherPipeline) as refused:
            several.engine.drain()
        assert "stages.classify.slots is deep here and deep, studio there (classify)." in str(refused.value)
        assert "summarize" not in str(refused.value)


@pytest.mark.rule("pipeline-1")
def test_a_drain_with_another_order_of_the_slots_than_the_running_up_refuses(several: Several) -> None:
    with Worker(several.engine.ledger, "up") as worker:
        several.engine.ledger.run(announce, worker.id, pipeline_of(several.engine.settings()), None)
        several.stages(deep_priority=1)
        with timing.use(take_over=0), pytest.raises(OtherPipeline) as refused:
            several.engine.drain()
        assert "slots.deep.priority is 1 here and 0 there (classify, summarize)" in str(refused.value)
