"""Parts of long documents in the ledger: stored in any case, with fenced progress, and replaced by one result."""

from typing import Any

import pytest

from dagster_offload.ledger.core.rows import CallRecord, Claim, State
from dagster_offload.ledger.work import claims, documents, partials, redo
from dagster_offload.slot.chat import MOST_TOKENS
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.prompts.splitting import Size
from tests.support.ledger import HALF_AN_HOUR, RECIPES, SLOT, Bench, call, record_result

SIZES = (Size(0, 1_000),)
ANSWER = {"summary": "what it says"}


def spent(tokens: int) -> CallRecord:
    return CallRecord("deep", SLOT.url, 1, "qwen", 2.0, "ok", tokens_in=tokens, tokens_out=10, part="part 1 of 3")


class LongDocument:
    """A document of three parts, claimed for its summary."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        bench.extracted("book.txt")
        self.worker = bench.worker()
        self.claim = bench.hold(self.worker, [SUMMARIZE])
        self.begin()

    def begin(self) -> None:
        self.bench.ledger.run(partials.begin, self.claim, self.claim.items[0], SIZES, 0, 3)

    def keep(self, digest: str, done: int, claim: Claim | None = None) -> bool:
        claim = claim or self.claim
        return self.bench.ledger.run(
            partials.keep, self.worker, claim, claim.items[0], digest, ANSWER, spent(100 * done), done
        )

    def known(self) -> dict[str, dict[str, Any]]:
        return self.bench.ledger.run(partials.answers, self.claim.items[0])

    def item(self) -> dict[str, Any]:
        return self.bench.item("book.txt", SUMMARIZE)


@pytest.fixture
def book(bench: Bench) -> LongDocument:
    return LongDocument(bench)


def test_a_part_is_stored_with_its_call_and_the_items_progress(book: LongDocument) -> None:
    assert book.keep("a", 1)
    assert book.known() == {"a": ANSWER}
    assert (book.item()["parts_done"], book.item()["parts_total"], book.item()["state"]) == (1, 3, State.CLAIMED)
    (row,) = book.bench.sql("select part, tokens_in, outcome from calls")
    assert row == {"part": "part 1 of 3", "tokens_in": 100, "outcome": "ok"}


def test_a_lost_claim_stores_the_answer_and_changes_no_progress(book: LongDocument) -> None:
    book.bench.die(book.worker)
    assert not book.keep("a", 1)
    assert book.known() == {"a": ANSWER}
    assert (book.item()["parts_done"], book.item()["state"]) == (0, State.PENDING)


def test_the_next_claim_has_the_sizes_of_the_parts(book: LongDocument) -> None:
    book.keep("a", 1)
    book.bench.ledger.run(claims.release, book.worker, book.claim, "stopped")
    assert book.bench.hold(book.worker, [SUMMARIZE]).items[0].part_sizes == [[0, 1_000]]


def test_a_part_reported_twice_is_stored_once(book: LongDocument) -> None:
    book.keep("a", 1)
    book.keep("a", 1)
    assert len(book.bench.sql("select 1 from part_answers")) == 1


def test_deaths_before_a_part_was_answered_do_not_count_for_the_next(book: LongDocument) -> None:
    bench = book.bench
    for done in range(1, 6):
        bench.die(book.worker)
        book.worker = bench.worker()
        alone = bool(book.item()["must_run_alone"])
        book.claim = bench.hold(book.worker, [SUMMARIZE], alone=alone)
        book.keep(f"part {done}", done)
    assert (book.item()["state"], book.item()["reclaims"], book.item()["lone_deaths"]) == (State.CLAIMED, 0, 0)


def test_a_part_that_kills_its_worker_every_time_quarantines_the_document(book: LongDocument) -> None:
    bench = book.bench
    book.keep("a", 1)
    while book.item()["state"] != State.QUARANTINED:
        bench.die(book.worker)
        book.worker = bench.worker()
        claim = bench.take(book.worker, [SUMMARIZE], alone=bool(book.item()["must_run_alone"]))
        assert claim is not None or book.item()["state"] == State.QUARANTINED
    assert book.item()["reclaims"] == 5


def test_a_slot_that_becomes_unavailable_during_a_part_does_not_refuse_the_document(book: LongDocument) -> None:
    bench = book.bench
    bench.extracted("letter.txt")
    for done in range(1, 6):
        book.keep(f"part {done}", done)
        bench.defer(book.worker, book.claim, epoch=bench.slot().epoch)
        bench.make_due()
        bench.sql("update slots set breaker = 'closed'")
        book.claim = bench.hold(book.worker, [SUMMARIZE], keys=["book.txt"])
    assert book.item()["deferrals"] == 5
    assert not book.item()["must_run_alone"]


def test_the_result_replaces_the_parts_and_has_their_total_cost(book: LongDocument) -> None:
    book.keep("a", 1)
    book.keep("b", 2)
    item = book.claim.items[0]
    assert book.bench.ledger.run(
        partials.finish_in_parts, book.worker, book.claim, item, record_result("whole"), RECIPES, None
    )
    assert book.known() == {}
    (row,) = book.bench.sql("select tokens_in, tokens_out, seconds from results where stage = 'summarize'")
    assert row == {"tokens_in": 300, "tokens_out": 20, "seconds": 2.0 + 2.0 + 1.5}
    assert book.item()["state"] == State.DONE


def test_a_server_that_counts_absurdly_many_tokens_does_not_keep_the_result_from_being_stored(
    book: LongDocument,
) -> None:
    for number, digest in enumerate("abc", 1):
        book.keep(digest, number)
    book.bench.sql("update part_answers set tokens_in = %s, tokens_out = %s", MOST_TOKENS, MOST_TOKENS)
    item = book.claim.items[0]
    assert book.bench.ledger.run(
        partials.finish_in_parts, book.worker, book.claim, item, record_result("whole"), RECIPES, None
    )
    (row,) = book.bench.sql("select tokens_in, tokens_out from results where stage = 'summarize'")
    assert row == {"tokens_in": MOST_TOKENS, "tokens_out": MOST_TOKENS}


def test_a_part_that_is_too_long_costs_no_attempt_and_sets_the_sizes_for_the_other_stages(book: LongDocument) -> None:
    smaller = (Size(0, 400),)
    item = book.claim.items[0]
    refused = call(outcome="context_too_long")
    book.bench.ledger.run(partials.split_smaller, book.worker, book.claim, item, refused, smaller, 0, 8)
    assert (book.item()["attempts"], book.item()["deferrals"], book.item()["parts_total"]) == (0, 0, 8)
    assert book.bench.item("book.txt", CLASSIFY)["part_sizes"] == [[0, 400]]
    assert [row["outcome"] for row in book.bench.sql("select outcome from calls")] == ["context_too_long"]


def test_a_retry_keeps_answered_parts_and_without_any_sends_the_whole_document(bench: Bench) -> None:
    book = LongDocument(bench)
    book.keep("a", 1)
    bench.fail(book.worker, book.claim, is_final=True)
    bench.ledger.run(redo.retry, [SUMMARIZE])
    assert (book.item()["part_sizes"], book.item()["parts_done"], len(book.known())) == ([[0, 1_000]], 1, 1)
    book.claim = bench.hold(book.worker, [SUMMARIZE])
    bench.sql("update work_items set parts_done = 0")
    bench.fail(book.worker, book.claim, is_final=True)
    bench.ledger.run(redo.retry, [SUMMARIZE])
    assert book.item()["part_sizes"] is None


def test_a_redo_deletes_the_parts_of_that_text(book: LongDocument) -> None:
    item = book.claim.items[0]
    book.bench.ledger.run(
        partials.finish_in_parts, book.worker, book.claim, item, record_result("whole"), RECIPES, None
    )
    book.keep("late", 1)  # by a reclaimed worker
    book.bench.redo([SUMMARIZE], ["book.txt"])
    assert book.known() == {}
    assert (book.item()["state"], book.item()["part_sizes"], book.item()["parts_total"]) == (State.PENDING, None, None)


def test_the_parts_of_a_gone_file_are_kept(book: LongDocument) -> None:
    book.keep("a", 1)
    book.bench.ledger.run(documents.mark_gone, ["book.txt"])
    assert book.known() == {"a": ANSWER}
    assert book.item()["state"] == State.GONE


def test_deferring_a_long_document_keeps_its_progress(book: LongDocument) -> None:
    book.keep("a", 1)
    book.bench.defer(book.worker, book.claim, wait=HALF_AN_HOUR)
    assert (book.item()["state"], book.item()["parts_done"], book.item()["parts_total"]) == (State.DEFERRED, 1, 3)
