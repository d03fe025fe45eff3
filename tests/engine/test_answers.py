"""Unusable answers in the real engine: what is retried, what costs an attempt, what is kept for a person."""

from pathlib import Path

import pytest

from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.slots import dialects, holds
from dagster_offload.ledger.work import refused_answers
from dagster_offload.simulator import context as simulator_context
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.prompts.splitting import Size, split
from dagster_offload.text.tokens import text_tokens
from tests.support.engine import FILLER, Engine


def kept(engine: Engine, document: str = "a.txt") -> list[tuple[str, str, str]]:
    found = engine.ledger.run(refused_answers.of_document, document)
    return [(refused.stage, refused.code, refused.answer) for refused in found]


def outcomes(engine: Engine) -> list[str]:
    return [
        row["outcome"] for row in engine.sql("select outcome from calls where item_id is not null order by call_id")
    ]


def test_the_answers_that_failed_a_document_are_kept_for_a_person(engine: Engine) -> None:
    engine.router.set(answers="garbage")
    engine.texts("a.txt")
    for _ in range(3):
        engine.drain(CLASSIFY)
        engine.make_due()
    assert engine.state("a.txt", CLASSIFY) == State.FAILED
    answer = "I would rather not answer in JSON."
    assert kept(engine) == [(CLASSIFY, "no_json", answer)] * refused_answers.KEPT_PER_ITEM
    reasons = engine.sql("select reason from transitions union all select reason from work_items")
    assert not any(answer in str(row["reason"]) for row in reasons)


def test_a_blank_answer_is_retried_once_without_a_schema(engine: Engine) -> None:
    engine.router.set(response_format="blanks")
    engine.texts("a.txt")
    engine.drain()
    assert outcomes(engine) == ["blank_answer", "ok"] * 2
    assert engine.state("a.txt", SUMMARIZE) == State.DONE
    assert engine.sql("select 1 from work_items where attempts > 0") == []


def test_an_answer_cut_at_its_limit_is_retried_once(engine: Engine) -> None:
    engine.router.set(answers="length")
    engine.texts("a.txt")
    engine.drain(CLASSIFY)
    assert outcomes(engine) == ["cut_by_max_tokens"] * 2
    assert engine.item("a.txt", CLASSIFY)["attempts"] == 1


@pytest.mark.parametrize("behaviour", ["obeys_effort", "obeys_no_think", "always"])
def test_a_server_with_another_switch_for_thinking_costs_no_document_an_attempt(engine: Engine, behaviour: str) -> None:
    engine.router.set(thinking=behaviour)
    engine.texts("a.txt", "b.txt")
    summary = engine.drain()
    assert (summary.done, summary.failed) == (2, 0)
    assert engine.sql("select 1 from work_items where attempts > 0") == []
    calls = len(engine.router.completions())
    engine.texts("c.txt")
    engine.drain()
    assert len(engine.router.completions()) == calls + 2, "the next drain knows the dialect"


def test_a_second_question_is_served_by_the_prompt_cache(engine: Engine) -> None:
    engine.router.set(answers="garbage")
    engine.texts("a.txt")
    engine.drain(CLASSIFY)
    assert len(engine.asked()) == 2
    assert engine.router.log()["read_ratio"] == pytest.approx(1.0, abs=0.02)


def test_a_servers_dialect_is_detected_again_when_its_settings_change_and_after_a_day(engine: Engine) -> None:
    engine.router.set(response_format="refused")
    engine.texts("a.txt")
    engine.drain()
    deep, other = engine.settings().slots.deep, engine.settings(deep_api_key="k").slots.deep
    assert deep is not None
    assert other is not None
    assert engine.ledger.run(dialects.recall, deep)["response_format"]["json_schema"] == "refused"
    assert engine.ledger.run(dialects.recall, other) == {}
    engine.sql("update slots set dialects_at = dialects_at - interval '25 hours'")
    assert engine.ledger.run(dialects.recall, deep) == {}


@pytest.mark.rule("answer-5")
def test_garbage_answers_do_not_change_how_a_slot_is_asked_for_json(engine: Engine) -> None:
    engine.texts(*(f"{number}.txt" for number in range(4)))
    engine.drain(CLASSIFY, limit=1)
    engine.router.set(answers="garbage")
    for _ in range(4):
        engine.drain(CLASSIFY)
        engine.make_due()
        engine.ledger.run(holds.end_all, "deep")
    engine.router.set(answers="good")
    engine.drain(CLASSIFY)
    engine.texts("new.txt", "newer.txt")
    engine.drain()
    deep = engine.settings().slots.deep
    assert deep is not None
    assert engine.ledger.run(dialects.recall, deep)["response_format"] == {"json_schema": "obeyed"}
    assert engine.router.completions()[-1]["response_format"] == "json_schema"


@pytest.mark.rule("answer-5")
def test_a_variant_that_was_lost_is_doubted_an_hour_later_and_forgotten_after_a_day(engine: Engine) -> None:
    engine.texts("a.txt")
    engine.drain(CLASSIFY)
    deep = engine.settings().slots.deep
    assert deep is not None
    known = {"json_schema": "no longer obeyed", "json_object": "obeyed"}
    engine.ledger.run(dialects.remember, deep, {"response_format": known})
    assert engine.ledger.run(dialects.recall, deep)["response_format"] == known
    engine.sql(
        "update slots set dialects = jsonb_set(dialects, '{stored_at}', to_jsonb(now() - interval '61 minutes')), "
        "dialects_at = dialects_at - interval '23 hours'"
    )
    assert engine.ledger.run(dialects.recall, deep)["response_format"]["json_schema"] == "obeyed before but not lately"
    engine.ledger.run(dialects.remember, deep, {"response_format": known})
    engine.sql("update slots set dialects_at = dialects_at - interval '1 hour'")
    assert engine.ledger.run(dialects.recall, deep) == {}, "the day began with the first findings"


def test_refused_answers_are_deleted_with_the_work_item(engine: Engine, tmp_path: Path) -> None:
    (engine.library / "a.txt").write_text("The first text of this document.")
    engine.scan()
    engine.router.set(answers="garbage")
    engine.drain(CLASSIFY)
    assert kept(engine)
    (engine.library / "a.txt").write_text("Another text of this document.")
    engine.scan()
    assert kept(engine) == []


# A server that always thinks, and checks whether its context holds the prompt and the token limit together


@pytest.mark.parametrize("setting", [None, 4_096, 32_768], ids=["not set", "set", "set too high"])
def test_room_to_think_never_makes_a_short_document_too_long(engine: Engine, setting: int | None) -> None:
    engine.router.set(thinking="always", context_tokens=4_096, too_long="vllm")
    keys = [f"{number}.txt" for number in range(8)]
    engine.extracted(*keys, texts={key: f"{key}: a short letter about the rent." for key in keys})
    summary = engine.drain(deep_context_tokens=setting)
    assert (summary.done, summary.failed, summary.left) == (8, 0, 0)
    assert engine.sql("select 1 from work_items where attempts > 0") == []
    refused = outcomes(engine).count("context_too_long")
    assert refused <= 1, "one refusal is enough to learn the context"
    rooms = {entry["max_tokens"] for entry in engine.router.completions() if entry["outcome"] == "answered"}
    assert max(rooms) > 2_000, "the rest of the context is room to think"


def test_a_refusal_as_too_long_without_a_number_is_retried_once_without_room_to_think(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_numbers = {"message": "the request exceeds the context", "code": 400}

    def refusal(_behaviour: object, prompt_tokens: int, max_tokens: int) -> tuple[int, dict[str, object]] | None:
        return (400, without_numbers) if prompt_tokens + max_tokens > 4_096 else None

    monkeypatch.setattr(simulator_context, "refusal", refusal)
    engine.router.set(thinking="always", thinking_tokens=50)
    keys = [f"{number}.txt" for number in range(8)]
    engine.extracted(*keys, texts={key: f"{key}: a short letter about the rent." for key in keys})
    summary = engine.drain()
    assert (summary.done, summary.failed, summary.left) == (8, 0, 0)
    assert engine.sql("select 1 from work_items where attempts > 0") == []


def test_a_document_is_split_smaller_if_the_context_leaves_too_little_room_to_think(engine: Engine) -> None:
    """Otherwise each of its answers would be cut while the server still thinks."""
    engine.router.set(thinking="always", thinking_tokens=2_000, context_tokens=4_096, too_long="vllm")
    engine.options["deep_context_tokens"] = 4_096
    engine.extracted("long.txt", texts={"long.txt": FILLER})
    assert engine.drain(SUMMARIZE).done == 1
    item = engine.item("long.txt", SUMMARIZE)
    assert item["parts_total"] > len(split(FILLER, (Size(0, text_tokens(4_096)),))) > 1
    assert item["attempts"] == 0


# Servers that answer HTTP 200 to more than their context holds

LONG = {f"{number}.txt": f"{number}.txt: a contract.\n{FILLER * 4}" for number in range(4)}


@pytest.mark.rule("answer-6", "answer-8")
@pytest.mark.parametrize(("how", "most_wasted"), [("cut_prompt", 2), ("empty", len(LONG))])
def test_an_answer_to_half_a_document_is_not_recorded_and_only_a_counted_context_is_learned(
    engine: Engine, caplog: pytest.LogCaptureFixture, how: str, most_wasted: int
) -> None:
    engine.router.set(context_tokens=4_096, too_long=how, tells_context=False)
    engine.extracted(*LONG, texts=LONG)
    summary = engine.drain()
    assert (summary.done, summary.failed, summary.left) == (4, 0, 0)
    assert engine.sql("select 1 from work_items where attempts > 0") == []
    assert engine.item("0.txt", SUMMARIZE)["parts_total"] > 1
    wasted = outcomes(engine).count("context_too_long")
    assert 1 <= wasted <= most_wasted, (
        "the next documents, or the next stages of a document, are sent in parts that fit"
    )
    warnings = [record.getMessage() for record in caplog.records if "enlarge its context" in record.getMessage()]
    assert len(warnings) == (how == "cut_prompt")


def test_an_answer_that_stops_at_the_token_limit_is_retried_once_and_not_recorded(engine: Engine) -> None:
    engine.router.set(answers="stops_at_limit")
    engine.texts("a.txt")
    engine.drain(CLASSIFY)
    assert outcomes(engine) == ["cut_by_max_tokens"] * 2


@pytest.mark.parametrize("behaviour", [{"system_role": False}, {"refuses": ["max_tokens"]}, {"answers": "channels"}])
def test_a_server_with_its_own_dialect_costs_one_extra_call_for_all_documents(
    engine: Engine, behaviour: dict[str, object]
) -> None:
    engine.router.set(**behaviour)
    engine.texts("a.txt", "b.txt")
    assert engine.drain().done == 2
    assert outcomes(engine) == ["ok"] * 4
    refused = [entry for entry in engine.router.completions() if entry["status"] != 200]
    assert len(refused) <= 1
    assert [row["value"]["category"] for row in engine.sql("select value from results where stage = 'classify'")] != [
        "poem"
    ]


def test_an_empty_answer_to_a_schema_is_retried_without_the_schema(engine: Engine) -> None:
    engine.router.set(response_format="empty")
    engine.texts("a.txt", "b.txt", "c.txt", "d.txt")
    summary = engine.drain(CLASSIFY)
    assert (summary.done, summary.failed) == (4, 0)
    assert outcomes(engine).count("empty_answer") <= 3 * 3, (
        "three documents for each JSON format, then only the prompt requests JSON"
    )
    assert engine.sql("select 1 from work_items where attempts > 0") == []


def test_a_dropped_json_format_is_tried_again_after_a_wake(engine: Engine) -> None:
    engine.router.set(response_format="refused", system_role=False)
    engine.texts("a.txt")
    engine.drain()
    deep = engine.settings().slots.deep
    assert deep is not None
    assert engine.ledger.run(dialects.recall, deep)["response_format"]["json_schema"] == "refused"
    engine.sql("update slots set epoch = epoch + 1")
    known = engine.ledger.run(dialects.recall, deep)
    assert "response_format" not in known
    assert known["document"] == {"system message": "refused"}, "a chat template does not change while the slot sleeps"
