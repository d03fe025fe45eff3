"""Documents that have been gone for long are removed on request, with the results that no other document uses."""

import pytest

from dagster_offload.ledger.work import documents, gone
from dagster_offload.stages.graph import CLASSIFY, EXTRACT
from tests.support.ledger import Bench


def done(bench: Bench, *keys: str) -> None:
    """Documents whose stages are all done."""
    bench.extracted(*keys)
    worker = bench.worker()
    for key in keys:
        claim = bench.hold(worker, keys=[key])
        for item in claim.items:
            bench.finish(worker, claim, item)
    bench.sql("update outbox set told_at = clock_timestamp()")
    bench.sql("update results set created_at = created_at - interval '1 year'")


def vanish(bench: Bench, key: str, days: int) -> None:
    bench.ledger.run(documents.mark_gone, [key])
    bench.sql("update documents set gone_at = gone_at - make_interval(days => %s) where key = %s", days, key)


def results(bench: Bench) -> int:
    return int(bench.sql("select count(*) as n from results")[0]["n"])


@pytest.mark.rule("keep-3")
def test_only_documents_that_have_been_gone_for_longer_are_removed(bench: Bench) -> None:
    done(bench, "long.txt", "short.txt", "here.txt")
    vanish(bench, "long.txt", 91)
    vanish(bench, "short.txt", 89)
    found = bench.ledger.run(gone.find, 90)
    assert (found.documents, found.results) == (1, 3)
    assert found.bytes > 0
    assert gone.remove(bench.ledger, 90)
    assert [row["key"] for row in bench.sql("select key from documents order by key")] == ["here.txt", "short.txt"]
    assert bench.ledger.run(gone.find, 90) == gone.Garbage()
    known = {row["document_id"] for row in bench.sql("table documents")}
    for table in ("work_items", "transitions", "outbox", "calls"):
        assert {row["document_id"] for row in bench.sql(f"table {table}")} <= known
    assert bench.state("here.txt", CLASSIFY) == "done"
    assert bench.state("short.txt", CLASSIFY) == "gone"


@pytest.mark.rule("keep-3")
def test_a_result_that_another_document_uses_stays(bench: Bench) -> None:
    done(bench, "a.txt")
    bench.put("copy.txt", "a.txt")  # the same bytes
    assert bench.state("copy.txt", CLASSIFY) == "done"
    before = results(bench)
    vanish(bench, "a.txt", 365)
    gone.remove(bench.ledger, 90)
    assert results(bench) == before
    assert bench.sql("select category from records where document = 'copy.txt'") == [{"category": "other"}]


def test_results_of_an_earlier_content_and_replaced_results_are_removed(bench: Bench) -> None:
    done(bench, "a.txt")
    bench.put("a.txt", "other bytes")
    claim = bench.hold(bench.worker("scan"), [EXTRACT])
    bench.finish(bench.worker("scan"), claim)
    unused = bench.ledger.run(gone.find, 90)
    assert unused.documents == 0
    assert unused.results > 0
    gone.remove(bench.ledger, 90)
    assert bench.ledger.run(gone.find, 90).results == 0
    assert bench.state("a.txt", EXTRACT) == "done"


def test_a_document_that_comes_back_is_not_gone(bench: Bench) -> None:
    done(bench, "a.txt")
    vanish(bench, "a.txt", 365)
    bench.put("a.txt")
    assert bench.sql("select gone_at from documents") == [{"gone_at": None}]
    assert bench.ledger.run(gone.find, 90) == gone.Garbage()


def test_removal_works_in_batches(bench: Bench) -> None:
    keys = ["a.txt", "b.txt", "c.txt"]
    done(bench, *keys)
    for key in keys:
        vanish(bench, key, 365)
    assert not gone.remove(bench.ledger, 90, seconds=-1, batch=1)
    assert len(bench.sql("select key from documents")) == 2
    assert gone.remove(bench.ledger, 90, batch=1)
    assert bench.sql("select key from documents") == []
    assert results(bench) == 0


def test_a_removed_document_that_comes_back_is_processed_again(bench: Bench) -> None:
    done(bench, "a.txt")
    vanish(bench, "a.txt", 365)
    gone.remove(bench.ledger, 90)
    bench.put("a.txt")
    assert bench.state("a.txt", EXTRACT) == "pending"


def test_unused_results_are_found_with_one_pass_over_each_table(bench: Bench) -> None:
    """Without this, 100,000 documents take minutes: Postgres would search all work items for each result."""
    done(bench, "a.txt")
    with bench.ledger.transaction() as cur:
        gone._read_each_table_once(cur)
        plan = cur.execute(
            f"explain select from results r where {gone._IS_UNUSED.format(kept=gone._IS_KEPT)}".encode(), {"days": 90}
        )
        steps = "\n".join(row["QUERY PLAN"] for row in plan)
    assert steps.count("Anti Join") == 2
    assert "SubPlan" not in steps
    assert "Nested Loop" not in steps
