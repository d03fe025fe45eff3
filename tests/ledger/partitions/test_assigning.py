"""Each document follows the rule in force, and what happens to a document is noted for its partition."""

import pytest

from dagster_offload.engine.partitions import why_to_scan
from dagster_offload.ledger.core import migrate
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.partitions import assigning
from dagster_offload.ledger.work import documents
from dagster_offload.library.partition_keys import PER_DOCUMENT, By, PartitionRule
from dagster_offload.stages.graph import BUILT_IN, CLASSIFY, EXTRACT, SUMMARIZE
from tests.ledger.partitions.conftest import (
    FOLDERS,
    arrange,
    assign,
    extracted,
    noted,
    partitions,
    store,
    with_dagster_keys,
)
from tests.support.ledger import Bench
from tests.support.stages import DRAIN_STAGES

SHARDS = PartitionRule(By.SHARD, 2)


def test_without_a_rule_each_document_is_a_partition_and_nothing_is_noted(bench: Bench) -> None:
    extracted(bench, "rent/a.txt")
    assert partitions(bench) == {"rent/a.txt": None}
    assert noted(bench) == []
    assert bench.ledger.run(assigning.in_force).rule == PER_DOCUMENT
    assert bench.ledger.run(why_to_scan, PER_DOCUMENT) is None


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_all_documents_follow_a_new_rule_in_batches(bench: Bench, batch: int) -> None:
    extracted(bench, "a.txt", "rent/b.txt", "rent/2025/c.txt")
    bench.ledger.run(documents.mark_gone, ["rent/b.txt"])
    assert arrange(bench.ledger, FOLDERS, batch) == FOLDERS
    assert partitions(bench) == {"a.txt": ".", "rent/b.txt": "rent", "rent/2025/c.txt": "rent/2025"}
    assert bench.ledger.run(assigning.keys) == [".", "rent/2025"]
    assert bench.ledger.run(assigning.in_force).is_complete


def test_a_new_document_follows_the_rule_in_force_at_once(folders: Bench) -> None:
    store(folders, "rent/a.txt")
    assert partitions(folders) == {"rent/a.txt": "rent"}


def test_a_file_with_another_modification_time_moves_to_another_month(bench: Bench) -> None:
    arrange(bench.ledger, PartitionRule(By.MONTH))
    store(bench, "a.txt")
    assert partitions(bench) == {"a.txt": "1970-01"}
    noted(bench)
    bench.sql("update documents set mtime_ns = 1760000000000000000")
    bench.ledger.run(assign, ["a.txt"])
    assert partitions(bench) == {"a.txt": "2025-10"}
    assert noted(bench) == ["1970-01", "2025-10"]


def test_a_scan_that_stores_documents_during_a_change_uses_the_rule_before_or_after_and_they_end_with_the_new_one(
    bench: Bench,
) -> None:
    arrange(bench.ledger, FOLDERS)
    bench.put("rent/a.txt")
    with bench.ledger.transaction() as scanning:
        assign(scanning, ["rent/a.txt"])
        change = bench.begun(lambda cur: assigning.put_in_force(cur, SHARDS))
        assert not change.done(), "it waits for the scan's batch"
    change.result()
    assert arrange(bench.ledger, SHARDS) == SHARDS
    assert partitions(bench)["rent/a.txt"] == SHARDS.key_of("rent/a.txt", 1)


def test_what_can_change_the_state_of_a_partition_is_noted(folders: Bench) -> None:
    worker = folders.worker()
    store(folders, "rent/a.txt", "tax/b.txt")
    assert noted(folders) == ["rent", "tax"]
    folders.extracted("rent/c.txt")
    folders.ledger.run(assign, ["rent/c.txt"])
    noted(folders)
    claim = folders.hold(worker, [CLASSIFY], keys=["rent/c.txt"])
    assert noted(folders) == [], "a claim completes nothing"
    folders.finish(worker, claim)
    assert noted(folders) == ["rent"]
    folders.redo([CLASSIFY], ["rent/c.txt"])
    assert noted(folders) == ["rent"]
    folders.ledger.run(documents.mark_gone, ["tax/b.txt"])
    assert noted(folders) == ["tax"]
    folders.put("tax/b.txt")
    assert noted(folders) == ["tax"]
    folders.put("rent/c.txt", "other bytes")
    assert noted(folders) == ["rent"]


def test_the_documents_of_partitions_are_those_present(folders: Bench) -> None:
    store(folders, "rent/a.txt", "rent/b.txt", "tax/c.txt", "work/d.txt")
    folders.ledger.run(documents.mark_gone, ["rent/b.txt", "work/d.txt"])
    found = folders.ledger.run(assigning.documents_of, ["tax", "work", "rent", "unknown"])
    assert sorted(found.documents) == ["rent/a.txt", "tax/c.txt"]
    assert found.empty == ["work", "unknown"]


def test_the_keys_are_those_of_all_documents_present_whatever_their_names(folders: Bench) -> None:
    keys = [f"{name}/x.txt" for name in ("Z", "a", "a b", "a/b", "가", "é", "[1]", "%")]
    store(folders, *keys)
    expected = sorted(key.removesuffix("/x.txt") for key in keys)
    assert folders.ledger.run(assigning.keys) == expected


def test_a_scan_is_due_if_the_setting_or_the_partitions_changed(bench: Bench) -> None:
    assert bench.ledger.run(why_to_scan, FOLDERS) == "partition_by is folder now"
    arrange(bench.ledger, FOLDERS)
    assert bench.ledger.run(why_to_scan, FOLDERS) is None
    store(bench, "rent/a.txt")
    assert bench.ledger.run(why_to_scan, FOLDERS) == "Dagster does not have all partitions yet"
    with_dagster_keys(bench, ["rent"])
    assert bench.ledger.run(why_to_scan, FOLDERS) is None


def test_after_the_last_rule_nothing_is_noted_or_pending_any_more(bench: Bench) -> None:
    arrange(bench.ledger, FOLDERS)
    store(bench, "rent/a.txt")
    bench.sql("update outbox set told_at = clock_timestamp()")
    assert bench.ledger.run(outbox.count_pending) > 0
    arrange(bench.ledger, PER_DOCUMENT)
    store(bench, "tax/b.txt")
    assert bench.ledger.run(outbox.count_pending) == 0


@pytest.mark.parametrize("batch", [1, 100])
def test_back_to_documents_queues_what_was_done_since_the_first_rule(bench: Bench, batch: int) -> None:
    extracted(bench, "rent/a.txt")
    bench.sql("update outbox set told_at = clock_timestamp()")
    arrange(bench.ledger, FOLDERS)
    extracted(bench, "rent/b.txt")
    bench.sql("update outbox set told_at = clock_timestamp()")
    arrange(bench.ledger, SHARDS)
    extracted(bench, "rent/c.txt")
    arrange(bench.ledger, PER_DOCUMENT, batch)
    events = bench.ledger.run(outbox.pending_events, (EXTRACT, *DRAIN_STAGES))
    assert sorted((event.document, event.stage) for event in events) == [
        ("rent/b.txt", EXTRACT),
        ("rent/c.txt", EXTRACT),
    ]
    assert bench.ledger.run(assigning.in_force).is_complete


def test_a_result_that_was_not_reported_before_the_first_rule_is_reported_after_it(bench: Bench) -> None:
    extracted(bench, "rent/a.txt")
    arrange(bench.ledger, FOLDERS)
    bench.sql("update outbox set told_at = clock_timestamp()")  # the reporter looked at its partition
    arrange(bench.ledger, PER_DOCUMENT)
    (event,) = bench.ledger.run(outbox.pending_events, [EXTRACT])
    assert event.document == "rent/a.txt"


def test_a_restored_ledger_notes_changes_again(folders: Bench) -> None:
    def restore(cur: Cursor) -> None:
        for name in assigning._TRIGGERS:
            cur.execute(f"drop trigger {name} on work_items".encode())
        migrate.complete(cur, BUILT_IN)

    folders.ledger.run(restore)
    store(folders, "rent/a.txt")
    noted(folders)
    folders.extracted("rent/a.txt")
    assert noted(folders) == ["rent"]


def test_a_stage_that_vanishes_from_a_document_is_noted(folders: Bench) -> None:
    """A file that changes loses the items of its later stages."""
    extracted(folders, "rent/a.txt")
    worker = folders.worker()
    folders.finish(worker, folders.hold(worker, [CLASSIFY, SUMMARIZE]))
    noted(folders)
    folders.sql("delete from work_items where stage = %s", SUMMARIZE)
    assert noted(folders) == ["rent"]
