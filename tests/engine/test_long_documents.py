"""Long documents in the engine: each part is sent once despite interruptions; one claim, one result, one event."""

from collections import Counter
from typing import Any

import pytest

from dagster_offload.drain import run_drain
from dagster_offload.ledger.core.rows import BreakerState, State
from dagster_offload.ledger.reports import status
from dagster_offload.settings import load_settings
from dagster_offload.simulator.answers import LONG_DOCUMENT_WORDS, MERGE, PART
from dagster_offload.simulator.request_log import fingerprint
from dagster_offload.stages.catalog import llm_stages, recipes
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.prompts.splitting import Size, split
from dagster_offload.text.tokens import DEFAULT_CONTEXT_TOKENS, text_tokens
from tests.support.engine import DrainsHeard, Engine
from tests.support.ledger import text_result
from tests.support.router import change_after

CONTEXT = 2_500
SENTENCES = (
    "The tenant of flat {n} shall pay the rent on day {n} of every month. The landlord of house {n} repairs it. "
)


def chapter(number: int) -> str:
    """About four fifths of what fits in one request."""
    return f"# Chapter {number}\n\n" + SENTENCES.format(n=number) * 11 + "\n\n"


def book(chapters: int, first: int = 1) -> str:
    return "".join(chapter(number) for number in range(first, first + chapters))


@pytest.fixture(autouse=True)
def small_context(engine: Engine) -> None:
    engine.options["deep_context_tokens"] = CONTEXT


def prepared(engine: Engine, chapters: int = 6, key: str = "book.txt") -> str:
    text = book(chapters)
    engine.extracted(key, texts={key: text})
    return text


def answered(engine: Engine) -> list[dict[str, Any]]:
    return [entry for entry in engine.router.completions() if entry["document"] and entry["outcome"] == "answered"]


def answered_parts(engine: Engine) -> Counter[str]:
    return Counter(entry["document"] for entry in answered(engine) if entry["asked_about"] == PART)


def result_of(engine: Engine, key: str = "book.txt", stage: str = SUMMARIZE) -> dict[str, Any]:
    (row,) = engine.sql(
        "select r.* from results r join work_items i using (result_id) join documents d using (document_id) "
        "where d.key = %s and i.stage = %s",
        key,
        stage,
    )
    return row


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


def interrupted(engine: Engine, answers: int = 3) -> int:
    """Run a drain that ends after a few parts. Returns the number of parts done."""
    change_after(engine.router, after_answers=answers, mode="cold")
    engine.drain(SUMMARIZE)
    engine.router.set(mode="awake")
    engine.retry_now()
    return int(engine.item("book.txt", SUMMARIZE)["parts_done"])


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


# More than the model's context holds


@pytest.mark.parametrize("how", ["llama.cpp", "vllm", "words", "cut_answer"])
@pytest.mark.parametrize("is_reported", [True, False], ids=["the model list reports it", "the model list does not"])
def test_a_part_too_long_for_the_server_is_split_smaller_and_costs_no_attempt(
    engine: Engine, how: str, *, is_reported: bool
) -> None:
    prepared(engine, 12)
    engine.router.set(context_tokens=2_048, too_long=how, tells_context=is_reported)
    summary = engine.drain(deep_context_tokens=8_192)
    assert (summary.done, summary.failed, summary.deferred) == (1, 0, 0)
    for stage in (CLASSIFY, SUMMARIZE):
        item = engine.item("book.txt", stage)
        assert (item["attempts"], item["deferrals"]) == (0, 0)
    assert engine.slot().breaker is BreakerState.CLOSED
    assert engine.sql("select 1 from calls where item_id is null") == [], "no trial"
    outcomes = Counter(row["outcome"] for row in engine.sql("select outcome from calls"))
    assert outcomes.keys() == {"ok", "context_too_long"}
    assert outcomes["context_too_long"] <= 4
    assert set(answered_parts(engine).values()) <= {1, 2}  # 2: the beginning, which is also sent for classify


def test_the_second_stage_uses_the_split_that_the_first_one_found(engine: Engine) -> None:
    prepared(engine, 12)
    engine.router.set(context_tokens=2_048)
    engine.drain(deep_context_tokens=8_192)
    refused = engine.sql("select stage from calls where outcome = 'context_too_long'")
    assert {row["stage"] for row in refused} == {CLASSIFY}


def test_parts_before_one_that_is_too_long_are_not_sent_again(engine: Engine) -> None:
    digits = "1,234;5,678;9,012\n" * 400  # this server counts every character as a token
    text = book(4) + "\f" + digits + "\f" + book(4, first=5)
    engine.extracted("book.txt", texts={"book.txt": text})
    engine.router.set(context_tokens=1_500, concurrency=1)
    assert engine.drain(SUMMARIZE).done == 1
    assert set(answered_parts(engine).values()) == {1}
    as_before = {fingerprint(chapter(n)) for n in (1, 2, 3, 6, 7, 8)}
    assert as_before <= set(answered_parts(engine)), "only the table was split smaller"


def test_a_context_too_small_for_any_text_is_a_fault_that_names_the_setting(engine: Engine) -> None:
    prepared(engine)
    engine.router.set(context_tokens=256)
    engine.drain(SUMMARIZE)
    item = engine.item("book.txt", SUMMARIZE)
    assert (item["state"], item["attempts"]) == (State.PENDING, 1)
    assert item["reason"].startswith("context_too_small: ")
    assert "OFFLOAD_DEEP_CONTEXT_TOKENS" in item["reason"]


def test_without_the_setting_the_servers_reported_context_applies_and_the_recipe_stays(engine: Engine) -> None:
    prepared(engine, 12)
    engine.router.set(context_tokens=4_096)
    before = recipes(engine.settings(deep_context_tokens=None))
    assert engine.drain(deep_context_tokens=None).done == 1
    assert engine.sql("select 1 from calls where outcome <> 'ok'") == []
    assert result_of(engine)["value"]["parts"] == len(split(book(12), (Size(0, text_tokens(4_096)),)))
    engine.router.set(context_tokens=None)
    assert recipes(engine.settings(deep_context_tokens=None)) == before == recipes(engine.settings())
    assert [entry["path"] for entry in engine.router.log()["requests"]].count("/v1/models") == 1


def test_the_default_context_applies_if_neither_setting_nor_server_gives_one(engine: Engine) -> None:
    prepared(engine, 12)
    assert engine.drain(deep_context_tokens=None).done == 1
    assert "parts" not in result_of(engine)["value"]
    assert len(split(book(12), (Size(0, text_tokens(DEFAULT_CONTEXT_TOKENS)),))) == 1


# Reports


def test_explain_shows_the_parts_of_items_and_calls(engine: Engine) -> None:
    prepared(engine)
    done = interrupted(engine)
    found = engine.ledger.run(status.explain, "book.txt")
    assert found is not None
    (item,) = [item for item in found.items if item["stage"] == SUMMARIZE]
    assert (item["parts_done"], item["parts_total"]) == (done, 6)
    assert [call["part"] for call in found.calls if call["outcome"] == "ok"][:2] == ["part 1 of 6", "part 2 of 6"]


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
