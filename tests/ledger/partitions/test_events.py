"""What is pending of partitions, the facts and the contents of one, and what was reported last."""

from collections.abc import Sequence

from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.partitions import events
from dagster_offload.ledger.partitions.reports import report_under_run
from dagster_offload.ledger.work import corrections, documents
from dagster_offload.stages.graph import CLASSIFY, EXTRACT
from tests.ledger.partitions.conftest import extracted, noted, store, with_dagster_keys
from tests.support.ledger import RECIPES, Bench, record_result
from tests.support.stages import STAGE_NAMES


def complete(bench: Bench, stage: str, *partitions: str) -> list[bool]:
    found = bench.ledger.run(events.facts, [(partition, stage) for partition in partitions])
    return [facts.is_complete for facts in found]


def classify(bench: Bench, *keys: str, words: str = "a letter") -> None:
    worker = bench.worker()
    for key in keys:
        bench.finish(worker, bench.hold(worker, [CLASSIFY], keys=[key]), result=record_result(words))


def report(bench: Bench, reported: Sequence[tuple[str, str, str, str | None]]) -> None:
    bench.ledger.run(events.mark_reported, reported, [], [])


def test_a_partition_is_complete_once_each_of_its_documents_is_done(folders: Bench) -> None:
    extracted(folders, "rent/a.txt", "rent/b.txt", "tax/c.txt")
    assert complete(folders, EXTRACT, "rent", "tax", "none") == [True, True, False]
    assert complete(folders, CLASSIFY, "rent", "tax") == [False, False]
    classify(folders, "rent/b.txt", "tax/c.txt")
    assert complete(folders, CLASSIFY, "rent", "tax") == [False, True]
    classify(folders, "rent/a.txt")
    assert complete(folders, CLASSIFY, "rent", "tax") == [True, True]


def test_a_document_that_is_not_extracted_keeps_later_stages_from_being_complete(folders: Bench) -> None:
    extracted(folders, "rent/a.txt")
    classify(folders, "rent/a.txt")
    store(folders, "rent/b.txt")
    assert complete(folders, CLASSIFY, "rent") == [False]
    folders.ledger.run(documents.mark_gone, ["rent/b.txt"])
    assert complete(folders, CLASSIFY, "rent") == [True]


def test_a_partition_without_documents_is_not_complete(folders: Bench) -> None:
    extracted(folders, "rent/a.txt")
    folders.ledger.run(documents.mark_gone, ["rent/a.txt"])
    assert complete(folders, EXTRACT, "rent") == [False]


def test_facts_say_what_dagster_has_and_was_shown(folders: Bench) -> None:
    extracted(folders, "rent/a.txt", "tax/b.txt")
    with_dagster_keys(folders, ["rent"])
    report(folders, [("rent", EXTRACT, "v1", "run-1")])
    rent, tax = folders.ledger.run(events.facts, [("rent", EXTRACT), ("tax", EXTRACT)])
    assert (rent.is_known, rent.version, rent.run_id) == (True, "v1", "run-1")
    assert (tax.is_known, tax.version, tax.run_id) == (False, None, None)


def test_contents_are_counts_and_the_names_of_at_most_three_documents(folders: Bench) -> None:
    keys = [f"rent/{number}.txt" for number in range(5)]
    extracted(folders, *keys, "tax/other.txt")
    classify(folders, *keys)
    found = folders.ledger.run(events.contents, "rent", CLASSIFY, RECIPES[CLASSIFY])
    assert (found.documents, found.outdated, found.corrected) == (5, 0, 0)
    assert found.outcomes == {"ok": 5}
    assert found.models == {"Qwen3.6-27B": 5}
    assert len(found.newest) == 3
    assert folders.ledger.run(events.contents, "rent", CLASSIFY, "another").outdated == 5


def test_the_version_changes_with_an_answer_a_correction_and_a_document_and_with_nothing_else(folders: Bench) -> None:
    def version() -> str:
        return str(folders.ledger.run(events.contents, "rent", CLASSIFY, None).version)

    extracted(folders, "rent/a.txt", "rent/b.txt")
    classify(folders, "rent/a.txt", "rent/b.txt")
    versions = [version()]
    assert version() == versions[0]
    folders.redo([CLASSIFY], ["rent/a.txt"])
    classify(folders, "rent/a.txt", words="a bill")
    versions.append(version())
    value = corrections.NewValue(CLASSIFY, "category", "invoice")
    folders.ledger.run(corrections.correct, "rent/b.txt", [value], None, RECIPES)
    versions.append(version())
    folders.ledger.run(documents.mark_gone, ["rent/a.txt"])
    versions.append(version())
    assert len(set(versions)) == 4


def test_what_is_pending_has_each_changed_partition_once_with_all_its_notes(folders: Bench) -> None:
    extracted(folders, "rent/a.txt", "rent/b.txt", "tax/c.txt")
    found = folders.ledger.run(events.pending, STAGE_NAMES, 100, 100)
    assert [(row.document, row.partition, row.state) for row in found.rows] == [
        ("rent/a.txt", "rent", None),
        ("rent/b.txt", "rent", None),
        ("tax/c.txt", "tax", None),
    ]
    assert list(found.changed) == ["rent", "tax"]
    assert len(folders.ledger.run(events.pending, STAGE_NAMES, 2, 1).rows) == 2
    assert list(folders.ledger.run(events.pending, STAGE_NAMES, 2, 1).changed) == ["rent"]
    folders.ledger.run(events.mark_reported, [], [], [*found.changed["rent"], *found.changed["tax"]])
    assert noted(folders) == []


def test_a_document_that_failed_is_pending_with_its_reason(folders: Bench) -> None:
    extracted(folders, "rent/a.txt")
    worker = folders.worker()
    folders.fail(worker, folders.hold(worker, [CLASSIFY]), is_final=True)
    row = folders.ledger.run(events.pending, STAGE_NAMES, 100, 100).rows[-1]
    assert (row.document, row.stage, row.state) == ("rent/a.txt", CLASSIFY, State.FAILED)
    assert row.reason is not None


def test_a_process_that_lacks_a_stage_leaves_the_changes_to_one_that_has_it(folders: Bench) -> None:
    extracted(folders, "rent/a.txt")
    assert folders.ledger.run(events.pending, [EXTRACT, CLASSIFY], 100, 100).changed == {}
    assert list(folders.ledger.run(events.pending, STAGE_NAMES, 100, 100).changed) == ["rent"]


def test_a_withdrawn_partition_is_looked_at_again_later(folders: Bench) -> None:
    extracted(folders, "rent/a.txt")
    report(folders, [("rent", EXTRACT, "v1", None)])
    noted(folders)
    folders.ledger.run(events.mark_reported, [], [("rent", EXTRACT)], [])
    assert folders.ledger.run(events.facts, [("rent", EXTRACT)])[0].version is None
    assert folders.ledger.run(events.count_changes) == 0
    folders.sql("update partition_changes set check_at = clock_timestamp()")
    assert folders.ledger.run(events.count_changes) == 1
    assert folders.ledger.run(events.pending, STAGE_NAMES, 100, 100).was_withdrawn


def test_a_run_queues_one_result_for_each_partition_that_another_run_completed(folders: Bench) -> None:
    keys = ["rent/a.txt", "rent/b.txt", "tax/c.txt"]
    extracted(folders, *keys)
    report(folders, [("rent", EXTRACT, "v1", "drain"), ("tax", EXTRACT, "v1", "run-1")])
    folders.sql("update outbox set told_at = clock_timestamp()")
    assert folders.ledger.run(report_under_run, "run-1", keys, STAGE_NAMES) == 1
    (row,) = folders.ledger.run(events.pending, STAGE_NAMES, 100, 100).rows
    assert (row.partition, row.stage, row.run_id) == ("rent", EXTRACT, "run-1")


def test_a_run_queues_nothing_for_a_partition_that_is_not_complete(folders: Bench) -> None:
    extracted(folders, "rent/a.txt", "rent/b.txt", "tax/c.txt")
    classify(folders, "rent/a.txt", "tax/c.txt")
    folders.sql("update outbox set told_at = clock_timestamp()")
    assert folders.ledger.run(report_under_run, "run-1", ["rent/a.txt", "tax/c.txt"], [CLASSIFY]) == 1
    (row,) = folders.ledger.run(events.pending, STAGE_NAMES, 100, 100).rows
    assert (row.partition, row.stage) == ("tax", CLASSIFY)


def test_a_dagster_that_knows_nothing_is_told_everything_again(folders: Bench) -> None:
    extracted(folders, "rent/a.txt")
    with_dagster_keys(folders, ["rent"])
    report(folders, [("rent", EXTRACT, "v1", "run-1")])
    folders.ledger.run(outbox.report_again)
    (facts,) = folders.ledger.run(events.facts, [("rent", EXTRACT)])
    assert (facts.is_known, facts.version) == (False, None)
