"""Documents that have been gone for long are removed on request, with the results that no other document uses."""

from typing import Any

import pytest

from dagster_offload.ledger.retention import gone
from dagster_offload.ledger.work import documents
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
    found = gone.find(bench.ledger, 90)
    assert (found.documents, found.results) == (1, 3)
    assert found.bytes > 0
    assert gone.remove(bench.ledger, 90)
    assert [row["key"] for row in bench.sql("select key from documents order by key")] == ["here.txt", "short.txt"]
    assert gone.find(bench.ledger, 90) == gone.Garbage()
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
    unused = gone.find(bench.ledger, 90)
    assert unused.documents == 0
    assert unused.results > 0
    gone.remove(bench.ledger, 90)
    assert gone.find(bench.ledger, 90).results == 0
    assert bench.state("a.txt", EXTRACT) == "done"


def test_a_document_that_comes_back_is_not_gone(bench: Bench) -> None:
    done(bench, "a.txt")
    vanish(bench, "a.txt", 365)
    bench.put("a.txt")
    assert bench.sql("select gone_at from documents") == [{"gone_at": None}]
    assert gone.find(bench.ledger, 90) == gone.Garbage()


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


def test_a_call_that_ends_early_goes_on_where_it_ended(bench: Bench) -> None:
    done(bench, "a.txt", "b.txt")
    vanish(bench, "b.txt", 365)
    assert not gone.remove(bench.ledger, 90, seconds=0, batch=1, page=1)  # ends after the document
    before = results(bench)
    calls = 1
    while not gone.remove(bench.ledger, 90, seconds=0, page=1):
        calls += 1
    assert calls >= before, "each call looks at one result"
    assert results(bench) == before - 3
    assert bench.sql("table upkeep_positions") == []
    assert gone.find(bench.ledger, 90) == gone.Garbage()


@pytest.mark.rule("keep-3")
def test_a_result_of_another_recipe_stays_whether_its_document_is_done_or_not(bench: Bench) -> None:
    done(bench, "done.txt", "waits.txt")
    bench.sql(
        "insert into results (stage, input_digest, recipe, outcome, value, output_digest, first_document, created_at) "
        "select stage, input_digest, 'another', outcome, value, output_digest, first_document, created_at from results "
        "where stage = 'classify'"
    )
    bench.sql(
        "update work_items i set state = 'pending', result_id = null from documents d "
        "where d.document_id = i.document_id and d.key = 'waits.txt' and i.stage = 'classify'"
    )
    assert gone.find(bench.ledger, 90) == gone.Garbage()
    before = results(bench)
    assert gone.remove(bench.ledger, 90)
    assert results(bench) == before


@pytest.mark.parametrize(
    ("query", "given", "indexes"),
    [
        (gone._NEXT, {"after": 0, "most": 10}, ("results_pkey", "work_items_result", "results_one_current")),
        (gone._USED, {"in_doubt": [1, 2, 3]}, ("results_pkey", "work_items_open_input", "documents_pkey")),
    ],
)
def test_a_page_of_results_is_searched_by_indexes(
    bench: Bench, query: str, given: dict[str, Any], indexes: tuple[str, ...]
) -> None:
    """Without this, each look at a million documents would read whole tables."""
    with bench.ledger.transaction() as cur:
        cur.execute("set local enable_seqscan = off")
        steps = "\n".join(row["QUERY PLAN"] for row in cur.execute(f"explain {query}".encode(), given | {"days": 90}))
    assert "Seq Scan" not in steps
    for index in indexes:
        assert index in steps
