"""A long document that is being read makes way for shorter ones between two of its parts."""

from collections import Counter
from concurrent.futures import Future

import pytest

from dagster_offload.drain import DrainSummary
from dagster_offload.simulator.answers import PART
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.testing import ChangeTiming
from tests.support.engine import Engine
from tests.support.long_documents import CONTEXT, answered, answered_parts, book, prepared

PARTS = 6


@pytest.fixture(autouse=True)
def small_context(engine: Engine, change_timing: ChangeTiming) -> None:
    engine.options["deep_context_tokens"] = CONTEXT
    change_timing(make_way=0.0)  # a lane looks for shorter documents after each part


def goes_behind(engine: Engine, key: str, steps: int = 3) -> None:
    """Let a document stand behind others, as one does whose text is that long."""
    engine.sql(
        "update work_items set priority = -%s where stage <> 'extract' "
        "and document_id = (select document_id from documents where key = %s)",
        steps,
        key,
    )


def drain_in_the_first_part(engine: Engine, *, limit: int | None = None, concurrency: int = 1) -> Future[DrainSummary]:
    """A drain whose first call, about a part of the book, is held at the router."""
    prepared(engine, PARTS)
    goes_behind(engine, "book.txt")
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain, SUMMARIZE, limit, deep_concurrency=concurrency)
    engine.router.wait(open=1)
    return drain


def letters(engine: Engine, *keys: str) -> None:
    engine.extracted(*keys, texts={key: f"{key}: the rent is due." for key in keys})


def order(engine: Engine) -> list[str]:
    """What was answered, in order: parts of books and whole letters; merges are left out."""
    return [
        "part" if each["asked_about"] == PART else "letter"
        for each in answered(engine)
        if each["asked_about"] in (PART, None)
    ]


def claims_of(engine: Engine, key: str, stage: str = SUMMARIZE) -> int:
    (row,) = engine.sql(
        "select count(*) as n from transitions join documents using (document_id) "
        "where key = %s and stage = %s and to_state = 'claimed'",
        key,
        stage,
    )
    return int(row["n"])


@pytest.mark.rule("ledger-11")
def test_a_short_document_goes_before_the_next_part_and_each_part_is_read_once(engine: Engine) -> None:
    drain = drain_in_the_first_part(engine)
    letters(engine, "letter-1.txt", "letter-2.txt")
    engine.router.set(hold=False)
    summary = drain.result()
    assert (summary.done, summary.left) == (3, 0)
    assert order(engine) == ["part", "letter", "letter", *["part"] * (PARTS - 1)]
    assert set(answered_parts(engine).values()) == {1}
    (left,) = engine.sql("select reason from transitions where from_state = 'claimed' and to_state = 'pending'")
    assert left["reason"] == f"the document's summarize was left after 1 of {PARTS} parts: shorter documents go first"


def test_a_long_document_goes_on_if_a_free_lane_takes_the_short_one(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    change_timing(recheck=0.02)
    drain = drain_in_the_first_part(engine, concurrency=2)
    letters(engine, "letter.txt")
    engine.router.wait(open=2)
    engine.router.set(hold=False)
    assert drain.result().done == 2
    assert claims_of(engine, "book.txt") == 1


def test_two_long_documents_do_not_make_way_for_each_other_in_turn(engine: Engine) -> None:
    drain = drain_in_the_first_part(engine)
    text = book(PARTS, first=20)
    engine.extracted("shorter.txt", texts={"shorter.txt": text})
    goes_behind(engine, "shorter.txt", 2)
    engine.router.set(hold=False)
    assert drain.result().done == 2
    assert (claims_of(engine, "book.txt"), claims_of(engine, "shorter.txt")) == (2, 1)


def test_documents_of_the_same_length_wait_for_their_turn(engine: Engine) -> None:
    drain = drain_in_the_first_part(engine)
    letters(engine, "as-long.txt")
    goes_behind(engine, "as-long.txt")
    engine.router.set(hold=False)
    assert drain.result().done == 2
    assert order(engine) == [*["part"] * PARTS, "letter"]


def test_a_short_document_that_cannot_start_yet_keeps_no_long_one_waiting(engine: Engine) -> None:
    drain = drain_in_the_first_part(engine)
    letters(engine, "letter.txt")
    engine.sql(
        "update work_items set not_before = clock_timestamp() + interval '1 hour' where stage = 'summarize' "
        "and document_id = (select document_id from documents where key = 'letter.txt')"
    )
    engine.router.set(hold=False)
    assert drain.result().done == 1
    assert claims_of(engine, "book.txt") == 1


@pytest.mark.rule("drain-9")
def test_a_document_that_makes_way_counts_once_in_the_limit(engine: Engine) -> None:
    drain = drain_in_the_first_part(engine, limit=2)
    letters(engine, "letter-1.txt", "letter-2.txt", "letter-3.txt")
    engine.router.set(hold=False)
    assert drain.result().done == 2
    engine.drain(SUMMARIZE)
    assert set(answered_parts(engine).values()) == {1}


def test_a_long_document_that_runs_alone_makes_way_and_is_continued_in_the_same_drain(engine: Engine) -> None:
    prepared(engine, PARTS)
    goes_behind(engine, "book.txt")
    engine.sql("update work_items set must_run_alone = true where stage = 'summarize'")
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain, SUMMARIZE, deep_concurrency=2)
    engine.router.wait(open=1)
    letters(engine, "letter.txt")
    engine.router.set(hold=False)
    assert drain.result().done == 2
    assert order(engine)[:2] == ["part", "letter"]
    assert set(answered_parts(engine).values()) == {1}
    assert engine.sql("select 1 from permits") == []


def test_a_stage_that_reads_a_record_does_not_keep_a_long_document_in_front(engine: Engine) -> None:
    """Such a stage is due at once, and short. It is done first, so that what is left of the document is long."""
    engine.use_stages(topic={"reads": CLASSIFY, "prompt": "Name the topic.", "answer": {"topic": "string"}})
    prepared(engine, PARTS)
    goes_behind(engine, "book.txt")
    engine.drain(CLASSIFY)
    before = len(engine.router.completions())
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain)
    engine.router.wait(open=1)
    letters(engine, "letter.txt")
    engine.router.set(hold=False)
    drain.result()
    asked = [(entry["stage"], entry["asked_about"]) for entry in engine.router.completions()[before:]]
    parts = Counter(what for _, what in asked)[PART]
    letter = asked.index((SUMMARIZE, None))
    assert parts == PARTS
    assert Counter(what for _, what in asked[:letter])[PART] <= 1
