"""The prompt cache size that a server reports, and the size that two questions per document show; over real sockets."""

import json

import pytest

from dagster_offload.client import prompt_cache, short_answer
from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.prompt_cache import ReportedCacheSize, Reuse, ask_prompt_cache_size, find_reuse
from dagster_offload.simulator import Router
from dagster_offload.slot.config import DEEP, SlotConfig, Slots
from tests.faults.acts import says
from tests.faults.raw_server import CompletionRequest, Connection, Hits, RawServer, well


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine answer in time."""
    monkeypatch.setattr(prompt_cache, "ASK_SECONDS", 240.0)


def slot(router: Router) -> SlotConfig:
    return SlotConfig(DEEP, router.url, "qwen-macbook", connect_timeout=240.0)


async def reuse(router: Router, documents: int) -> Reuse:
    async with AIClient(Slots(deep=slot(router))) as client:
        return await find_reuse(client, slot(router), documents)


async def test_a_reported_cache_size_is_used(router: Router) -> None:
    router.set(tells_cache_size=True, concurrency=3)
    assert await ask_prompt_cache_size(slot(router)) == ReportedCacheSize(True, 3)
    assert router.completions() == []


async def test_a_server_that_reports_no_size_differs_from_an_unreachable_server(router: Router) -> None:
    assert await ask_prompt_cache_size(slot(router)) == ReportedCacheSize(True, None)
    router.stop()
    assert await ask_prompt_cache_size(slot(router)) == ReportedCacheSize(False)


async def test_a_server_that_does_not_answer_does_not_block(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "ASK_SECONDS", 0.2)
    router.set(mode="hang")
    assert await ask_prompt_cache_size(slot(router)) == ReportedCacheSize(False)


@pytest.mark.parametrize(
    ("body", "size"),
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
def test_only_a_plausible_number_is_read_as_the_cache_size(body: object, size: int | None) -> None:
    assert prompt_cache._cache_size_in(json.dumps(body).encode()) == size
    assert prompt_cache._cache_size_in(b"<html>") is None


@pytest.mark.parametrize(("size", "kept"), [(1, 1), (2, 2), (3, 3), (8, 4)])
async def test_two_questions_per_document_show_how_many_documents_are_kept(
    router: Router, size: int, kept: int
) -> None:
    router.set(concurrency=size)
    assert await reuse(router, 4) == Reuse(4, kept)
    assert len(router.completions()) == prompt_cache.calls_needed(4)
    assert router.log()["max_open"] == 1, "the doctor holds one permit"


@pytest.mark.rule("breaker-13")
async def test_a_server_that_requires_more_tokens_is_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_answer, "_accepted_limits", {})
    limits: list[int] = []

    def act(connection: Connection, request: CompletionRequest) -> bool:
        limits.append(request.body["max_tokens"])
        if limits[-1] >= 16:
            return well(connection, request)
        return bool(says(400, {"error": {"message": "max_tokens must be at least 16"}})(connection, request))

    with RawServer(act, Hits.ALL) as server:
        asked = SlotConfig(DEEP, server.url, "qwen-macbook", connect_timeout=240.0, extra_body={"max_tokens": 4000})
        async with AIClient(Slots(deep=asked)) as client:
            assert await find_reuse(client, asked, 2) == Reuse(2, None)
    assert limits == [1, 16, 16, 16]
