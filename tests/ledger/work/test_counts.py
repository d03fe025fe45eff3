"""The kept counts of work items are exactly those of a recount, whatever changes the items."""

from pathlib import Path

import pytest

from dagster_offload.ledger.archive.backup import write_backup
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import make_steps, migrate
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.work import claims, counts, documents, left
from dagster_offload.stages.graph import BUILT_IN, CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.archive import put_back
from tests.support.ledger import RECIPES, Bench
from tests.support.stages import DRAIN_STAGES

KEPT = (
    "select stage, state, recipe, outcome, sum(n)::bigint as n from item_counts group by 1, 2, 3, 4 having sum(n) <> 0"
)
RECOUNT = "select stage, state, recipe, outcome, count(*) as n from work_items group by 1, 2, 3, 4"


def are_exact(ledger: Ledger) -> bool:
    with ledger.transaction() as cur:
        kept, recount = cur.execute(KEPT).fetchall(), cur.execute(RECOUNT).fetchall()
    return sorted(kept, key=repr) == sorted(recount, key=repr)


def rows(bench: Bench) -> int:
    [row] = bench.sql("select count(*) as n from item_counts")
    return int(row["n"])


@pytest.mark.parametrize(
    "statement",
    [
        "update work_items set state = 'failed', reason = 'no_json' where stage = 'classify'",
        "update work_items set attempts = attempts + 1",
        "update work_items set recipe = 'new', outcome = 'needs_ocr' where stage = 'extract'",
        "delete from work_items where stage = 'summarize'",
        "truncate work_items cascade",
        "insert into work_items (document_id, stage) select document_id, 'own' from documents",
        "insert into work_items (document_id, stage) select document_id, 'classify' from documents "
        "on conflict (document_id, stage) do update set state = 'gone'",
    ],
)
def test_every_kind_of_statement_is_counted(bench: Bench, statement: str) -> None:
    bench.extracted("a.txt", "b.txt")
    assert are_exact(bench.ledger)
    before = rows(bench)
    bench.sql(statement)
    assert are_exact(bench.ledger)
    if "attempts" in statement:
        assert rows(bench) == before  # nothing that is counted changed


def test_a_change_that_is_rolled_back_is_not_counted(bench: Bench) -> None:
    bench.extracted("a.txt")
    with bench.ledger.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("update work_items set state = 'failed'")
    assert are_exact(bench.ledger)


def test_transactions_that_add_up_at_the_same_time_count_once_and_do_not_wait(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    bench.sql("update work_items set attempts = 1")
    with bench.ledger.transaction() as first, bench.ledger.transaction() as second:
        for cur, document in ((first, 1), (second, 2)):
            # If one waited for the other, this test would wait for ever without this.
            cur.execute("set local lock_timeout = '5s'")
            cur.execute("update work_items set state = 'failed' where document_id = %s", [document])
            cur.execute("select add_up_item_counts()")
    assert are_exact(bench.ledger)
    bench.sql("select add_up_item_counts()")
    assert are_exact(bench.ledger)
    assert rows(bench) == len(bench.sql(KEPT))


def test_the_rows_of_many_changes_are_added_up(bench: Bench) -> None:
    bench.extracted("a.txt")
    for turn in range(600):
        bench.sql("update work_items set state = %s where stage = 'classify'", ("failed", "pending")[turn % 2])
    assert rows(bench) < 300  # of 1,200
    assert are_exact(bench.ledger)


def test_an_upgraded_ledger_counts_the_items_it_has(empty_url: str) -> None:
    with Ledger(empty_url) as ledger:
        with ledger.transaction() as cur:
            cur.execute("create schema offload")
            make_steps(cur, up_to=29)
            cur.execute(
                "insert into documents (key, size, mtime_ns, ctime_ns, inode) values ('a.txt', 1, 1, 1, 1), ('b.txt', 1, 1, 1, 1)"
            )
            cur.execute("insert into work_items (document_id, stage) select document_id, 'extract' from documents")
        migrate(ledger, BUILT_IN)
        assert ledger.run(status.stage_counts, {})[EXTRACT].pending == 2
        assert ledger.run(counts.count_documents) == 2
        ledger.run(documents.mark_gone, ["a.txt"])
        assert ledger.run(counts.count_documents) == 1
        assert are_exact(ledger)


def test_a_restored_ledger_goes_on_counting(bench: Bench, empty_url: str, tmp_path: Path) -> None:
    bench.extracted("a.txt", "b.txt")
    worker = bench.worker()
    bench.hold(worker)  # the restore takes its claim back
    write_backup(bench.ledger, tmp_path / "offload.backup")
    with Ledger(empty_url) as empty:
        put_back(empty, tmp_path / "offload.backup")
        assert are_exact(empty)
        assert empty.run(status.stage_counts, RECIPES)[CLASSIFY].pending == 2


def test_a_document_with_one_item_in_back_off_and_one_that_is_due_counts_once(bench: Bench) -> None:
    bench.extracted("both.txt", "one.txt", "none.txt", "past.txt")
    for stage, key, delay in (
        (CLASSIFY, "one.txt", "1 hour"),
        (CLASSIFY, "none.txt", "1 hour"),
        (SUMMARIZE, "none.txt", "1 hour"),
        (CLASSIFY, "past.txt", "-1 hour"),
        (SUMMARIZE, "past.txt", "-1 hour"),
    ):
        bench.sql(
            "update work_items i set not_before = clock_timestamp() + %s::interval from documents d "
            "where d.document_id = i.document_id and i.stage = %s and d.key = %s",
            delay,
            stage,
            key,
        )
    assert bench.ledger.run(claims.count_due, DRAIN_STAGES) == 3
    assert bench.ledger.run(claims.count_due, [CLASSIFY]) == 2
    assert bench.ledger.run(claims.count_due, DRAIN_STAGES, ["one.txt", "none.txt"]) == 1
    assert bench.ledger.run(claims.count_due, DRAIN_STAGES, ["past.txt"]) == 1
    assert bench.ledger.run(claims.count_due, [EXTRACT]) == 0


def test_only_documents_that_cannot_start_in_a_stage_wait_for_another_one(bench: Bench) -> None:
    """A document whose text is read again has its later items already; one that was interrupted has none."""
    bench.put("new.txt")
    bench.put("interrupted.txt")
    worker = bench.worker()
    bench.ledger.run(claims.release, worker, bench.hold(worker, [EXTRACT], keys=["interrupted.txt"]), "stopped")
    bench.extracted("again.txt")
    bench.redo([EXTRACT], ["again.txt"])
    assert bench.ledger.run(left.count_waiting_for_others, BUILT_IN, DRAIN_STAGES) == {EXTRACT: 2}
