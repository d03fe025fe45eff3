"""A server's own word for its places, and what asking it twice shows; over real sockets."""

import json

import pytest

from dagster_offload.client import prompt_cache
from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.prompt_cache import ReportedCacheSize, Reuse, ask_prompt_cache_size, find_reuse
from dagster_offload.simulator import Router
from dagster_offload.slot.config import DEEP, SlotConfig, Slots


def slot(router: Router) -> SlotConfig:
    return SlotConfig(DEEP, router.url, "qwen-macbook")


async def reuse(router: Router, documents: int) -> Reuse:
    async with AIClient(Slots(deep=slot(router))) as client:
        return await find_reuse(client, slot(router), documents)


async def test_a_server_that_tells_its_places_is_believed(router: Router) -> None:
    router.set(tells_places=True, width=3)
    assert await ask_prompt_cache_size(slot(router)) == ReportedCacheSize(True, 3)
    assert router.completions() == []


async def test_a_server_that_tells_nothing_is_told_apart_from_one_that_is_not_there(router: Router) -> None:
    assert await ask_prompt_cache_size(slot(router)) == ReportedCacheSize(True, None)
    router.stop()
    assert await ask_prompt_cache_size(slot(router)) == ReportedCacheSize(False)


async def test_a_server_that_does_not_answer_is_not_waited_for(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "ASK_SECONDS", 0.2)
    router.set(mode="hang")
    assert await ask_prompt_cache_size(slot(router)) == ReportedCacheSize(False)


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({"total_slots": 4}, 4),
        ([{"id": 0}, {"id": 1}], 2),
        ({"total_slots": 0}, None),
        ({"total_slots": True}, None),
        ({"total_slots": "4"}, None),
        ({"total_slots": 100_000}, None),
        ({}, None),
        ([], None),
        ("four", None),
    ],
)
def test_only_a_number_of_places_is_taken_for_one(body: object, places: int | None) -> None:
    assert prompt_cache._places_in(json.dumps(body).encode()) == places
    assert prompt_cache._places_in(b"<html>") is None


@pytest.mark.parametrize(("places", "kept"), [(1, 1), (2, 2), (3, 3), (8, 4)])
async def test_asking_twice_shows_how_many_documents_are_kept(router: Router, places: int, kept: int) -> None:
    router.set(width=places)
    assert await reuse(router, 4) == Reuse(4, kept)
    assert len(router.completions()) == prompt_cache.calls_needed(4)
    assert router.log()["max_open"] == 1, "the doctor holds one permit"
