"""Runs that begin while the running `up` takes over an edit of the settings."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import dagster as dg
import pytest

from dagster_offload import timing
from dagster_offload.definitions import build_definitions
from dagster_offload.engine import agreement
from dagster_offload.errors import OtherPipeline
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.pipelines import announce, refuse_other_pipeline
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.pipeline import Pipeline, pipeline_of
from tests.support.edge import Edge
from tests.support.stages import DRAIN_STAGES

Run = Callable[[Edge], dg.ExecuteInProcessResult]

RUNS = pytest.mark.parametrize(
    "run",
    [lambda edge: edge.materialize("a.txt", stages=DRAIN_STAGES), lambda edge: edge.run_job("drain")],
    ids=["run over chosen documents", "drain"],
)


@pytest.fixture
def edited(edge: Edge) -> Iterator[Settings]:
    """The settings after the edit, which the running `up` has taken over. The edge still has those before it."""
    edge.write(a="An invoice of 300 EUR for 3 chairs.")
    edge.scan()
    edited = load_settings(
        home=edge.settings.home,
        library=edge.settings.library,
        postgres_url=edge.settings.postgres_url,
        deep_url=edge.router.url,
        deep_model="qwen-macbook",
        classes="invoice, tax",
    )
    with Worker(edge.ledger, "up") as up, timing.use(take_over=0):
        edge.ledger.run(announce, up.id, pipeline_of(edited), None)
        yield edited


@pytest.mark.rule("pipeline-7")
@RUNS
def test_a_run_that_read_its_settings_before_the_edit_works_with_the_edited_ones(
    edge: Edge, edited: Settings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = [edge.settings]

    def check(cur: Cursor, here: Pipeline) -> None:
        try:
            refuse_other_pipeline(cur, here)
        except OtherPipeline:
            read.append(edited)
            raise

    monkeypatch.setattr(agreement, "refuse_other_pipeline", check)
    result = run(replace(edge, defs=build_definitions(lambda: read[-1])))
    assert result.success
    assert len(read) == 2
    recipes = edge.ledger.run(
        lambda cur: cur.execute("select recipe from work_items where stage = 'classify'").fetchall()
    )
    assert recipes == [{"recipe": pipeline_of(edited).recipes["classify"]}]


@RUNS
def test_a_run_whose_settings_stay_others_is_refused(edge: Edge, edited: Settings, run: Run) -> None:
    result = run(edge)
    assert not result.success
    assert edge.router.completions() == []
