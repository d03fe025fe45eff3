"""The client against the stand-in router: requests, answers and refusals."""

import asyncio
import logging
from dataclasses import replace

import httpx
import pytest

from dagster_offload.client.ai_client import AIClient, call_deep_or_defer
from dagster_offload.errors import MalformedAnswer, StageDeferred, WrongModel
from dagster_offload.settings import load_settings
from dagster_offload.simulator.server import Router
from dagster_offload.slot.completion import Answer, ModelEvidence
from dagster_offload.slot.config import SlotConfig, Slots
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.prompts.prompt import system_message

STAGES = llm_stages(load_settings())
LETTER = "Invoice 42\n\nThe amount due to ACME Ltd. is 300 EUR. Payment terms are thirty days from the invoice's date."


async def test_an_answer_has_its_model_and_its_usage(deep_slot: SlotConfig) -> None:
    async with AIClient(Slots(deep=deep_slot)) as client:
        answer = await client.call_deep("Are you there?")
    assert isinstance(answer, Answer)
    assert answer.served_model == "simulated/extractive-8bit"
    assert answer.model_evidence is ModelEvidence.REPORTED
    assert answer.usage.prompt_tokens
    assert answer.usage.cached_tokens == 0
    assert answer.seconds > 0


async def test_the_stages_accept_the_answers_to_their_questions(deep_slot: SlotConfig) -> None:
    system = system_message(LETTER)
    async with AIClient(Slots(deep=deep_slot)) as client:
        records = {
            name: stage.parse(await client.call_deep(stage.instruction, system, stage.options))
            for name, stage in STAGES.items()
        }
    assert records["classify"].model_dump()["category"] == "invoice"
    assert "300 EUR" in records["summarize"].model_dump()["summary"]


async def test_a_document_is_read_once_for_both_stages(router: Router, deep_slot: SlotConfig) -> None:
    async with AIClient(Slots(deep=deep_slot)) as client:
        for number in range(5):
            system = system_message(f"Report {number}. " + "The results of the quarter are good. " * 30)
            for stage in STAGES.values():
                await client.call_deep(stage.instruction, system, stage.options)
    log = router.log()
    assert log["document_tokens_once"] > 1_000
    assert log["read_ratio"] == pytest.approx(1.0, abs=0.01)


async def test_a_refusal_about_no_feature_is_not_retried(router: Router, deep_slot: SlotConfig) -> None:
    router.set(mode="refuse", status=400)
    async with AIClient(Slots(deep=deep_slot)) as client:
        with pytest.raises(httpx.HTTPStatusError):
            await client.call_deep("question", options=STAGES["classify"].options)
    assert len(router.completions()) == 1


async def test_calls_run_in_parallel(router: Router, deep_slot: SlotConfig) -> None:
    router.set(hold=True, concurrency=8)
    async with AIClient(Slots(deep=deep_slot)) as client:
        calls = [asyncio.create_task(client.call_deep(str(number))) for number in range(8)]
        await asyncio.to_thread(router.wait, open=8)
        router.set(hold=False)
        await asyncio.gather(*calls)
    assert router.log()["max_open"] == 8


async def test_closing_the_connections_to_one_slot_cuts_no_call_at_another(
    router: Router, deep_slot: SlotConfig
) -> None:
    with Router(hold=True) as other:
        studio = replace(deep_slot, name="studio", url=other.url)
        async with AIClient(Slots(deep=deep_slot, further=(studio,))) as client:
            await client.call_deep("question")
            call = asyncio.create_task(client._request(studio, "question"))
            await asyncio.to_thread(other.wait, open=1)
            await client.close_connections_to(deep_slot)
            other.set(hold=False)
            assert await call
            assert await client.call_deep("question")


async def test_the_key_is_sent(router: Router, deep_slot: SlotConfig) -> None:
    router.set(api_key="sk-1")
    async with AIClient(Slots(deep=replace(deep_slot, api_key="sk-1\n"))) as client:
        assert await client.call_deep("question")
    async with AIClient(Slots(deep=deep_slot)) as client:
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            await client.call_deep("question")


@pytest.mark.parametrize("answers", ["empty", "null"])
async def test_an_empty_answer_is_empty_text(router: Router, deep_slot: SlotConfig, answers: str) -> None:
    router.set(answers=answers)
    async with AIClient(Slots(deep=deep_slot)) as client:
        assert await client.call_deep("question") == ""


@pytest.mark.parametrize("answers", ["no_choices", "no_message"])
async def test_json_that_is_not_a_completion_is_malformed(router: Router, deep_slot: SlotConfig, answers: str) -> None:
    router.set(answers=answers)
    async with AIClient(Slots(deep=deep_slot)) as client:
        with pytest.raises(MalformedAnswer):
            await client.call_deep("question")


async def test_another_models_answer_is_refused(router: Router, deep_slot: SlotConfig) -> None:
    async with AIClient(Slots(deep=replace(deep_slot, expected_model="Qwen3"))) as client:
        with pytest.raises(WrongModel):
            await client.call_deep("question")
    router.set(headers={"X-LiteLLM-Attempted-Fallbacks": "1"})
    async with AIClient(Slots(deep=deep_slot)) as client:
        with pytest.raises(WrongModel):
            await client.call_deep("question")


@pytest.mark.parametrize(
    ("model", "expected", "warnings"),
    [("echo", "Qwen3", 1), (None, "Qwen3", 1), ("echo", "qwen", 0), ("echo", None, 0)],
)
async def test_an_unverifiable_model_is_logged_once(
    router: Router,
    deep_slot: SlotConfig,
    caplog: pytest.LogCaptureFixture,
    model: str | None,
    expected: str | None,
    warnings: int,
) -> None:
    router.set(model=model)
    with caplog.at_level(logging.WARNING, logger="dagster_offload"):
        async with AIClient(Slots(deep=replace(deep_slot, expected_model=expected))) as client:
            for _ in range(3):
                assert await client.call_deep("question")
    warned = [record.getMessage() for record in caplog.records if record.name.startswith("dagster_offload")]
    assert len(warned) == warnings
    assert all("cannot be verified" in message for message in warned)


async def test_a_deferral_uses_the_time_that_the_slot_sends(router: Router, deep_slot: SlotConfig) -> None:
    router.set(mode="busy", retry_after="600")
    async with AIClient(Slots(deep=deep_slot)) as client:
        with pytest.raises(StageDeferred, match=r"^deep_unavailable:editor_busy$") as deferred:
            await call_deep_or_defer(client, "question")
    assert deferred.value.retry_after_minutes == 10
