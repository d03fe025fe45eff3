"""The trial: one token shows whether the slot answers, is unavailable, or is misconfigured."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.short_answer import MOST_TOKENS
from dagster_offload.client.trial import TrialVerdict, trial
from dagster_offload.simulator.server import Router
from dagster_offload.slot.completion import ModelEvidence
from dagster_offload.slot.config import SlotConfig, Slots
from tests.faults.raw_server import CompletionRequest, Connection, Hits, RawServer, reply, well


@pytest.fixture(autouse=True)
def no_known_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster_offload.client.short_answer._accepted_limits", {})


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
        (403, "(check OFFLOAD_DEEP_API_KEY, or whether the server accepts the host name in OFFLOAD_DEEP_URL)"),
        (404, "(the server lists qwen-macbook)"),
        (400, "(the server lists qwen-macbook)"),
        (422, "(the server lists qwen-macbook)"),
        (302, "(check OFFLOAD_DEEP_URL)"),
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


# GPT-5 behind OpenRouter, which quotes its provider; the same at OpenAI; a check by FastAPI.
BELOW_16 = "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 1 instead."
QUOTED = {"error": {"message": "Provider returned error", "metadata": {"raw": json.dumps({"error": BELOW_16})}}}
FASTAPI = {"detail": [{"loc": ["body", "max_tokens"], "msg": "Input should be greater than or equal to 32"}]}


class Minimum:
    """A server that refuses an answer of fewer tokens than `least`."""

    def __init__(self, least: int, status: int, body: dict[str, Any]) -> None:
        self.least, self.status, self.body = least, status, body
        self.limits: list[int] = []

    def __call__(self, connection: Connection, request: CompletionRequest) -> bool:
        self.limits.append(request.body["max_tokens"])
        if self.limits[-1] >= self.least:
            return well(connection, request)
        connection.send(reply(self.status, json.dumps(self.body).encode()))
        return True


@pytest.mark.rule("breaker-13")
@pytest.mark.parametrize(
    ("least", "status", "body"),
    [
        (16, 400, {"error": {"message": BELOW_16}}),
        (16, 400, {"error": {"message": BELOW_16.replace("output_", "")}}),
        (16, 400, QUOTED),
        (16, 422, {"error": "max_completion_tokens is below the minimum"}),
        (32, 422, FASTAPI),
    ],
)
async def test_a_server_that_requires_more_tokens_gets_the_trial_once_more_and_from_then_on_only_so(
    least: int, status: int, body: dict[str, Any]
) -> None:
    server = Minimum(least, status, body)
    with RawServer(server, Hits.ALL) as raw:
        slot = SlotConfig("deep", raw.url, "qwen-macbook")
        assert (await verdict_of(slot)).answered
        assert (await verdict_of(slot)).answered
    assert server.limits == [1, least, least]


@pytest.mark.rule("breaker-13")
async def test_a_trial_is_repeated_only_once_and_never_becomes_a_long_answer() -> None:
    server = Minimum(100_000, 400, {"error": {"message": "max_tokens must be at least 100000"}})
    with RawServer(server, Hits.ALL) as raw:
        slot = SlotConfig("deep", raw.url, "qwen-macbook")
        verdict = await verdict_of(slot)
        assert (verdict.answered, verdict.misconfigured) == (False, True)
        assert (await verdict_of(slot)).misconfigured
    assert server.limits == [1, MOST_TOKENS] * 2


async def test_a_refusal_about_something_else_is_not_answered_with_another_trial() -> None:
    server = Minimum(16, 400, {"error": {"message": "this model needs max_tokens"}})
    with RawServer(server, Hits.ALL) as raw:
        assert (await verdict_of(SlotConfig("deep", raw.url, "qwen-macbook"))).misconfigured
    assert server.limits == [1]
