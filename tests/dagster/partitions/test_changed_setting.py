"""A changed `partition_by`: keys are replaced, what is done is reported, and an interruption shows nothing wrong."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg
import pytest

from dagster_offload.defs import events
from dagster_offload.defs.partitions import keys as partition_keys
from dagster_offload.defs.partitions.storage import remove_keys
from dagster_offload.engine.partitions import begin_change, complete_change
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.partitions import assigning
from dagster_offload.library.partition_keys import By, PartitionRule
from tests.dagster.partitions.conftest import green, partitioned, report, write
from tests.support.edge import Edge
from tests.support.stages import STAGE_NAMES


def keys(edge: Edge) -> set[str]:
    return set(edge.instance.get_dynamic_partitions("documents"))


def triggers(edge: Edge) -> set[str]:
    with edge.ledger.transaction() as cur:
        cur.execute(
            "select tgname::text as name from pg_trigger where tgrelid = 'work_items'::regclass and tgenabled <> 'D' "
            "and tgname like 'note_partition%'"
        )
        return {row["name"] for row in cur.fetchall()}


def test_a_library_of_document_partitions_becomes_one_of_folders(edge: Edge) -> None:
    write(edge, "rent/a.txt", "rent/b.txt", "tax/c.txt")
    edge.scan()
    edge.run_job("drain", limit=2)
    assert triggers(edge) == set(), "with one partition a document there is nothing to note"
    folders = partitioned(edge, "folder")
    with edge.ledger.transaction() as cur:  # as if the scan was long after the files were written
        cur.execute("update documents set digested_at = digested_at + interval '1 minute'")
    requested = folders.tick("library_sensor")
    assert isinstance(requested, dg.RunRequest)
    assert requested.tags["why"] == "partition_by is folder now"
    calls = len(edge.router.completions())
    folders.scan()
    assert keys(folders) == {"rent", "tax"}
    assert green(folders, "extract") == {"rent", "tax"}
    assert green(folders, "summarize") == {"rent"}
    folders.run_job("drain")
    assert {stage: green(folders, stage) for stage in STAGE_NAMES} == {stage: {"rent", "tax"} for stage in STAGE_NAMES}
    assert len(edge.router.completions()) == calls + 2


def test_back_to_one_partition_a_document_reports_what_was_done_meanwhile(edge: Edge) -> None:
    write(edge, "rent/a.txt", "rent/b.txt", "tax/c.txt")
    edge.scan()
    edge.run_job("drain", limit=1)
    folders = partitioned(edge, "folder")
    folders.scan()
    folders.run_job("drain", limit=1)
    before = len(edge.materializations("summarize", "rent/a.txt"))
    edge.scan()
    assert keys(edge) == {"rent/a.txt", "rent/b.txt", "tax/c.txt"}
    assert green(edge, "extract") == {"rent/a.txt", "rent/b.txt", "tax/c.txt"}
    assert green(edge, "summarize") == {"rent/a.txt", "rent/b.txt"}
    assert len(edge.materializations("summarize", "rent/a.txt")) == before, "it was reported before the change"
    assert triggers(edge) == set()
    assert edge.ledger.run(outbox.count_pending) == 0
    edge.run_job("drain")
    assert green(edge, "summarize") == {"rent/a.txt", "rent/b.txt", "tax/c.txt"}


def test_a_key_of_both_rules_is_not_green_for_documents_of_the_rule_before(edge: Edge) -> None:
    """With one shard, the only partition has all documents; with two, it has others."""
    write(edge, *(f"{number}.txt" for number in range(6)))
    two = partitioned(edge, "shard:2")
    two.scan()
    first = PartitionRule(By.SHARD, 2)
    of_first = [f"{number}.txt" for number in range(6) if first.key_of(f"{number}.txt", 0) == "shard-0000"]
    assert 0 < len(of_first) < 6
    for document in of_first:
        with edge.ledger.transaction() as cur:
            cur.execute(
                "update work_items set priority = 1 from documents d where d.document_id = work_items.document_id and key = %s",
                [document],
            )
    two.run_job("drain", limit=len(of_first))
    assert green(two, "summarize") == {"shard-0000"}
    one = partitioned(edge, "shard:1")
    one.scan()
    assert keys(one) == {"shard-0000"}
    assert green(one, "summarize") == set()
    one.run_job("drain")
    assert green(one, "summarize") == {"shard-0000"}


def test_a_document_that_had_the_name_of_a_folder_does_not_make_it_green(edge: Edge) -> None:
    write(edge, "rent.txt")
    edge.scan()
    edge.run_job("drain")
    assert edge.settings.library is not None
    (edge.settings.library / "rent.txt").unlink()
    write(edge, "rent.txt/a.txt")
    folders = partitioned(edge, "folder")
    folders.scan()
    assert keys(folders) == {"rent.txt"}
    assert green(folders, "summarize") == set()


@pytest.mark.rule("library-12")
@pytest.mark.parametrize("where", ["assigning", "adding keys"])
def test_a_change_that_is_interrupted_shows_nothing_and_the_next_scan_completes_it(
    edge: Edge, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(edge, "rent/a.txt", "rent/b.txt", "tax/c.txt")
    edge.scan()
    edge.run_job("drain")
    folders = partitioned(edge, "folder")
    with monkeypatch.context() as patched:
        if where == "assigning":
            patched.setattr(partition_keys, "complete_change", partial(complete_change, batch=1))
            patched.setattr(assigning, "_move", _failing_after(assigning._move, 1))
        else:
            patched.setattr(partition_keys, "remove_keys", _failing_after(remove_keys, 0))
        assert not folders.run_job("scan").success
    assert green(folders, "summarize") <= {"rent/a.txt", "rent/b.txt", "tax/c.txt"}
    if where == "assigning":
        assert not folders.ledger.run(assigning.in_force).is_complete
        (event,) = folders.materialize("rent/a.txt", stages=["summarize"]).get_step_failure_events()
        failure = event.step_failure_data.user_failure_data
        assert failure is not None
        assert "was interrupted: run the job scan," in str(failure.description)
    folders.tick("drain_sensor")
    assert not green(folders, "summarize") & {"rent", "tax"}
    requested = folders.tick("library_sensor")
    assert isinstance(requested, dg.RunRequest)
    folders.scan()
    report(folders)
    assert keys(folders) == {"rent", "tax"}
    assert green(folders, "summarize") == {"rent", "tax"}


def test_a_step_that_ends_during_a_change_does_not_wait_for_it(
    folders: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(folders, "rent/a.txt")
    folders.scan()
    monkeypatch.setattr(events, "OTHER_FLUSHER_PATIENCE_SECONDS", 0.0)
    rule = begin_change(folders.ledger, PartitionRule(By.SHARD, 2))
    with caplog.at_level(logging.INFO, events.__name__):
        report(folders)
    (record,) = (record for record in caplog.records if record.name == events.__name__)
    assert record.levelno == logging.INFO
    assert "a scan is changing the partitions" in record.message
    complete_change(folders.ledger, rule)
    caplog.clear()
    report(folders)
    assert caplog.records == []


def test_an_interrupted_change_back_to_documents_reports_nothing_before_dagster_has_the_keys(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = partitioned(edge, "folder")
    write(edge, "rent/a.txt", "tax/c.txt")
    folders.scan()
    folders.run_job("drain")
    with monkeypatch.context() as patched:
        patched.setattr(partition_keys, "sync_partitions", _failing_after(partition_keys.sync_partitions, 0))
        assert not edge.run_job("scan").success
    edge.tick("drain_sensor")
    assert edge.materializations("summarize", "rent/a.txt") == []
    requested = edge.tick("library_sensor")
    assert isinstance(requested, dg.RunRequest)
    edge.scan()
    assert keys(edge) == {"rent/a.txt", "tax/c.txt"}
    assert green(edge, "summarize") == {"rent/a.txt", "tax/c.txt"}


def _failing_after(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    left = [calls]

    def failing(*args: Any) -> Any:
        if not left[0]:
            raise OSError("the machine lost power")
        left[0] -= 1
        return function(*args)

    return failing


def test_more_than_2000_folders_count_with_fewer_levels_and_the_scan_says_so(edge: Edge) -> None:
    folders = partitioned(edge, "folder")
    write(folders, "a/b/c.txt")
    folders.scan()
    assert keys(folders) == {"a/b"}
    with folders.ledger.transaction() as cur:
        cur.execute(
            "insert into documents (key, digest, size, mtime_ns, ctime_ns, inode, partition) "
            "select 'x/' || n || '/d.txt', 'd', 1, 1, 1, n, 'x/' || n from generate_series(1, 2000) n"
        )
    rule = begin_change(folders.ledger, PartitionRule(By.FOLDER))
    assert rule == PartitionRule(By.FOLDER, 1)
    complete_change(folders.ledger, rule)
    assert folders.ledger.run(assigning.keys) == ["a", "x"]
    with folders.ledger.transaction() as cur:
        cur.execute("delete from documents where key like 'x/%'")
    result = folders.scan()
    assert keys(folders) == {"a"}, "the levels do not grow again by themselves"
    logged = [entry.user_message for entry in folders.instance.all_logs(result.run_id)]
    assert any("only the first level of their paths counts" in line for line in logged), logged


def test_a_partition_that_is_incomplete_in_a_restored_ledger_is_not_green(folders: Edge) -> None:
    write(folders, "rent/a.txt", "rent/b.txt")
    folders.scan()
    folders.run_job("drain")
    assert green(folders, "summarize") == {"rent"}
    with (
        folders.ledger.transaction() as cur
    ):  # the backup was made before the last answer, and without Dagster's tables
        cur.execute(
            "update work_items set state = 'pending', result_id = null from documents d "
            "where d.document_id = work_items.document_id and key = 'rent/b.txt' and stage = 'summarize'"
        )
        outbox.report_again(cur)
    folders.scan()
    report(folders)
    assert green(folders, "summarize") == set()
    folders.run_job("drain")
    assert green(folders, "summarize") == {"rent"}
