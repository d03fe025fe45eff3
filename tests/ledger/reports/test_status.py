"""Reports for people: counts that add up, problems, the history of a document, the records by SQL."""

from dataclasses import asdict

import pytest

from dagster_offload.ledger.reports import status
from dagster_offload.ledger.reports.explanation import explain
from dagster_offload.ledger.work import documents
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE, Outcome
from tests.support.ledger import RECIPES, Bench, record_result
from tests.support.stages import DRAIN_STAGES, STAGE_NAMES


def counts(bench: Bench, stage: str) -> dict[str, int]:
    return {name: n for name, n in asdict(bench.ledger.run(status.stage_counts, RECIPES)[stage]).items() if n}


@pytest.mark.rule("ledger-2")
def test_counts_name_every_state_and_add_up_to_the_documents_whose_upstream_is_done(bench: Bench) -> None:
    bench.extracted(
        "done.txt", "claimed.txt", "deferred.txt", "failed.txt", "quarantined.txt", "pending.txt", "gone.txt"
    )
    bench.put("new.txt")
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY], keys=["done.txt"]))
    bench.defer(worker, bench.hold(worker, [CLASSIFY], keys=["deferred.txt"]))
    bench.fail(worker, bench.hold(worker, [CLASSIFY], keys=["failed.txt"]), is_final=True)
    bench.sql("update work_items set state = 'quarantined' where document_id = 5 and stage = 'classify'")
    bench.hold(worker, [CLASSIFY], keys=["claimed.txt"])
    bench.ledger.run(documents.mark_gone, ["gone.txt"])
    states = dict.fromkeys(["done", "claimed", "deferred", "failed", "quarantined", "pending"], 1)
    assert counts(bench, CLASSIFY) == states
    assert counts(bench, SUMMARIZE) == {"pending": 6}
    assert counts(bench, EXTRACT) == {"done": 6, "pending": 1}


def test_an_empty_ledger_counts_nothing(bench: Bench) -> None:
    assert [counts(bench, stage) for stage in STAGE_NAMES] == [{}, {}, {}]


def test_problems_are_failed_and_quarantined_items(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    bench.put("locked.txt", unreadable="unreadable: Permission denied")
    worker = bench.worker()
    bench.fail(worker, bench.hold(worker, [CLASSIFY], keys=["a.txt"]), is_final=True)
    found = bench.ledger.run(status.problems)
    assert [(p.document, p.stage, p.attempts) for p in found] == [("a.txt", CLASSIFY, 1), ("locked.txt", EXTRACT, 0)]
    assert len(bench.ledger.run(status.problems, 1)) == 1


def test_the_history_of_quarantined_work_is_no_code_and_its_group_names_the_oldest_documents(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt", "c.txt")
    bench.sql(
        "update work_items set state = 'quarantined', reason = document_id || ' times HTTP 404 (trial: HTTP 429), while the "
        "slot answered others: check the file' where stage = 'classify'"
    )
    (group,) = bench.ledger.run(status.problem_groups, 2)
    assert (group.code, group.count, group.first, group.has_others) == ("", 3, ["a.txt", "b.txt"], True)
    (group,) = bench.ledger.run(status.problem_groups, 3, 2)
    assert (group.count, group.first) == (2, ["a.txt", "b.txt"]), "only the oldest are grouped"


def test_explain_shows_every_transition_with_worker_and_reason_and_every_call(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker, [CLASSIFY]))
    bench.close_breaker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]), result=record_result("words", epoch=2))
    explained = bench.ledger.run(explain, "a.txt")
    assert explained is not None
    moves = [(t.from_state, t.to_state, t.reason) for t in explained.transitions if t.stage == CLASSIFY]
    assert moves == [
        (None, "pending", "extract is done"),
        ("pending", "claimed", None),
        ("claimed", "deferred", "upstream_cold"),
        ("deferred", "claimed", None),
        ("claimed", "done", None),
    ]
    assert {t.worker_kind for t in explained.transitions if t.worker_id} == {"scan", "drain"}
    assert [(c.outcome, c.epoch) for c in explained.calls] == [("HTTPStatusError", 1), ("ok", 2)]
    assert [item.stage for item in explained.items] == [EXTRACT, CLASSIFY, SUMMARIZE]
    assert bench.ledger.run(explain, "nowhere.txt") is None


def test_records_are_a_view_that_any_client_can_query(bench: Bench) -> None:
    bench.extracted("a.txt")
    bench.extracted("scan.pdf", outcome=Outcome.NEEDS_OCR, texts={"scan.pdf": ""})
    worker = bench.worker()
    for stage in DRAIN_STAGES:
        bench.finish(worker, bench.hold(worker, [stage]), result=record_result("a short story"))
    first, second = bench.sql(
        "select document, category, summary, text, served_model, outcome from offload.records order by document"
    )
    assert first == {
        "document": "a.txt",
        "category": "other",
        "summary": "a short story",
        "text": "text of a.txt",
        "served_model": "Qwen3.6-27B",
        "outcome": "ok",
    }
    assert (second["document"], second["outcome"], second["category"]) == ("scan.pdf", "needs_ocr", None)
