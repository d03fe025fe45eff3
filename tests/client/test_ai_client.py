"""The client without a socket: which slot is used, what becomes a deferral, what is read from an answer."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from dagster_offload.client.ai_client import AIClient, call_deep_or_defer
from dagster_offload.client.faults import (
    fault_reason,
    is_cut,
    is_misconfigured,
    retry_after_of,
    retry_after_seconds,
    setting_to_check,
)
from dagster_offload.errors import CutAnswer, MalformedAnswer, SettingsError, StageDeferred, WrongModel
from dagster_offload.slot.addresses import auth_headers, endpoint, proxy_for
from dagster_offload.slot.chat import ChoiceWithoutMessage, read_answer, request_body, with_extra
from dagster_offload.slot.completion import Answer, ModelEvidence, RequestOptions
from dagster_offload.slot.config import SlotConfig

FIXTURE = Path(__file__).parents[2] / "fixtures" / "qwen_router_chat_completion.json"
REQUEST = httpx.Request("POST", "http://router/v1/chat/completions")
DEEP_SLOT = SlotConfig(name="deep", url="http://router", model="qwen-macbook")
EXPECTING = SlotConfig(name="deep", url="http://router", model="qwen-macbook", expected_model=r"Qwen3\.6-27B")


def client_with(deep: object, primary: object, request: Callable[..., Awaitable[str]]) -> AIClient:
    client = AIClient.__new__(AIClient)
    client.ai = SimpleNamespace(deep=deep, primary=primary)  # type: ignore[assignment]
    client._request = request  # type: ignore[method-assign, assignment]
    return client


def failing(error: Exception) -> Callable[..., Awaitable[str]]:
    async def request(slot: object, prompt: str, system: str | None = None) -> str:
        raise error

    return request


def status_error(status_code: int, body: Any = None, **headers: str) -> httpx.HTTPStatusError:
    response = httpx.Response(status_code, json=body, headers=headers, request=REQUEST)
    return httpx.HTTPStatusError("refused", request=REQUEST, response=response)


class FalsySlot:
    """A slot is configured if it is not None, even if it is falsy."""

    def __bool__(self) -> bool:
        return False


@pytest.mark.rule("slot-2")
async def test_deep_calls_go_to_the_deep_slot() -> None:
    requests = []

    async def request(slot: object, prompt: str, system: str | None = None) -> str:
        requests.append((slot, prompt, system))
        return "an answer"

    deep = FalsySlot()
    client = client_with(deep, object(), request)
    assert await client.call_deep("question", system="rules") == "an answer"
    assert requests == [(deep, "question", "rules")]


async def test_without_a_deep_slot_primary_answers_deep_calls() -> None:
    requests = []

    async def request(slot: object, prompt: str, system: str | None = None) -> str:
        requests.append(slot)
        return "an answer"

    primary = object()
    await client_with(None, primary, request).call_deep("question")
    assert requests == [primary]


@pytest.mark.rule("slot-2")
@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), status_error(503), status_error(500), ValueError()])
async def test_primary_never_answers_for_an_unavailable_deep_slot(error: Exception) -> None:
    requests = []

    async def request(slot: object, prompt: str, system: str | None = None) -> str:
        requests.append(slot)
        raise error

    deep = object()
    client = client_with(deep, object(), request)
    with pytest.raises(type(error)):
        await client.call_deep("question")
    assert requests == [deep]


async def test_options_are_passed_only_when_given() -> None:
    given = []

    async def request(slot: object, prompt: str, system: str | None = None, **more: object) -> str:
        given.append(more)
        return ""

    client = client_with(object(), None, request)
    options = RequestOptions(max_tokens=1)
    await client.call_deep("question")
    await client.call_deep("question", options=options)
    await call_deep_or_defer(client, "question", options=options)
    assert given == [{}, {"options": options}, {"options": options}]


async def test_the_error_without_any_slot_names_the_settings() -> None:
    with pytest.raises(SettingsError, match="OFFLOAD_DEEP_URL"):
        await client_with(None, None, failing(AssertionError())).call_deep("question")


@pytest.mark.rule("slot-3")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (status_error(503, {"error": {"type": "upstream_cold"}}), "upstream_cold"),
        (status_error(503, {"error": "editor_busy"}), "editor_busy"),
        (status_error(503, {"detail": {"reason": "warming"}}), "warming"),
        (status_error(502), "HTTPStatusError"),
        (status_error(503, {"error": "come back tomorrow"}), "HTTPStatusError"),
        (status_error(429), "HTTPStatusError"),
        (httpx.ConnectError("refused"), "ConnectError"),
        (httpx.ConnectTimeout("slow"), "ConnectTimeout"),
        (httpx.ReadTimeout("slow"), "ReadTimeout"),
        (httpx.ReadError("reset"), "ReadError"),
        (httpx.RemoteProtocolError("closed"), "RemoteProtocolError"),
        (CutAnswer("cut"), "CutAnswer"),
        (WrongModel("tiny"), "WrongModel"),
    ],
)
async def test_an_unavailable_slot_raises_a_deferral_with_its_reason(error: Exception, reason: str) -> None:
    for deep, primary, name in ((object(), object(), "deep"), (None, object(), "primary")):
        with pytest.raises(StageDeferred) as deferred:
            await call_deep_or_defer(client_with(deep, primary, failing(error)), "question")
        assert str(deferred.value) == f"{name}_unavailable:{reason}"
        assert deferred.value.retry_after_minutes == 30
        assert deferred.value.__cause__ is error


async def test_the_slots_retry_after_is_kept() -> None:
    error = status_error(503, None, **{"retry-after": "120"})
    with pytest.raises(StageDeferred) as deferred:
        await call_deep_or_defer(client_with(object(), None, failing(error)), "question")
    assert deferred.value.retry_after_minutes == 2
    assert retry_after_of(deferred.value) == 120
    assert retry_after_of(StageDeferred("deep_unavailable:warming")) is None


@pytest.mark.rule("slot-3")
@pytest.mark.parametrize(
    "error", [status_error(400), status_error(401), status_error(500), ValueError("x"), MalformedAnswer("x")]
)
async def test_every_other_error_propagates_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        await call_deep_or_defer(client_with(object(), None, failing(error)), "question")
    assert raised.value is error


def test_a_long_body_is_never_searched_for_reason_codes() -> None:
    document = "the editor_busy flag " * 50
    assert fault_reason(status_error(503, {"error": document})) == "HTTP 503"
    assert fault_reason(status_error(500, {"error": "warming"})) == "warming"


def test_a_handwritten_answer_of_a_qwen_router_is_read() -> None:
    content = FIXTURE.read_bytes()
    assert "_made_by_hand" in json.loads(content)
    answer = read_answer(EXPECTING, content, {}, 1.5)
    assert json.loads(answer)["category"] == "invoice"
    assert answer.served_model is not None
    assert "Qwen3.6-27B-8bit" in answer.served_model
    assert answer.model_evidence is ModelEvidence.REPORTED
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.cached_tokens) == (1874, 23, 1792)
    assert (answer.seconds, answer.finish_reason) == (1.5, "stop")


def completion(model: object = "up/Qwen3.6-27B-8bit", **message: Any) -> bytes:
    body = {"choices": [{"message": {"role": "assistant", "content": "yes", **message}}], "model": model}
    return json.dumps(body).encode()


def read(slot: SlotConfig = DEEP_SLOT, content: bytes = completion(), **headers: str) -> Answer:
    return read_answer(slot, content, {name.replace("_", "-"): value for name, value in headers.items()}, 0.1)


@pytest.mark.parametrize("content", [b"", b"   ", completion()[:-20], b"<html>sign in</html>", b"\xff\xfe{}"])
def test_an_incomplete_json_body_is_a_cut_answer(content: bytes) -> None:
    with pytest.raises(CutAnswer):
        read(content=content)


@pytest.mark.parametrize("content", [b"{}", b"[]", b"null", b"3", b'{"choices": []}', b'{"choices": {"a": 1}}'])
def test_json_without_choices_is_malformed(content: bytes) -> None:
    with pytest.raises(MalformedAnswer) as raised:
        read(content=content)
    assert not isinstance(raised.value, ChoiceWithoutMessage)


@pytest.mark.parametrize("choice", ["{}", "null", '{"text": "old"}', '{"message": null}'])
def test_a_choice_without_a_message_is_malformed(choice: str) -> None:
    with pytest.raises(ChoiceWithoutMessage):
        read(content=f'{{"choices": [{choice}]}}'.encode())


def test_null_content_is_empty_text_and_parts_are_joined() -> None:
    assert read(content=completion(content=None, reasoning_content="hm")) == ""
    assert read(content=completion(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])) == "ab"


@pytest.mark.rule("slot-6")
@pytest.mark.parametrize(
    ("model", "evidence"),
    [
        ("up/Qwen3.6-27B-8bit", ModelEvidence.REPORTED),
        ("qwen-macbook", ModelEvidence.ECHOED),
        (None, ModelEvidence.ABSENT),
        ("", ModelEvidence.ABSENT),
        (7, ModelEvidence.ABSENT),
    ],
)
def test_the_served_model_is_kept_with_its_evidence(model: object, evidence: ModelEvidence) -> None:
    assert read(EXPECTING, completion(model)).model_evidence is evidence


def test_a_reported_model_that_does_not_match_is_refused() -> None:
    with pytest.raises(WrongModel, match=r"tiny-1b.*OFFLOAD_DEEP_EXPECTED_MODEL"):
        read(EXPECTING, completion("tiny-1b"))
    assert read(DEEP_SLOT, completion("tiny-1b")).served_model == "tiny-1b"  # no expectation is set


@pytest.mark.parametrize(
    "headers",
    [
        {"x_litellm_attempted_fallbacks": "1"},
        {"x_litellm_attempted_fallbacks": "2", "x_litellm_model_group": "small"},
        {"x_litellm_model_group": "small"},
    ],
)
@pytest.mark.parametrize("slot", [DEEP_SLOT, EXPECTING])
def test_an_answer_after_a_router_fallback_is_refused(slot: SlotConfig, headers: dict[str, str]) -> None:
    with pytest.raises(WrongModel, match="fell back"):
        read(slot, completion(), **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"x_litellm_attempted_fallbacks": "0", "x_litellm_model_group": "production-alias"},
        {"x_litellm_model_group": "qwen-macbook"},
    ],
)
def test_headers_without_a_fallback_are_accepted(headers: dict[str, str]) -> None:
    assert read(EXPECTING, completion(), **headers) == "yes"


@pytest.mark.rule("slot-10")
def test_only_set_options_are_sent_and_every_call_has_a_token_limit() -> None:
    assert request_body(DEEP_SLOT, "hi", None, None) == {
        "model": "qwen-macbook",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
        "max_tokens": 4096,
    }
    schema = {"type": "object", "properties": {}}
    options = RequestOptions(max_tokens=7, temperature=0.0, thinking=False, response_schema=schema)
    body = request_body(DEEP_SLOT, "hi", "rules", options)
    assert body["messages"][0] == {"role": "system", "content": "rules"}
    assert (body["max_tokens"], body["temperature"]) == (7, 0.0)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["response_format"]["json_schema"]["schema"] == schema


def test_the_extra_body_is_merged_into_the_request() -> None:
    body = {"temperature": 0.0, "chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 200}
    extra = {"temperature": 0.7, "top_p": 0.8, "chat_template_kwargs": {"preserve_thinking": True}}
    assert with_extra(body, extra) == {
        "temperature": 0.7,
        "chat_template_kwargs": {"enable_thinking": False, "preserve_thinking": True},
        "max_tokens": 200,
        "top_p": 0.8,
    }
    assert body["temperature"] == 0.0
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("message", "details", "tokens"),
    [
        ({"content": "yes"}, None, 0),
        ({"content": "yes", "reasoning_content": "Hm, let me see."}, None, 5),
        ({"content": "yes", "reasoning": "Hm, let me see."}, None, 5),
        ({"content": "yes", "reasoning_content": None, "reasoning": " \n"}, None, 0),
        ({"content": "<think>\n\n</think>\n\nyes"}, None, 0),
        ({"content": "<think>Hm.</think>yes"}, None, 1),
        ({"content": "Hm.</think>yes"}, None, 1),
        ({"content": "<think>Hm."}, None, 1),
        ({"content": '{"summary": "how <think> works"}'}, None, 0),
        ({"content": "yes"}, {"reasoning_tokens": 640}, 640),
        ({"content": "yes"}, {"reasoning_tokens": 0}, 0),
    ],
)
def test_thinking_is_counted_wherever_a_server_shows_it(
    message: dict[str, Any], details: dict[str, int] | None, tokens: int
) -> None:
    content = json.dumps({"choices": [{"message": message}], "usage": {"completion_tokens_details": details}}).encode()
    assert read(content=content).thinking_tokens == tokens


@pytest.mark.parametrize(
    ("error", "cut"),
    [
        (status_error(502), True),
        (status_error(504), True),
        (status_error(502, {"error": "upstream_cold"}), False),
        (status_error(503), False),
        (status_error(429), False),
        (status_error(500), False),
        (httpx.ReadError("reset"), True),
        (httpx.ReadTimeout("slow"), True),
        (httpx.RemoteProtocolError("closed"), True),
        (CutAnswer("cut"), True),
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("slow"), False),
        (WrongModel("tiny"), False),
        (ValueError(), False),
    ],
)
def test_only_a_request_that_may_have_reached_the_slot_is_a_cut(error: Exception, cut: bool) -> None:
    assert is_cut(error) is cut


@pytest.mark.parametrize("status_code", [301, 302, 400, 401, 403, 404, 405, 422, 501])
def test_a_trial_refused_with_this_status_is_misconfigured(status_code: int) -> None:
    assert is_misconfigured(status_error(status_code))


@pytest.mark.parametrize("status_code", [408, 429, 500, 502, 503, 504])
def test_a_trial_refused_with_this_status_is_retried(status_code: int) -> None:
    assert not is_misconfigured(status_error(status_code))


@pytest.mark.parametrize(
    ("fault", "setting"),
    [
        (status_error(401), "API_KEY"),
        (status_error(403), "API_KEY"),
        (status_error(404), "MODEL"),
        (status_error(302), "URL"),
        (status_error(400), "MODEL"),
        (status_error(422), "MODEL"),
        (status_error(501), "URL"),
        (WrongModel("tiny"), "EXPECTED_MODEL"),
        (httpx.UnsupportedProtocol("ftp"), "URL"),
    ],
)
def test_a_fault_names_the_setting_to_check(fault: Exception, setting: str) -> None:
    assert f"OFFLOAD_DEEP_{setting}" in str(setting_to_check(DEEP_SLOT, fault))


def keyed(key: str) -> SlotConfig:
    return SlotConfig(name="deep", url="http://router", model="m", api_key=key)


def test_a_key_is_sent_trimmed_and_never_shown() -> None:
    assert auth_headers(keyed("secret\n")) == {"authorization": "Bearer secret"}
    assert auth_headers(keyed("  ")) == {}
    assert "secret" not in repr(keyed("secret"))
    for bad in ("sec\nret", "비밀"):
        with pytest.raises(SettingsError, match="OFFLOAD_DEEP_API_KEY") as raised:
            auth_headers(keyed(bad))
        assert bad not in str(raised.value)


def test_user_and_password_of_the_url_are_sent_in_a_header() -> None:
    slot = SlotConfig(name="deep", url="https://us%40er:pass@router:1/base", model="m")
    assert endpoint(slot, "/health") == "https://router:1/base/health"
    assert auth_headers(slot) == {"authorization": "Basic dXNAZXI6cGFzcw=="}
    assert auth_headers(SlotConfig(name="deep", url="http://a:b@router", model="m", api_key="k")) == {
        "authorization": "Bearer k"
    }


def test_a_slot_on_this_host_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "direct.example")
    for url in ("http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "http://macbook.local:1"):
        assert proxy_for(url) is None
    assert proxy_for("http://direct.example:1") is None
    assert proxy_for("http://router.example:1") == "http://proxy.example:3128"
    assert proxy_for("https://router.example") is None


def test_a_retry_after_of_a_refusal_is_read() -> None:
    error = status_error(429, None, **{"retry-after": "61"})
    assert retry_after_of(error) == retry_after_seconds(error.response) == 61
    assert retry_after_of(ValueError()) is None
