"""Extractions are claimed and finished in groups."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from dagster_offload.ledger.core.rows import Claim, NewResult
from dagster_offload.ledger.work import claims as work
from dagster_offload.ledger.work import finish as results
from dagster_offload.ledger.work.finish import Finish
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE, Outcome
from tests.support.ledger import RECIPES, Bench, record_result, sha, text_result
from tests.support.stages import DRAIN_STAGES
from tests.support.statements import counted


def take(bench: Bench, worker: int, count: int = 100, **options: Any) -> list[Claim]:
    return bench.ledger.run(work.take, worker, [EXTRACT], RECIPES, count=count, **options)


def finish(bench: Bench, worker: int, *finishes: Finish) -> list[bool]:
    return bench.ledger.run(results.finish, worker, finishes, RECIPES, "run-1")


def found(claim: Claim, text: str | None = None, outcome: Outcome = Outcome.OK) -> Finish:
    return Finish(claim, claim.items[0], text_result(f"text of {claim.document}" if text is None else text, outcome))


def keys(claims: Sequence[Claim]) -> list[str]:
    return [claim.document for claim in claims]


def test_documents_are_claimed_by_priority_and_at_most_count(bench: Bench) -> None:
    for key in "abcd":
        bench.put(key)
    bench.sql(
        "update work_items i set priority = 1 from documents d where d.document_id = i.document_id and d.key = 'c'"
    )
    first, second = bench.worker(), bench.worker()
    claims = take(bench, first, 2)
    assert keys(claims) == ["c", "a"]
    assert [[item.stage for item in claim.items] for claim in claims] == [[EXTRACT]] * 2
    assert len({claim.token for claim in claims}) == 2
    assert [bench.state(key, EXTRACT) for key in "abcd"] == ["claimed", "pending", "claimed", "pending"]
    assert keys(take(bench, second)) == ["b", "d"]
    assert take(bench, first) == []


def test_only_the_given_documents_are_claimed_and_only_when_due(bench: Bench) -> None:
    for key in ("wanted", "deferred", "other", "gone"):
        bench.put(key)
    bench.sql("update documents set is_present = false where key = 'gone'")
    bench.sql(
        "update work_items i set not_before = clock_timestamp() + interval '1 hour' "
        "from documents d where d.document_id = i.document_id and d.key = 'deferred'"
    )
    worker = bench.worker()
    assert keys(take(bench, worker, documents=["wanted", "deferred", "gone"])) == ["wanted"]
    bench.make_due()
    assert keys(take(bench, worker)) == ["deferred", "other"]


def test_extractions_that_must_run_alone_are_claimed_only_with_alone(bench: Bench) -> None:
    bench.put("alone")
    bench.put("beside")
    bench.sql(
        "update work_items i set must_run_alone = true from documents d "
        "where d.document_id = i.document_id and d.key = 'alone'"
    )
    worker = bench.worker()
    assert keys(take(bench, worker)) == ["beside"]
    [claim] = take(bench, worker, alone=True)
    assert (claim.document, claim.is_alone) == ("alone", True)
    assert bench.item("alone", EXTRACT)["claimed_alone"]
    assert finish(bench, worker, found(claim)) == [True]
    assert not bench.item("alone", EXTRACT)["must_run_alone"]


def test_a_reclaimed_worker_claims_no_extraction(bench: Bench) -> None:
    bench.put("a")
    worker = bench.worker()
    bench.die(worker)
    assert take(bench, worker) == []


def test_copies_are_extracted_once(bench: Bench) -> None:
    for key in ("a", "copy", "another copy"):
        bench.put(key, "the same bytes")
    worker = bench.worker()
    [claim] = take(bench, worker)
    assert take(bench, worker) == []
    assert finish(bench, worker, found(claim)) == [True]
    rest = take(bench, worker)
    assert (keys(rest), [claim.items for claim in rest]) == (["copy", "another copy"], [(), ()])
    assert {bench.state(key, EXTRACT) for key in ("copy", "another copy")} == {"done"}
    assert bench.state("copy", CLASSIFY) == "pending"
    assert len(bench.sql("select 1 from results")) == 1


def test_a_dead_workers_claims_are_returned_and_its_late_text_changes_no_state(bench: Bench) -> None:
    for key in "ab":
        bench.put(key)
    dead, worker = bench.worker(), bench.worker()
    late, other = take(bench, dead)
    bench.die(dead)
    assert [bench.item(key, EXTRACT)["lone_deaths"] for key in "ab"] == [0, 0]
    again = take(bench, worker)
    assert keys(again) == ["a", "b"]
    assert finish(bench, dead, found(late), found(other)) == [False, False]
    assert [bench.state(key, EXTRACT) for key in "ab"] == ["claimed", "claimed"]
    assert finish(bench, worker, *map(found, again)) == [True, True]
    assert len(bench.sql("select 1 from results where superseded_at is null")) == 2
    assert len(bench.sql("select 1 from outbox")) == 2


def test_a_lost_claim_does_not_affect_the_others_of_its_group(bench: Bench) -> None:
    for key in "abc":
        bench.put(key)
    worker = bench.worker()
    claims = take(bench, worker)
    bench.put("b", "new bytes")
    assert finish(bench, worker, *map(found, claims)) == [True, False, True]
    assert [bench.state(key, EXTRACT) for key in "abc"] == ["done", "pending", "done"]
    kept = bench.sql("select text from results where first_document = 'b'")
    assert kept == [{"text": "text of b"}], "it was paid for"


def test_empty_documents_of_a_group_are_done_in_all_stages_without_a_call(bench: Bench) -> None:
    for key in "abc":
        bench.put(key)
    worker = bench.worker()
    assert finish(bench, worker, *(found(claim, "", Outcome.EMPTY) for claim in take(bench, worker))) == [True] * 3
    for stage in DRAIN_STAGES:
        assert [bench.item(key, stage)["outcome"] for key in "abc"] == ["empty"] * 3
    assert len(bench.sql("select 1 from results where stage <> 'extract'")) == 2
    assert len(bench.sql("select 1 from outbox")) == 9


def test_texts_with_existing_results_cost_no_call(bench: Bench) -> None:
    bench.extracted("known", texts={"known": "the same text"})
    worker = bench.worker()
    for item in (claim := bench.hold(worker)).items:
        bench.finish(worker, claim, item, record_result("ok"))
    for key in ("same text", "other text"):
        bench.put(key)
    same, other = take(bench, worker)
    assert finish(bench, worker, found(same, "the same text"), found(other)) == [True, True]
    assert [bench.state("same text", stage) for stage in DRAIN_STAGES] == ["done", "done"]
    assert [bench.state("other text", stage) for stage in DRAIN_STAGES] == ["pending", "pending"]
    assert bench.sql("select distinct o.reused_from from outbox o where o.reused_from is not null") == [
        {"reused_from": "known"}
    ]


def test_a_redo_replaces_the_text_and_keeps_later_stages_if_it_is_the_same(bench: Bench) -> None:
    bench.extracted("same", "new")
    bench.sql("update work_items set state = 'pending', is_redo = true where stage = 'extract'")
    bench.sql("update work_items set attempts = 1 where stage = 'summarize'")
    worker = bench.worker()
    same, new = take(bench, worker)
    assert finish(bench, worker, found(same), found(new, "new text")) == [True, True]
    assert [bench.item(key, SUMMARIZE)["attempts"] for key in ("same", "new")] == [1, 0]
    current = bench.sql("select text from results where superseded_at is null order by text")
    assert [row["text"] for row in current] == ["new text", "text of same"]


def test_a_redo_with_a_new_recipe_keeps_later_stages_if_the_text_is_the_same(bench: Bench) -> None:
    bench.extracted("same", "new")
    bench.sql("update work_items set state = 'pending', is_redo = true where stage = 'extract'")
    bench.sql("update work_items set attempts = 1 where stage = 'summarize'")
    worker, newer = bench.worker(), RECIPES | {EXTRACT: "x2"}
    same, new = bench.ledger.run(work.take, worker, [EXTRACT], newer, count=2)
    finishes = [found(same), found(new, "new text")]
    assert bench.ledger.run(results.finish, worker, finishes, newer, None) == [True, True]
    for key in ("same", "new"):
        item = bench.item(key, EXTRACT)
        assert (item["state"], item["recipe"], item["is_redo"]) == ("done", "x2", False)
    assert [bench.item(key, SUMMARIZE)["attempts"] for key in ("same", "new")] == [1, 0]
    assert bench.item("new", SUMMARIZE)["reason"] == "the text changed"


def test_bytes_that_another_worker_is_claiming_are_skipped(bench: Bench) -> None:
    for key in "ab":
        bench.put(key)
    worker = bench.worker()
    with bench.ledger.transaction() as cur:
        cur.execute("select pg_advisory_xact_lock(hashtext('input extract'), hashtext(%s))", [sha("a")])
        assert keys(take(bench, worker)) == ["b"]


def test_a_text_of_any_length_is_stored(bench: Bench) -> None:
    for key in "ab":
        bench.put(key)
    worker = bench.worker()
    long, short = take(bench, worker)
    text = "long " * (results.MOST_CHARACTERS // 5 + 1)
    with counted() as statements:
        assert finish(bench, worker, found(long, text), found(short)) == [True, True]
    assert sum("finish" in str(statement) for statement in statements) == 2, "it gets its own statement"
    assert bench.sql("select length(text) as n from results where first_document = 'a'") == [{"n": len(text)}]


def test_a_group_takes_no_more_statements_than_one_document(bench: Bench) -> None:
    for number in range(21):
        bench.put(f"{number:02}")
    worker = bench.worker()
    with counted() as for_one:
        finish(bench, worker, *map(found, take(bench, worker, 1)))
    with counted() as for_twenty:
        finish(bench, worker, *map(found, take(bench, worker, 20)))
    assert len(for_one) == len(for_twenty) <= 12


def test_a_row_that_postgres_rejects_rolls_back_its_group(bench: Bench) -> None:
    for key in "ab":
        bench.put(key)
    worker = bench.worker()
    good, bad = take(bench, worker)
    refused = Finish(bad, bad.items[0], NewResult(Outcome.OK, "digest", text="\0", value={}))
    with pytest.raises(psycopg.DataError):
        finish(bench, worker, found(good), refused)
    assert [bench.state(key, EXTRACT) for key in "ab"] == ["claimed", "claimed"]


def test_the_seconds_of_an_extraction_are_stored_for_a_very_long_text_too(bench: Bench) -> None:
    bench.put("letter")
    bench.put("book")
    worker = bench.worker()
    texts = {"letter": "text", "book": "x" * (results.MOST_CHARACTERS + 1)}
    finishes = [
        Finish(claim, claim.items[0], replace(text_result(texts[claim.document]), seconds=2.5))
        for claim in take(bench, worker)
    ]
    assert finish(bench, worker, *finishes) == [True, True]
    assert [row["seconds"] for row in bench.sql("select seconds from results where stage = 'extract'")] == [2.5, 2.5]
