"""The trial: one token shows whether the slot answers, is unavailable, or is misconfigured."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.trial import TrialVerdict, trial
from dagster_offload.simulator.server import Router
from dagster_offload.slot.completion import ModelEvidence
from dagster_offload.slot.config import SlotConfig, Slots


async def verdict_of(slot: SlotConfig) -> TrialVerdict:
    async with AIClient(Slots(deep=slot)) as client:
        return await trial(client, slot)


async def test_an_available_slot_answers_with_the_values_for_the_ledger(router: Router, deep_slot: SlotConfig) -> None:
    verdict = await verdict_of(deep_slot)
    assert verdict.answered
    assert not verdict.misconfigured
    assert verdict.answer is not None
    assert verdict.answer.served_model == "simulated/extractive-8bit"
    assert verdict.answer.model_evidence is ModelEvidence.REPORTED
    assert verdict.answer.usage.prompt_tokens
    assert verdict.seconds > 0
    (sent,) = router.completions()
    assert sent["max_tokens"] == 1
    assert sent["parts"] == ["chat_template_kwargs", "temperature"]  # thinking off, no response_format
    assert sent["document"] is None


@pytest.mark.parametrize("answers", ["empty", "null", "thinking", "length", "no_message", "garbage"])
async def test_the_content_of_the_answer_is_ignored(router: Router, deep_slot: SlotConfig, answers: str) -> None:
    router.set(answers=answers)
    assert (await verdict_of(deep_slot)).answered


@pytest.mark.rule("slot-15")
@pytest.mark.parametrize(
    ("status", "named"),
    [
        (401, "(check OFFLOAD_DEEP_API_KEY)"),
        (403, "(check OFFLOAD_DEEP_API_KEY)"),
        (404, "(the server lists qwen-macbook)"),
        (400, "(the server lists qwen-macbook)"),
        (422, "(the server lists qwen-macbook)"),
        (302, "(check OFFLOAD_DEEP_URL or OFFLOAD_DEEP_MODEL)"),
        (501, ""),
    ],
)
async def test_a_misconfigured_slot_names_a_setting_only_if_it_may_be_wrong(
    router: Router, deep_slot: SlotConfig, status: int, named: str
) -> None:
    router.set(mode="refuse", status=status)
    verdict = await verdict_of(deep_slot)
    assert (verdict.answered, verdict.misconfigured) == (False, True)
    assert verdict.reason == f"HTTP {status} {named}".rstrip() + ': "refused by script"'


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"mode": "cold"}, "upstream_cold"),
        ({"mode": "busy"}, "editor_busy"),
        ({"mode": "refuse", "status": 408}, "HTTP 408"),
        ({"mode": "refuse", "status": 429}, "HTTP 429"),
        ({"mode": "refuse", "status": 500}, "HTTP 500"),
        ({"mode": "cut", "cut": "502"}, "HTTP 502"),
        ({"mode": "cut", "cut": "not_json"}, "answer cut"),
        ({"mode": "cut", "cut": "mid_body"}, "answer cut"),
        ({"mode": "cut", "cut": "before_answer"}, "the server closed"),
        ({"answers": "no_choices"}, "malformed_answer"),
        ({"headers": {"x-litellm-attempted-fallbacks": "1"}}, "wrong_model"),
    ],
)
async def test_an_unavailable_slot_is_retried(
    router: Router, deep_slot: SlotConfig, behaviour: dict[str, Any], reason: str
) -> None:
    router.set(**behaviour, retry_after="90")
    verdict = await verdict_of(deep_slot)
    assert (verdict.answered, verdict.misconfigured) == (False, False)
    assert verdict.reason.startswith(reason)
    is_refusal = behaviour.get("mode") in {"cold", "busy", "refuse"}
    assert verdict.retry_after_seconds == (90 if is_refusal else None)


async def test_another_model_does_not_count_as_an_answer(deep_slot: SlotConfig) -> None:
    verdict = await verdict_of(replace(deep_slot, expected_model="Qwen3"))
    assert not verdict.answered
    assert verdict.reason.startswith("wrong_model")


async def test_a_slow_slot_is_unavailable_at_the_limit(router: Router, deep_slot: SlotConfig) -> None:
    router.set(hold=True)
    verdict = await verdict_of(replace(deep_slot, read_timeout=0.1))
    assert (verdict.answered, verdict.misconfigured) == (False, False)
    assert "no answer" in verdict.reason
    router.set(hold=False)


async def test_an_unreachable_slot_is_unavailable(router: Router, deep_slot: SlotConfig) -> None:
    await asyncio.to_thread(router.stop)
    verdict = await verdict_of(deep_slot)
    assert (verdict.answered, verdict.reason) == (False, "connection refused (check OFFLOAD_DEEP_URL)")
    async with AIClient(Slots(deep=deep_slot)) as client:
        assert (await trial(client, deep_slot, has_answered=True)).reason == "connection refused"


async def test_a_key_that_cannot_be_sent_is_misconfigured(deep_slot: SlotConfig) -> None:
    verdict = await verdict_of(replace(deep_slot, api_key="비밀"))
    assert (verdict.answered, verdict.misconfigured) == (False, True)
    assert "OFFLOAD_DEEP_API_KEY" in verdict.reason
