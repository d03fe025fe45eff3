"""A failure that a server reports within a choice, because it had already sent the status 200 when its provider failed."""

import gzip
import json
from typing import Any

import httpx
import pytest

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.faults import is_cut, reason_with_words, retry_after_of
from dagster_offload.errors import is_deferrable_error
from dagster_offload.slot.completion import RequestOptions
from dagster_offload.slot.config import SlotConfig, Slots
from tests.faults.acts import answers_with, says
from tests.faults.raw_server import CompletionRequest, Connection, Hits, RawServer, well

PROMPT = "your account 4471-22 was charged"


async def refusal_for(choice: dict[str, Any], **around: Any) -> httpx.HTTPStatusError:
    with RawServer(answers_with(choices=[choice], **around), Hits.ALL) as server:
        async with AIClient(Slots(deep=SlotConfig("deep", server.url, "qwen-macbook", api_key="sesame-1"))) as client:
            with pytest.raises(httpx.HTTPStatusError) as raised:
                await client.call_deep(PROMPT)
    return raised.value


@pytest.mark.rule("slot-20")
@pytest.mark.parametrize(("code", "is_a_cut"), [(502, True), ("503", False), (429, False)])
async def test_an_error_in_a_choice_counts_as_the_status_that_it_names(code: object, *, is_a_cut: bool) -> None:
    choice = {
        "message": {"content": "the model is still warming"},
        "finish_reason": "error",
        "error": {"code": code, "message": "Provider disconnected"},
    }
    error = await refusal_for(choice)
    assert error.response.status_code == int(str(code))
    assert (is_cut(error), is_deferrable_error(error)) == (is_a_cut, True)
    assert reason_with_words(error) == f'HTTP {code}: "Provider disconnected"', "the text of the answer is not read"


@pytest.mark.rule("slot-14", "slot-20")
@pytest.mark.parametrize("message", [f"cannot read: {PROMPT}", "bad key sesame-1"])
async def test_an_error_in_a_choice_is_not_quoted_if_it_repeats_the_document_or_the_key(message: str) -> None:
    error = await refusal_for({"finish_reason": "error", "error": {"code": 502, "message": message}})
    assert reason_with_words(error) == "HTTP 502"


@pytest.mark.rule("slot-20")
@pytest.mark.parametrize("body", [{"choices": [{"error": {"code": 503}}]}, {"error": {"code": 503}}])
async def test_a_packed_error_keeps_its_retry_after(body: dict[str, Any]) -> None:
    packed = gzip.compress(json.dumps(body).encode())
    with RawServer(says(200, packed, content_encoding="gzip", retry_after="90"), Hits.ALL) as server:
        async with AIClient(Slots(deep=SlotConfig("deep", server.url, "qwen-macbook"))) as client:
            with pytest.raises(httpx.HTTPStatusError) as raised:
                await client.call_deep(PROMPT)
    assert retry_after_of(raised.value) == 90


@pytest.mark.rule("slot-20")
async def test_an_error_beside_a_failed_choice_counts_too() -> None:
    error = await refusal_for({"message": {"content": ""}, "finish_reason": "error"}, error={"code": 504})
    assert error.response.status_code == 504


async def test_an_answer_that_groq_finds_invalid_is_asked_for_in_the_next_variant_and_blames_none_of_them() -> None:
    sent: list[str | None] = []

    def act(connection: Connection, request: CompletionRequest) -> bool:
        sent.append(request.body.get("response_format", {}).get("type"))
        if sent[-1] != "json_schema" or len(sent) > 1:
            return well(connection, request)
        error = {
            "message": "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
            "type": "invalid_request_error",
            "code": "json_validate_failed",
            "failed_generation": "This letter says that system messages are not supported",
        }
        return bool(says(400, {"error": error})(connection, request))

    options = RequestOptions(response_schema={"type": "object"})
    with RawServer(act, Hits.ALL) as server:
        async with AIClient(Slots(deep=SlotConfig("deep", server.url, "qwen-macbook"))) as client:
            await client.call_deep(PROMPT, options=options)
            await client.call_deep(PROMPT, options=options)
    assert sent == ["json_schema", "json_object", "json_schema"]


@pytest.mark.rule("slot-20")
@pytest.mark.parametrize("code", [400, "422"])
async def test_a_feature_that_is_refused_within_a_choice_is_sent_in_its_next_variant(code: object) -> None:
    sent: list[str | None] = []

    def act(connection: Connection, request: CompletionRequest) -> bool:
        sent.append(request.body.get("response_format", {}).get("type"))
        if sent[-1] is None:
            return well(connection, request)
        error = {"code": code, "message": "response_format is not supported by this provider"}
        return bool(answers_with(choices=[{"finish_reason": "error", "error": error}])(connection, request))

    options = RequestOptions(response_schema={"type": "object"})
    with RawServer(act, Hits.ALL) as server:
        async with AIClient(Slots(deep=SlotConfig("deep", server.url, "qwen-macbook"))) as client:
            await client.call_deep(PROMPT, options=options)
            await client.call_deep(PROMPT, options=options)
    assert sent == ["json_schema", "json_object", "json_object", None, None]
