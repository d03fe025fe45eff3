"""Texts that are too long for the model's context: they are split smaller, and which context applies."""

import threading
from collections import Counter
from typing import Any

import pytest

from dagster_offload.engine.lanes import document
from dagster_offload.ledger.core.rows import BreakerState, State
from dagster_offload.simulator.request_log import fingerprint
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.prompts.long_documents import Reading
from dagster_offload.stages.prompts.splitting import Size, split
from dagster_offload.text.tokens import DEFAULT_CONTEXT_TOKENS, text_tokens
from tests.support.engine import Engine
from tests.support.long_documents import (
    CONTEXT,
    answered_parts,
    book,
    chapter,
    prepared,
    result_of,
)


@pytest.fixture(autouse=True)
def small_context(engine: Engine) -> None:
    engine.options["deep_context_tokens"] = CONTEXT


@pytest.mark.parametrize("how", ["llama.cpp", "vllm", "words", "proxy", "cut_answer"])
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


def test_a_long_document_is_split_again_beside_the_calls_even_if_its_parts_are_short(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_smaller, threads = Reading.split_smaller, list[threading.Thread]()

    def noted(*args: Any) -> bool:
        threads.append(threading.current_thread())
        return split_smaller(*args)

    monkeypatch.setattr(Reading, "split_smaller", noted)
    monkeypatch.setattr(document, "LONG_TEXT", len(book(24)))
    prepared(engine, 24)
    engine.router.set(context_tokens=2_048)
    assert engine.drain(SUMMARIZE, deep_context_tokens=8_192).done == 1
    assert threads
    assert threading.main_thread() not in threads


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
