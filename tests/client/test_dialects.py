"""Servers support different request variants: the client finds and stores the ones that each server supports."""

import logging
from dataclasses import replace
from typing import Any

import httpx
import pytest

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.trial import trial
from dagster_offload.errors import UnusableAnswer
from dagster_offload.settings import load_settings
from dagster_offload.simulator.server import Router
from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.slot.config import SlotConfig, Slots
from dagster_offload.slot.dialects import (
    EFFORT_MINIMAL,
    EFFORT_NONE,
    JSON_SCHEMA,
    NO_THINK,
    OBJECT_WITH_SCHEMA,
    TEMPLATE,
    Feature,
)
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.prompts.questions import Question

STAGES = llm_stages(load_settings())
SYSTEM = "<document>\nInvoice 42\n\nThe amount due to ACME Ltd. is 300 EUR. Payment terms are thirty days.\n</document>"


async def record_of(client: AIClient, stage: str = "classify") -> Any:
    """A document's record, requested like the engine does, with all repeated questions."""
    question: Question | None = Question(STAGES[stage].instruction, STAGES[stage].options)
    while True:
        assert question is not None
        answer = await client.call_deep(question.prompt, SYSTEM, question.options)
        try:
            return STAGES[stage].parse(answer)
        except UnusableAnswer as fault:
            question = question.follow_up(fault, answer)
            if question is None:
                raise


def variants(client: AIClient, slot: SlotConfig) -> tuple[str | None, str | None]:
    known = client.dialects_of(slot)
    return known.variant(Feature.JSON), known.variant(Feature.NO_THINKING)


def parts(router: Router) -> list[tuple[str, ...]]:
    return [tuple(part for part in entry["parts"] if part != "temperature") for entry in router.completions()]


@pytest.mark.parametrize(
    ("behaviour", "forms", "variant"),
    [
        ("honoured", ["json_schema"] * 3, JSON_SCHEMA),
        ("refused", ["json_schema", "json_object", "json_object", None, None, None], None),
        ("json_object_only", ["json_schema", "json_object", "json_object", "json_object"], OBJECT_WITH_SCHEMA),
        ("ignored", ["json_schema"] * 3, JSON_SCHEMA),  # of one document
    ],
)
async def test_json_is_requested_in_the_variant_that_the_server_supports(
    router: Router, deep_slot: SlotConfig, behaviour: str, forms: list[str | None], variant: str | None
) -> None:
    router.set(response_format=behaviour)
    async with AIClient(Slots(deep=deep_slot)) as client:
        for _ in range(3):
            assert (await record_of(client)).category == "invoice"
        assert variants(client, deep_slot)[0] == variant
    assert [entry["response_format"] for entry in router.completions()] == forms
    assert router.log()["max_open"] == 1


async def test_a_template_without_a_system_role_gets_the_document_in_the_user_message(
    router: Router, deep_slot: SlotConfig, caplog: pytest.LogCaptureFixture
) -> None:
    router.set(system_role=False)
    async with AIClient(Slots(deep=deep_slot)) as client:
        for _ in range(2):
            assert (await record_of(client)).category == "invoice"
        findings = client.dialects_of(deep_slot).findings
    assert [entry["status"] for entry in router.completions()] == [400, 200, 200]
    assert findings["document"] == {"system message": "refused"}
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "prompt cache" in warning
    async with AIClient(Slots(deep=deep_slot), {deep_slot.name: findings}) as client:
        await record_of(client)
    assert [entry["status"] for entry in router.completions()][3:] == [200], "remembered by the next process"


async def test_the_token_limit_is_sent_under_the_name_that_the_server_supports(
    router: Router, deep_slot: SlotConfig
) -> None:
    router.set(refuses=["max_tokens"])
    async with AIClient(Slots(deep=deep_slot)) as client:
        for _ in range(2):
            assert (await record_of(client)).category == "invoice"
        assert (await trial(client, deep_slot)).answered
    assert [entry["status"] for entry in router.completions()] == [400, 200, 200, 200]
    assert [entry["max_tokens"] for entry in router.completions()] == [200, 200, 200, 1]


async def test_json_in_the_reasoning_field_is_read_and_logged(
    router: Router, deep_slot: SlotConfig, caplog: pytest.LogCaptureFixture
) -> None:
    router.set(answers="in_reasoning")
    with caplog.at_level(logging.INFO, logger="dagster_offload"):
        async with AIClient(Slots(deep=deep_slot)) as client:
            for _ in range(2):
                assert (await record_of(client)).category == "invoice"
            assert variants(client, deep_slot) == (JSON_SCHEMA, TEMPLATE)
    assert len(router.completions()) == 2
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("dagster_offload")]
    assert message == "the deep slot's server puts its JSON into its reasoning field; it is read from there"


async def test_an_answer_that_ends_exactly_at_its_limit_counts_as_cut(router: Router, deep_slot: SlotConfig) -> None:
    router.set(answers="stops_at_limit")
    async with AIClient(Slots(deep=deep_slot)) as client:
        answer = await client.call_deep("Classify.", SYSTEM, RequestOptions(max_tokens=20))
    assert isinstance(answer, Answer)
    assert answer.finish_reason == "length"


async def test_blanks_up_to_the_token_limit_are_retried_without_a_schema(router: Router, deep_slot: SlotConfig) -> None:
    router.set(response_format="blanks")
    async with AIClient(Slots(deep=deep_slot)) as client:
        assert (await record_of(client)).category == "invoice"
    assert [entry["response_format"] for entry in router.completions()] == ["json_schema", None]


@pytest.mark.parametrize("in_text", [False, True], ids=["a field of its own", "in the text"])
@pytest.mark.parametrize(
    ("behaviour", "variant", "calls"),
    [
        ("never", TEMPLATE, 1),
        ("obeys_template", TEMPLATE, 1),
        ("obeys_effort", EFFORT_NONE, 2),
        ("obeys_no_think", NO_THINK, 4),
        ("always", None, 5),
    ],
)
async def test_the_variant_against_thinking_is_found_once(
    router: Router, deep_slot: SlotConfig, in_text: bool, behaviour: str, variant: str | None, calls: int
) -> None:
    router.set(thinking=behaviour, thinking_in_text=in_text)
    async with AIClient(Slots(deep=deep_slot)) as client:
        assert (await record_of(client)).category == "invoice"
        assert variants(client, deep_slot)[1] == variant
        assert len(router.completions()) == calls
        assert (await record_of(client, "summarize")).summary
    assert len(router.completions()) == calls + 1


async def test_a_server_that_always_thinks_gets_extra_tokens_and_a_trial_stays_short(
    router: Router, deep_slot: SlotConfig
) -> None:
    router.set(thinking="always")
    async with AIClient(Slots(deep=deep_slot)) as client:
        await record_of(client)
        assert (await trial(client, deep_slot)).answered
    bounds = [entry["max_tokens"] for entry in router.completions()]
    assert bounds[:5] == [200, 200, 200, 200, 4200]
    assert bounds[5] < 30


async def test_refused_features_are_not_sent_again(router: Router, deep_slot: SlotConfig) -> None:
    router.set(refuses=["chat_template_kwargs", "reasoning_effort"])
    async with AIClient(Slots(deep=deep_slot)) as client:
        await record_of(client)
        await record_of(client)
        assert variants(client, deep_slot)[1] == NO_THINK
    assert parts(router) == [
        ("chat_template_kwargs", "response_format"),
        ("reasoning_effort", "response_format"),
        ("reasoning_effort", "response_format"),
        ("response_format",),
        ("response_format",),
    ]


async def test_a_trial_also_finds_the_variant_against_thinking(router: Router, deep_slot: SlotConfig) -> None:
    router.set(thinking="obeys_effort")
    async with AIClient(Slots(deep=deep_slot)) as client:
        assert (await trial(client, deep_slot)).answered
        assert (await record_of(client)).category == "invoice"
    assert len(router.completions()) == 2


async def test_findings_are_passed_to_the_next_process(router: Router, deep_slot: SlotConfig) -> None:
    router.set(response_format="json_object_only", refuses=["chat_template_kwargs"])
    async with AIClient(Slots(deep=deep_slot)) as client:
        await record_of(client)
        findings = client.dialects_of(deep_slot).findings
    before = len(router.completions())
    async with AIClient(Slots(deep=deep_slot), {deep_slot.name: findings}) as client:
        await record_of(client)
    assert len(router.completions()) == before + 1


async def test_a_change_of_variant_is_logged_once_without_document_text(
    router: Router, deep_slot: SlotConfig, caplog: pytest.LogCaptureFixture
) -> None:
    router.set(response_format="refused", thinking="obeys_effort")
    with caplog.at_level(logging.INFO, logger="dagster_offload"):
        async with AIClient(Slots(deep=deep_slot)) as client:
            await record_of(client)
            await record_of(client)
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("dagster_offload")]
    assert messages == [
        "the deep slot's server refused response_format as json_schema: it is no longer sent",
        "the deep slot's server ignored thinking_off as chat_template_kwargs: it is now sent as reasoning_effort none",
    ]


async def test_the_extra_body_is_sent_in_every_request(router: Router, deep_slot: SlotConfig) -> None:
    extra = {"top_k": 20, "max_tokens": 777, "chat_template_kwargs": {"preserve_thinking": True}}
    slot = replace(deep_slot, extra_body=extra)
    async with AIClient(Slots(deep=slot)) as client:
        await record_of(client)
        assert (await trial(client, slot)).answered
    assert all({"top_k", "chat_template_kwargs"} <= set(entry["parts"]) for entry in router.completions())
    assert [entry["max_tokens"] for entry in router.completions()] == [777, 1], "a trial stays short"


async def test_a_refused_key_of_the_extra_body_is_an_error_not_a_loop(router: Router, deep_slot: SlotConfig) -> None:
    router.set(refuses=["chat_template_kwargs"])
    slot = replace(deep_slot, extra_body={"chat_template_kwargs": {"a": 1}})
    async with AIClient(Slots(deep=slot)) as client:
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            await record_of(client)
        assert variants(client, slot) == (JSON_SCHEMA, TEMPLATE), (
            "a refusal without a successful retry changes no finding"
        )


async def test_without_options_no_features_are_sent(router: Router, deep_slot: SlotConfig) -> None:
    async with AIClient(Slots(deep=deep_slot)) as client:
        answer = await client.call_deep("Are you there?")
        await client.call_deep("Are you there?", options=RequestOptions(thinking=True))
        assert client.dialects_of(deep_slot).findings == {}
    assert isinstance(answer, Answer)
    assert parts(router) == [(), ("chat_template_kwargs",)]
    assert EFFORT_MINIMAL not in str(parts(router))
