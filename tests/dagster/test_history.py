"""Old runs are removed from Dagster, and no document looks unprocessed because of it."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from dagster_offload.defs.history import RUNS, Reached, keep_small, purge_runs
from dagster_offload.defs.names import names_of
from dagster_offload.ledger.retention import history
from dagster_offload.settings.sections.keep import MOST_DAYS, MOST_ROWS, KeepSection
from dagster_offload.stages.graph import BUILT_IN
from tests.support.edge import Edge

FOREVER = 3600.0


def purge(edge: Edge, **changes: object) -> bool:
    settings = edge.settings.model_copy(update={"keep": edge.settings.keep.model_copy(update=changes)})
    return purge_runs(edge.instance, settings, time.monotonic() + FOREVER) is None


def make_old(edge: Edge, *run_ids: str, days: int = 365) -> None:
    for run_id in run_ids:
        edge.make_run_older(run_id, days * 24 * 60)


def runs(edge: Edge) -> set[str]:
    return set(edge.instance.get_run_ids())


def event_types(edge: Edge, run_id: str) -> set[str | None]:
    with edge.ledger.transaction() as cur:
        cur.execute("select dagster_event_type from offload_dagster.event_logs where run_id = %s", [run_id])
        return {row["dagster_event_type"] for row in cur.fetchall()}


@pytest.mark.rule("keep-2")
def test_an_old_run_that_no_partition_needs_is_removed_with_its_events_and_its_output(edge: Edge) -> None:
    first = edge.scan().run_id
    second = edge.scan().run_id
    output = Path(edge.instance.storage_directory()) / first / "compute_logs"
    output.mkdir(parents=True)
    make_old(edge, first)
    assert purge(edge)
    assert runs(edge) == {second}
    assert event_types(edge, first) == set()
    assert not output.parent.exists()


def test_old_points_of_the_plots_are_removed_but_the_newest(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    with edge.ledger.transaction() as cur:
        cur.execute("update told set told_at = told_at - interval '1 hour'")
    edge.run_job("drain")
    with edge.ledger.transaction() as cur:
        cur.execute("update offload_dagster.event_logs set timestamp = timestamp - interval '1 year' where run_id = ''")
    assert len(edge.instance.fetch_observations(dg.AssetKey("backlog"), limit=10).records) == 2
    assert purge(edge)
    assert len(edge.instance.fetch_observations(dg.AssetKey("backlog"), limit=10).records) == 1


@pytest.mark.rule("keep-2")
def test_a_run_with_the_latest_materialization_of_a_document_stays_without_its_log(edge: Edge) -> None:
    edge.write(a="One.", b="Two.")
    run_id = edge.scan().run_id
    make_old(edge, run_id)
    assert "PIPELINE_SUCCESS" in event_types(edge, run_id)
    assert purge(edge)
    assert runs(edge) == {run_id}
    assert event_types(edge, run_id) == {"ASSET_MATERIALIZATION"}
    assert edge.partitions_done("extract") == {"a.txt", "b.txt"}
    (record,) = edge.materializations("extract", "a.txt")
    assert record.run_id == run_id
    assert purge(edge)
    assert event_types(edge, run_id) == {"ASSET_MATERIALIZATION"}


@pytest.mark.rule("keep-2")
def test_a_run_whose_materializations_were_all_repeated_is_removed(edge: Edge) -> None:
    edge.write(a="One.")
    old = edge.scan().run_id
    edge.instance.report_runless_asset_event(
        dg.AssetMaterialization(names_of(BUILT_IN).keys["extract"], partition="a.txt")
    )
    make_old(edge, old)
    assert purge(edge)
    assert old not in runs(edge)
    assert edge.partitions_done("extract") == {"a.txt"}


def test_a_run_whose_documents_are_gone_is_removed(edge: Edge) -> None:
    edge.write(a="One.")
    old = edge.scan().run_id
    edge.instance.delete_dynamic_partition("documents", "a.txt")
    make_old(edge, old)
    assert purge(edge)
    assert old not in runs(edge)


def test_recent_and_unfinished_runs_stay_with_their_events(edge: Edge) -> None:
    recent = edge.scan().run_id
    running = edge.start_run(dg.DagsterRunStatus.STARTED)
    make_old(edge, running)
    before = event_types(edge, recent)
    assert purge(edge)
    assert runs(edge) == {recent, running}
    assert event_types(edge, recent) == before


@pytest.mark.rule("keep-2")
def test_runs_are_limited_by_their_number_too(edge: Edge) -> None:
    made = [edge.start_run(dg.DagsterRunStatus.SUCCESS) for _ in range(5)]
    assert purge(edge, runs=2)
    assert runs(edge) == set(made[-2:])


def test_output_of_runs_that_a_person_deleted_is_removed_and_other_folders_stay(edge: Edge) -> None:
    import os

    storage = Path(edge.instance.storage_directory())
    orphan, recent, other = (
        storage / name
        for name in ("0" * 8 + "-0000-4000-8000-" + "0" * 12, "1" * 8 + "-0000-4000-8000-" + "1" * 12, "an_asset")
    )
    for folder in (orphan, recent, other):
        folder.mkdir(parents=True)
    long_ago = (datetime.now(UTC) - timedelta(days=365)).timestamp()
    for folder in (orphan, other):
        os.utime(folder, (long_ago, long_ago))
    assert purge(edge)
    assert (orphan.exists(), recent.exists(), other.exists()) == (False, True, True)


def test_a_tick_removes_old_runs_once_a_day(edge: Edge) -> None:
    old = edge.start_run(dg.DagsterRunStatus.SUCCESS)
    make_old(edge, old)
    edge.tick("library_sensor")
    assert old not in runs(edge)
    later = edge.start_run(dg.DagsterRunStatus.SUCCESS)
    make_old(edge, later)
    edge.tick("library_sensor")
    assert later in runs(edge)
    with edge.ledger.transaction() as cur:
        cur.execute("update upkeep set done_at = done_at - interval '25 hours'")
    edge.tick("library_sensor")
    assert later not in runs(edge)


def test_a_purge_that_has_no_time_left_goes_on_at_the_next_tick(edge: Edge) -> None:
    for _ in range(3):
        make_old(edge, edge.start_run(dg.DagsterRunStatus.SUCCESS))
    assert not keep_small(edge.settings, edge.ledger, lambda: edge.instance, 0.0)
    assert len(runs(edge)) < 3
    assert edge.ledger.run(history.is_due, RUNS)
    assert keep_small(edge.settings, edge.ledger, lambda: edge.instance, FOREVER)
    assert runs(edge) == set()


def test_a_purge_without_time_passes_runs_that_stay_and_removes_the_next(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this, each call would look at the runs that stay again, and never come to the others."""
    monkeypatch.setattr("dagster_offload.defs.history.PAGE", 1)
    old = [edge.start_run(dg.DagsterRunStatus.SUCCESS) for _ in range(2)]
    for name in ("a", "b"):
        edge.write(**{name: f"Letter {name}."})
        old.append(edge.scan().run_id)
    make_old(edge, *old)
    with edge.ledger.transaction() as cur:  # the scans did today's upkeep
        cur.execute("delete from upkeep")
    calls = 0
    while not keep_small(edge.settings, edge.ledger, lambda: edge.instance, 0.0):
        calls += 1
        assert calls <= 2 * len(old)
    assert runs(edge) == set(old[2:])
    assert edge.ledger.run(history.position, RUNS) is None


def test_a_position_whose_run_a_person_has_deleted_is_not_used(edge: Edge) -> None:
    old = edge.start_run(dg.DagsterRunStatus.SUCCESS)
    make_old(edge, old)
    nowhere = Reached.read(str(Reached(0, "a run that is gone")))
    assert purge_runs(edge.instance, edge.settings, time.monotonic() + FOREVER, nowhere) is None
    assert runs(edge) == set()


def test_runs_of_another_dagster_instance_are_not_touched(edge: Edge, tmp_path: Path) -> None:
    old = edge.start_run(dg.DagsterRunStatus.SUCCESS)
    make_old(edge, old)
    elsewhere = edge.settings.model_copy(update={"home": tmp_path / "another"})
    assert keep_small(elsewhere, edge.ledger, lambda: edge.instance, FOREVER)
    assert runs(edge) == {old}


def test_results_of_checks_are_removed_with_their_run_unless_they_are_the_newest(edge: Edge) -> None:
    edge.write(a="A letter to the landlord.")
    edge.scan()
    first, second = (edge.materialize("a.txt", stages=["classify"]).run_id for _ in range(2))
    checks = "select distinct run_id from offload_dagster.asset_check_executions where run_id <> '' order by 1"
    with edge.ledger.transaction() as cur:
        assert {row["run_id"] for row in cur.execute(checks.encode())} == {first, second}
    make_old(edge, first, second)
    assert purge(edge)
    assert first not in runs(edge)
    assert second in runs(edge)
    with edge.ledger.transaction() as cur:
        assert {row["run_id"] for row in cur.execute(checks.encode())} == {second}


def test_old_results_of_checks_without_a_run_are_removed_and_the_newest_of_each_asset_stays(edge: Edge) -> None:
    for number in range(3):
        edge.write(**{f"d{number}": f"Letter {number}."})
        edge.scan()

    def results() -> tuple[int, int, int]:
        """How many assets have a result, how many results there are, and how many events tell them."""
        with edge.ledger.transaction() as cur:
            cur.execute(
                "select count(distinct asset_key) as assets, count(*) as results, "
                "  (select count(*) from offload_dagster.event_logs "
                "  where run_id = '' and dagster_event_type = 'ASSET_CHECK_EVALUATION') as events "
                "from offload_dagster.asset_check_executions where run_id = ''"
            )
            row = cur.fetchone()
            assert row is not None
        return row["assets"], row["results"], row["events"]

    assets, before, events = results()
    assert before == events > assets
    with edge.ledger.transaction() as cur:
        cur.execute(
            "update offload_dagster.asset_check_executions set create_timestamp = create_timestamp - interval '1 year'"
        )
        cur.execute("update offload_dagster.event_logs set timestamp = timestamp - interval '1 year'")
    assert purge(edge)
    assert results() == (assets, assets, assets)


@pytest.mark.rule("keep-3")
def test_documents_that_are_gone_are_removed_each_day_only_if_the_setting_says_so(edge: Edge) -> None:
    edge.write(a="One.", b="Two.")
    edge.scan()
    assert edge.settings.library is not None
    (edge.settings.library / "a.txt").unlink()
    edge.scan()
    with edge.ledger.transaction() as cur:
        cur.execute("update documents set gone_at = gone_at - interval '10 years' where gone_at is not null")
        cur.execute("delete from upkeep")

    def known() -> list[str]:
        with edge.ledger.transaction() as cur:
            cur.execute("delete from upkeep")
            return [row["key"] for row in cur.execute("select key from documents order by key")]

    keep_small(edge.settings, edge.ledger, lambda: edge.instance, FOREVER)
    assert known() == ["a.txt", "b.txt"]
    keep_small(
        edge.settings.model_copy(update={"keep": KeepSection(gone_days=90)}),
        edge.ledger,
        lambda: edge.instance,
        FOREVER,
    )
    assert known() == ["b.txt"]


def test_the_largest_ages_and_numbers_keep_everything(edge: Edge) -> None:
    edge.write(a="One.")
    edge.scan()
    kept = runs(edge)
    forever = KeepSection(
        history_days=MOST_DAYS, runs_days=MOST_DAYS, gone_days=MOST_DAYS, history_rows=MOST_ROWS, runs=MOST_ROWS
    )
    with edge.ledger.transaction() as cur:
        cur.execute("delete from upkeep")
    settings = edge.settings.model_copy(update={"keep": forever})
    assert keep_small(settings, edge.ledger, lambda: edge.instance, FOREVER)
    assert runs(edge) == kept
