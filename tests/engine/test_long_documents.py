"""Long documents in the engine: each part is sent once despite interruptions; one claim, one result, one event."""

from collections import Counter

import pytest

from dagster_offload.drain import run_drain
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.reports.explanation import explain
from dagster_offload.settings import load_settings
from dagster_offload.simulator.answers import LONG_DOCUMENT_WORDS, MERGE, PART
from dagster_offload.simulator.request_log import fingerprint
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.prompts.splitting import Size, split
from dagster_offload.text.tokens import text_tokens
from tests.support.engine import DrainsHeard, Engine
from tests.support.ledger import text_result
from tests.support.long_documents import (
    CONTEXT,
    answered,
    answered_parts,
    book,
    chapter,
    interrupted,
    prepared,
    result_of,
)
from tests.support.router import change_after


@pytest.fixture(autouse=True)
def small_context(engine: Engine) -> None:
    engine.options["deep_context_tokens"] = CONTEXT


def test_each_chapter_is_a_part(engine: Engine) -> None:
    assert split(book(9), (Size(0, text_tokens(CONTEXT)),)) == [chapter(n) for n in range(1, 10)]


def test_a_long_document_is_read_to_its_end_and_becomes_one_result_and_one_event(engine: Engine) -> None:
    prepared(engine, 9)
    summary = engine.drain()
    assert (summary.done, summary.failed, summary.deferred, summary.left) == (1, 0, 0, 0)
    assert answered_parts(engine) == Counter(fingerprint(chapter(n)) for n in range(1, 10))
    value = result_of(engine)["value"]
    assert (value["parts"], value["parts_read"]) == (9, 9)
    assert len(engine.sql("select 1 from outbox where stage = 'summarize' and state is null")) == 1
    assert len(engine.sql("select 1 from transitions where stage = 'summarize' and to_state = 'claimed'")) == 1
    item = engine.item("book.txt", SUMMARIZE)
    assert (item["attempts"], item["parts_done"], item["parts_total"]) == (0, 9, 9)


def test_classify_sends_only_the_beginning_and_the_server_reads_it_once(engine: Engine) -> None:
    prepared(engine)
    engine.router.set(concurrency=1)
    engine.drain()
    asked = answered(engine)
    classified = [entry for entry in asked if entry["stage"] == CLASSIFY]
    assert [entry["document"] for entry in classified] == [fingerprint(chapter(1))]
    after = asked[asked.index(classified[0]) + 1]
    assert (after["document"], after["stage"]) == (classified[0]["document"], SUMMARIZE)
    assert after["document_tokens_read"] == 0
    value = result_of(engine, stage=CLASSIFY)["value"]
    assert (value["parts"], value["parts_read"]) == (6, 1)


def test_merges_have_the_same_layout_and_levels_that_fit(engine: Engine) -> None:
    prepared(engine, 30)
    engine.drain()
    merges = [entry for entry in answered(engine) if entry["asked_about"] == MERGE]
    assert len(merges) >= 3
    assert all(entry["document"] for entry in merges), "the answers to merge are in the system message, like a document"
    assert all(entry["prompt_tokens"] < CONTEXT for entry in merges)


def test_the_instructions_contain_the_phrases_that_the_stand_in_router_expects() -> None:
    whole = llm_stages(load_settings())[SUMMARIZE].whole
    assert whole is not None
    assert LONG_DOCUMENT_WORDS[PART] in whole.part_instruction
    assert LONG_DOCUMENT_WORDS[MERGE] in whole.merge_instruction


def test_the_result_contains_the_cost_of_all_parts_and_replaces_them(engine: Engine) -> None:
    prepared(engine)
    engine.drain()
    (spent,) = engine.sql(
        "select sum(tokens_in) as tokens_in, sum(tokens_out) as tokens_out from calls where stage = 'summarize'"
    )
    result = result_of(engine)
    assert (result["tokens_in"], result["tokens_out"]) == (spent["tokens_in"], spent["tokens_out"])
    assert engine.sql("select 1 from part_answers") == []


def test_an_outage_between_parts_costs_nothing_and_the_rest_is_sent_once(engine: Engine) -> None:
    prepared(engine)
    engine.router.set(concurrency=1)
    change_after(engine.router, after_answers=4, mode="cold")
    summary = engine.drain(SUMMARIZE)
    assert (summary.done, summary.deferred) == (0, 1)
    item = engine.item("book.txt", SUMMARIZE)
    assert (item["state"], item["attempts"], item["parts_done"], item["parts_total"]) == (State.DEFERRED, 0, 4, 6)
    engine.router.set(mode="awake")
    engine.retry_now()
    assert engine.drain(SUMMARIZE).done == 1
    assert set(answered_parts(engine).values()) == {1}
    assert len(answered_parts(engine)) == 6


def test_a_persons_call_runs_before_the_next_part(engine: Engine, drains_heard: DrainsHeard) -> None:
    prepared(engine)
    engine.texts("letter.txt")
    engine.sql(
        "update work_items set priority = 1 where document_id = (select document_id from documents where key = 'book.txt')"
    )
    engine.router.set(hold=True)
    drain = engine.beside(run_drain, engine.settings(), engine.ledger, SUMMARIZE)
    engine.router.wait(open=1)
    person = engine.beside(engine.run, "letter.txt")
    engine.wait_until("select 1 from permit_waiters where is_person")
    drains_heard()
    engine.router.set(hold=False)
    assert person.result().done == 1
    drain.result()
    assert engine.drain(SUMMARIZE).left == 0
    order = [entry["asked_about"] for entry in answered(engine)]
    assert order.index(PART) == 0
    letter = [index for index, what in enumerate(order) if what is None]
    parts = [index for index, what in enumerate(order) if what == PART]
    assert letter[0] < parts[1], "the person's document came after the part in flight"
    assert set(answered_parts(engine).values()) == {1}


def test_a_lost_worker_keeps_the_part_that_was_answered(engine: Engine) -> None:
    prepared(engine)
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain, SUMMARIZE)
    engine.router.wait(open=1)
    (row,) = engine.sql("select worker_id from workers where kind = 'drain' and ended_at is null")
    engine.die(row["worker_id"])
    engine.router.set(hold=False)
    drain.result()
    assert len(engine.asked()) == 1
    assert engine.item("book.txt", SUMMARIZE)["parts_done"] == 0, "a lost worker does not update the progress"
    assert len(engine.sql("select 1 from part_answers")) == 1
    assert engine.drain(SUMMARIZE).done == 1
    assert set(answered_parts(engine).values()) == {1}


def test_a_fault_of_one_part_costs_the_document_one_attempt_and_keeps_the_parts_done(engine: Engine) -> None:
    prepared(engine)
    engine.router.set(concurrency=1)
    change_after(engine.router, after_answers=3, answers="garbage")
    engine.drain(SUMMARIZE)
    item = engine.item("book.txt", SUMMARIZE)
    assert (item["state"], item["attempts"]) == (State.PENDING, 1)
    assert item["parts_done"] == 3
    engine.router.set(answers="good")
    engine.make_due()
    before = len(answered(engine))
    assert engine.drain(SUMMARIZE).done == 1
    assert len([entry for entry in answered(engine)[before:] if entry["asked_about"] == PART]) == 6 - 3


def test_a_copy_continues_where_the_other_document_stopped(engine: Engine) -> None:
    text = prepared(engine)
    done = interrupted(engine)
    engine.extracted("copy.txt", texts={"copy.txt": text})
    engine.sql(
        "update work_items set not_before = clock_timestamp() + interval '1 hour', deferred_epoch = 99 where state = 'deferred'"
    )
    engine.drain(SUMMARIZE)
    assert engine.state("copy.txt", SUMMARIZE) == State.DONE
    assert set(answered_parts(engine).values()) == {1}
    assert 0 < done < 6


def test_all_parts_of_a_changed_text_are_sent_again(engine: Engine) -> None:
    """Answers belong to one text: a part may mean something else in another text."""
    prepared(engine)
    interrupted(engine)
    engine.put("book.txt", "another file")
    claim = engine.hold(engine.worker("scan"), ["extract"])
    engine.finish(engine.worker("scan"), claim, result=text_result(book(6, first=3)))
    item = engine.item("book.txt", SUMMARIZE)
    assert (item["parts_done"], item["parts_total"], item["part_sizes"]) == (0, None, None)
    assert engine.drain(SUMMARIZE).done == 1
    assert result_of(engine)["value"]["parts"] == 6


def test_a_redo_sends_every_part_again(engine: Engine) -> None:
    prepared(engine)
    engine.drain(SUMMARIZE)
    engine.redo([SUMMARIZE], ["book.txt"])
    assert engine.drain(SUMMARIZE).done == 1
    assert set(answered_parts(engine).values()) == {2}
    assert len(engine.sql("select 1 from results where stage = 'summarize' and superseded_at is null")) == 1


def test_a_new_recipe_shares_no_parts_with_the_old_one(engine: Engine) -> None:
    prepared(engine)
    done = interrupted(engine)
    assert engine.drain(SUMMARIZE, deep_model="another").done == 1
    assert sum(answered_parts(engine).values()) == done + 6


def test_a_split_is_remembered_so_that_a_changed_setting_loses_no_part(engine: Engine) -> None:
    prepared(engine)
    interrupted(engine)
    assert engine.drain(SUMMARIZE, deep_context_tokens=2 * CONTEXT).done == 1
    assert len(answered_parts(engine)) == 6
    assert set(answered_parts(engine).values()) == {1}


# Reports


def test_explain_shows_the_parts_of_items_and_calls(engine: Engine) -> None:
    prepared(engine)
    done = interrupted(engine)
    found = engine.ledger.run(explain, "book.txt")
    assert found is not None
    (item,) = [item for item in found.items if item.stage == SUMMARIZE]
    assert (item.parts_done, item.parts_total) == (done, 6)
    assert [call.part for call in found.calls if call.outcome == "ok"][:2] == ["part 1 of 6", "part 2 of 6"]


def test_status_names_the_long_documents_in_progress(engine: Engine) -> None:
    prepared(engine)
    engine.texts("letter.txt")
    assert engine.ledger.run(status.in_parts) == []
    done = interrupted(engine)
    (read,) = engine.ledger.run(status.in_parts)
    assert (read.document, read.stage, read.state, read.done, read.total) == (
        "book.txt",
        SUMMARIZE,
        "deferred",
        done,
        6,
    )
    engine.drain()
    assert engine.ledger.run(status.in_parts) == []
