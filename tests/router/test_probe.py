"""The probe says whether the router is healthy, and why it is not; it never raises for the slot's faults."""

import asyncio
from dataclasses import replace

import pytest

from dagster_offload import probe as probe_module
from dagster_offload.probe import probe
from dagster_offload.simulator.server import Router
from dagster_offload.slots import SlotConfig


async def test_a_green_router_is_healthy(deep_slot: SlotConfig) -> None:
    result = await probe(deep_slot)
    assert result.healthy
    assert result.answered
    assert "200" in result.reason


@pytest.mark.parametrize(("mode", "reason"), [("cold", "upstream_cold"), ("warming", "warming")])
async def test_a_red_router_says_why_and_has_answered(
    router: Router, deep_slot: SlotConfig, mode: str, reason: str
) -> None:
    router.set(mode=mode)
    result = await probe(deep_slot)
    assert (result.healthy, result.reason, result.answered) == (False, reason, True)


async def test_a_busy_laptop_is_healthy(router: Router, deep_slot: SlotConfig) -> None:
    router.set(mode="busy")
    assert (await probe(deep_slot)).healthy


async def test_without_a_health_path_the_models_must_list_the_alias(router: Router, deep_slot: SlotConfig) -> None:
    router.set(health="missing", api_key="sk-1")
    keyed = replace(deep_slot, api_key="sk-1")
    assert (await probe(keyed)).healthy
    without_key = await probe(deep_slot)
    assert not without_key.healthy
    assert "OFFLOAD_DEEP_API_KEY" in without_key.reason
    unlisted = await probe(replace(keyed, model="qwen-desktop"))
    assert not unlisted.healthy
    assert "does not list qwen-desktop" in unlisted.reason
    assert "OFFLOAD_DEEP_MODEL" in unlisted.reason


async def test_a_router_that_is_not_there_is_unhealthy(router: Router, deep_slot: SlotConfig) -> None:
    await asyncio.to_thread(router.stop)
    result = await probe(deep_slot)
    assert (result.healthy, result.reason, result.answered) == (False, "connection refused", False)


async def test_a_frozen_router_is_given_up_in_time(
    router: Router, deep_slot: SlotConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "TOTAL_SECONDS", 0.1)
    router.set(health="hang")
    result = await probe(deep_slot)
    assert (result.healthy, result.answered) == (False, False)
    assert "no answer" in result.reason


async def test_a_probe_holds_no_completion(router: Router, deep_slot: SlotConfig) -> None:
    await probe(deep_slot)
    assert router.completions() == []


async def test_a_key_that_cannot_be_sent_is_a_reason_not_an_error(deep_slot: SlotConfig) -> None:
    result = await probe(replace(deep_slot, api_key="비밀"))
    assert not result.healthy
    assert "OFFLOAD_DEEP_API_KEY" in result.reason
