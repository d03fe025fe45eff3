"""Partitions of several documents: green only while all their documents are done."""

import dataclasses
import os
import threading

import dagster as dg
import pytest

from dagster_offload.definitions import build_definitions
from dagster_offload.defs.checks import NAME as CHECK
from dagster_offload.defs.partitions import events as partition_events
from dagster_offload.ledger.work import redo
from tests.dagster.partitions.conftest import KEYS, green, partitioned, report, shown_as, write
from tests.support.edge import Edge
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stages import DRAIN_STAGES, STAGE_NAMES


def keys(edge: Edge) -> list[str]:
    return list(edge.instance.get_dynamic_partitions("documents"))


def newest(edge: Edge, stage: str, key: str) -> dg.AssetMaterialization:
    found = edge.materializations(stage, key)[0].asset_materialization
    assert found is not None
    return found


def data_version(edge: Edge, key: str) -> str:
    tags = newest(edge, "summarize", key).tags
    assert tags is not None
    return tags["dagster/data_version"]


@pytest.mark.rule("library-10")
def test_a_partition_is_a_folder_a_month_or_a_shard(edge: Edge) -> None:
    write(edge, "a.txt", "rent/b.txt", "rent/2025/c.txt", "rent/2025/d.txt")
    assert edge.settings.library is not None
    os.utime(edge.settings.library / "a.txt", (0, 1_760_000_000))
    for name in ("rent/b.txt", "rent/2025/c.txt", "rent/2025/d.txt"):
        os.utime(edge.settings.library / name, (0, 1_700_000_000))
    partitioned(edge, "folder").scan()
    assert keys(edge) == [".", "rent", "rent/2025"]
    partitioned(edge, "month").scan()
    assert sorted(keys(edge)) == ["2023-11", "2025-10"]
    partitioned(edge, "shard:1").scan()
    assert keys(edge) == ["shard-0000"]


@pytest.mark.rule("library-11")
def test_a_partition_is_green_once_its_last_document_is_done(folders: Edge) -> None:
    write(folders, "rent/a.txt", "rent/b.txt", "tax/c.txt")
    folders.scan()
    assert green(folders, "extract") == {"rent", "tax"}
    assert folders.run_job("drain", limit=1).success
    assert green(folders, "summarize") == set()
    assert folders.run_job("drain", limit=1).success
    assert green(folders, "summarize") == {"rent"}
    assert folders.run_job("drain").success
    for stage in STAGE_NAMES:
        assert green(folders, stage) == {"rent", "tax"}
        assert len(folders.materializations(stage)) == 2, "one event for each partition"


def test_the_event_of_a_partition_has_counts_and_few_names(folders: Edge) -> None:
    write(folders, *(f"rent/{number}.txt" for number in range(5)))
    folders.scan()
    drained = folders.run_job("drain")
    event = newest(folders, "summarize", "rent")
    metadata = {name: entry.value for name, entry in event.metadata.items()}
    assert metadata["documents"] == 5
    assert metadata["outcomes"] == {"ok": 5}
    assert metadata["served_models"] == {"simulated/extractive-8bit": 5}
    assert len(str(metadata["done last"]).split(", ")) == 3
    assert folders.materializations("summarize", "rent")[0].run_id == drained.run_id


def test_a_new_document_makes_its_partition_not_green_until_it_is_done(folders: Edge) -> None:
    write(folders, "rent/a.txt", "tax/c.txt")
    folders.scan()
    folders.run_job("drain")
    version = data_version(folders, "rent")
    write(folders, "rent/b.txt")
    folders.scan()
    assert green(folders, "extract") == {"rent", "tax"}
    assert green(folders, "summarize") == {"tax"}
    folders.run_job("drain")
    assert green(folders, "summarize") == {"rent", "tax"}
    assert data_version(folders, "rent") != version


def test_a_changed_document_makes_its_partition_not_green_and_is_reported_again(folders: Edge) -> None:
    write(folders, "rent/a.txt", "rent/b.txt")
    folders.scan()
    folders.run_job("drain")
    write(folders, "rent/b.txt", text="Another letter: it is cold.")
    folders.scan()
    assert green(folders, "summarize") == set()
    folders.run_job("drain")
    assert green(folders, "summarize") == {"rent"}
    assert len(folders.materializations("summarize", "rent")) == 1, "the withdrawn event belongs to no partition"
    assert len(folders.materializations("summarize")) == 2, "the history of the asset still has it"


@pytest.mark.parametrize("what", ["failed", "deferred"])
def test_a_partition_with_a_document_that_waits_or_failed_is_not_green(folders: Edge, what: str) -> None:
    write(folders, "rent/a.txt", "tax/c.txt")
    folders.scan()
    folders.run_job("drain")
    with folders.ledger.transaction() as cur:
        cur.execute("update work_items set state = 'pending' where stage = 'summarize' and document_id = 1")
        cur.execute("update work_items set state = %s where stage = 'summarize' and document_id = 1", [what])
    report(folders)
    assert green(folders, "summarize") == {"tax"}
    assert green(folders, "classify") == {"rent", "tax"}


def test_the_last_open_document_that_vanishes_completes_its_partition(folders: Edge) -> None:
    write(folders, "rent/a.txt", "rent/b.txt")
    folders.scan()
    folders.run_job("drain", limit=1)
    assert green(folders, "summarize") == set()
    assert folders.settings.library is not None
    with folders.ledger.transaction() as cur:
        (left,) = cur.execute(
            "select key from documents d where not exists (select from work_items i "
            "where i.document_id = d.document_id and stage = 'summarize' and state = 'done')"
        ).fetchall()
    (folders.settings.library / left["key"]).unlink()
    folders.scan()
    assert green(folders, "summarize") == {"rent"}
    assert newest(folders, "summarize", "rent").metadata["documents"].value == 1


def test_a_folder_that_returns_is_not_green_for_what_it_was_before(folders: Edge) -> None:
    write(folders, "rent/a.txt", "tax/c.txt")
    folders.scan()
    folders.run_job("drain")
    assert folders.settings.library is not None
    (folders.settings.library / "rent/a.txt").unlink()
    folders.scan()
    assert keys(folders) == ["tax"]
    write(folders, "rent/b.txt")
    folders.scan()
    assert keys(folders) == ["tax", "rent"]
    assert green(folders, "extract") == {"rent", "tax"}
    assert green(folders, "summarize") == {"tax"}


def test_a_redo_withdraws_the_green_at_once(folders: Edge) -> None:
    write(folders, "rent/a.txt", "rent/b.txt")
    folders.scan()
    folders.run_job("drain")
    assert folders.ledger.run(redo.redo, redo.Redo({"summarize": ""}, [1])) == 1
    folders.tick("drain_sensor")
    assert green(folders, "summarize") == set()


def test_a_page_that_was_being_computed_does_not_bring_the_green_back(folders: Edge) -> None:
    write(folders, "rent/a.txt")
    folders.scan()
    folders.run_job("drain")
    assert green(folders, "summarize") == {"rent"}
    (record,) = folders.instance.get_asset_records([KEYS["summarize"]])
    stale = record.asset_entry.cached_status
    assert stale is not None
    folders.ledger.run(redo.redo, redo.Redo({"summarize": ""}, [1]))
    report(folders)
    folders.instance.update_asset_cached_status_data(KEYS["summarize"], stale)
    assert green(folders, "summarize") == {"rent"}, "the page stored what it had read before"
    with folders.ledger.transaction() as cur:
        cur.execute("update partition_changes set check_at = check_at - interval '1 minute'")
    folders.tick("drain_sensor")
    assert green(folders, "summarize") == set()


def test_a_run_works_at_all_documents_of_its_partitions(folders: Edge) -> None:
    write(folders, "rent/a.txt", "rent/b.txt", "tax/c.txt", "tax/d.txt", "work/e.txt")
    folders.scan()
    result = folders.materialize("rent", "tax", stages=DRAIN_STAGES)
    assert result.success
    assert green(folders, "summarize") == {"rent", "tax"}
    assert {record.run_id for record in folders.materializations("summarize")} == {result.run_id}
    assert len(folders.router.completions()) == 8


def test_a_run_over_a_partition_that_a_drain_completed_records_it_without_a_call(folders: Edge) -> None:
    write(folders, "rent/a.txt", "rent/b.txt")
    folders.scan()
    folders.run_job("drain")
    calls = len(folders.router.completions())
    result = folders.materialize("rent", stages=DRAIN_STAGES)
    assert result.success
    for stage in DRAIN_STAGES:
        assert folders.materializations(stage, "rent")[0].run_id == result.run_id
    assert len(folders.router.completions()) == calls
    again = len(folders.materializations("summarize"))
    report(folders)
    assert len(folders.materializations("summarize")) == again


def test_a_failed_document_fails_the_run_by_name_and_its_partition_is_not_green(folders: Edge) -> None:
    write(folders, "rent/a.txt", "rent/b.txt", "tax/c.txt")
    folders.scan()
    with folders.ledger.transaction() as cur:
        cur.execute(
            "update work_items set state = 'failed', reason = 'no_json' from documents d "
            "where d.document_id = work_items.document_id and key = 'rent/b.txt' and stage = 'classify'"
        )
    result = folders.materialize("rent", stages=DRAIN_STAGES)
    assert not result.success
    (event,) = result.get_step_failure_events()
    data = event.step_failure_data.user_failure_data
    assert data is not None
    assert "1 of 2 documents failed" in str(data.description)
    assert "rent/b.txt" in str(data.description)
    assert shown_as(folders, "classify") == {"green": set(), "red": {"rent"}}


def test_a_run_waits_for_the_slot_and_then_completes_its_partition(folders: Edge) -> None:
    write(folders, "rent/a.txt", "rent/b.txt")
    folders.scan()
    folders.router.set(mode="busy", retry_after="1")
    waits = folders.listen_for("STEP_UP_FOR_RETRY", run_id := "8c9ae0f4-3f0e-4a8e-9f0c-5f3d2d7f9a11")

    def wake() -> None:
        waits.wait(PATIENCE_SECONDS)
        folders.router.set(mode="awake")

    waker = threading.Thread(target=wake)
    waker.start()
    result = folders.materialize("rent", stages=DRAIN_STAGES, run_id=run_id)
    waker.join()
    assert result.success
    assert green(folders, "summarize") == {"rent"}
    assert waits.is_set()


def test_a_run_that_names_a_partition_of_the_setting_before_says_so(edge: Edge) -> None:
    write(edge, "rent/a.txt")
    edge.scan()
    run = dg.DagsterRun(job_name="any", tags={"dagster/partition": "rent/a.txt"}, status=dg.DagsterRunStatus.STARTED)
    edge.instance.add_run(run)
    folders = partitioned(edge, "folder")
    folders.scan()
    assert keys(folders) == ["rent/a.txt", "rent"], "the unfinished run keeps its key"
    result = folders.materialize("rent/a.txt", stages=DRAIN_STAGES)
    (event,) = result.get_step_failure_events()
    data = event.step_failure_data
    shown = f"{data.error} {data.user_failure_data}"
    assert "no such partition: rent/a.txt" in shown
    edge.instance.report_run_canceled(run)
    folders.scan()
    assert keys(folders) == ["rent"]


def test_each_partition_gets_its_check_evaluation(folders: Edge) -> None:
    sections = folders.settings.slots_section
    expecting = sections.deep.model_copy(update={"expected_model": "another"})
    write(folders, "rent/a.txt", "rent/b.txt")
    folders.scan()
    folders.run_job("drain")
    changed = folders.settings.model_copy(
        update={"slots_section": sections.model_copy(update={"deep": expecting}), "partition_by": "folder"}
    )
    strict = dataclasses.replace(folders, settings=changed, defs=build_definitions(lambda: changed))
    result = strict.materialize("rent", stages=["summarize"])
    evaluations = [each for each in result.get_asset_check_evaluations() if each.check_name == CHECK]
    assert [(each.partition, each.passed) for each in evaluations] == [("rent", False)]


def test_what_waits_or_fails_is_observed_on_the_partition_with_few_names(folders: Edge) -> None:
    write(folders, *(f"rent/{number}.txt" for number in range(5)))
    folders.scan()
    folders.router.set(mode="cold")
    folders.run_job("drain")
    observed = folders.instance.fetch_observations(KEYS["classify"], limit=10).records
    assert {record.partition_key for record in observed} == {"rent"}
    metadata = observed[0].asset_observation
    assert metadata is not None
    assert metadata.metadata["state"].value == "deferred"
    assert len([name for name in metadata.metadata if name.startswith("document ")]) <= 3


def test_a_failure_is_observed_although_dagster_does_not_have_the_partition_yet(folders: Edge) -> None:
    write(folders, "rent/a.txt")
    folders.scan()
    with folders.ledger.transaction() as cur:
        cur.execute("delete from dagster_partitions")
    folders.router.set(mode="cold")
    folders.run_job("drain")
    wanted = dg.AssetRecordsFilter(asset_key=KEYS["classify"], asset_partitions=["rent"])
    assert len(folders.instance.fetch_observations(wanted, limit=10).records) == 1


def test_a_report_that_dies_before_the_ledger_knows_it_can_be_withdrawn(
    folders: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folders, "rent/a.txt")
    folders.scan()

    def dies(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as dying:
        dying.setattr(partition_events, "_mark_reported", dies)
        folders.run_job("drain")
    assert green(folders, "summarize") == {"rent"}, "Dagster has the event"
    write(folders, "rent/b.txt")
    folders.scan()
    report(folders)
    assert green(folders, "summarize") == set()
