"""What an error says about the slot: its reason, whether the call was cut, the setting to check, the time to wait."""

import httpx
import pytest

from dagster_offload.client.faults import (
    fault_reason,
    is_cut,
    is_misconfigured,
    reason_with_setting,
    reason_with_words,
    retry_after_of,
    setting_to_check,
)
from dagster_offload.client.retry_after import retry_after_seconds
from dagster_offload.errors import CutAnswer, SettingsError, WrongModel
from dagster_offload.slot.addresses import basic
from dagster_offload.slot.health import Reply, result_from_health
from tests.support.client import DEEP_SLOT, status_error


def test_a_long_body_is_never_searched_for_reason_codes() -> None:
    document = "the editor_busy flag " * 50
    assert fault_reason(status_error(503, {"error": document})) == "HTTP 503"
    assert fault_reason(status_error(500, {"error": "warming"})) == "warming"


@pytest.mark.rule("suspect-1")
@pytest.mark.parametrize(
    ("error", "cut"),
    [
        (status_error(502), True),
        (status_error(504), True),
        (status_error(408), True),  # LiteLLM, if its upstream did not answer in time
        (status_error(408, {"error": "warming"}), False),
        (status_error(502, {"error": "upstream_cold"}), False),
        *((status_error(status_code), True) for status_code in (520, 524)),  # Cloudflare
        *((status_error(status_code), False) for status_code in (521, 522, 523, 530)),  # it did not reach the server
        (status_error(503), False),
        (status_error(503, {"error": "dial tcp: connection refused"}), False),
        (status_error(529), False),  # Anthropic and OpenRouter: overloaded
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


@pytest.mark.rule("suspect-1")
@pytest.mark.parametrize(
    "words",
    [
        "Model unloaded.",
        "The model has crashed without additional information. (Exit code: 18446744072635812000)",
        "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error",
        "llama runner process has terminated: exit status 2",
        "llama runner process no longer running: -1",
        "an error was encountered while running the model: unexpected EOF",
        'do predict: Post "http://127.0.0.1:63330/completion": EOF',
        "proxy error: Failed to read connection",
        "rpc error: code = Unavailable desc = error reading from server: EOF",
        "litellm.InternalServerError: InternalServerError: OpenAIException - Connection error.",
        "litellm.APIConnectionError: OllamaException - All connection attempts failed",
        "dial tcp [::1]:11434: connectex: No connection could be made because the target machine actively refused it.",
        "read tcp 127.0.0.1:5000: wsarecv: An existing connection was forcibly closed by the remote host.",
        "Failed to load model",
        "Cannot load Qwen3.5-122B: projected memory 127.68GB would exceed process limit 88.00GB",
        "model requires more system memory (9.1 GiB) than is available (7.4 GiB)",
        "timed out waiting for llama runner to start - progress 0.18 - ",
        "No models loaded. Please load a model in the developer page.",
        "No models are currently loaded.",
        "model is not loaded",
        "Request aborted: process memory limit exceeded (usage 28.0 GB, abort threshold 28.0 GB, ceiling 29.4 GB).",
        "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    ],
)
def test_a_refusal_that_says_that_the_server_lost_its_model_is_a_cut(words: str) -> None:
    assert is_cut(status_error(500, {"error": {"message": words}}))


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory",
        "model 'x' not found",
        "Internal Server Error",
        "failed to load model vocabulary required for format",  # Ollama, for a schema that it cannot use
        "Could not load the JSON schema",
    ],
)
def test_a_refusal_that_may_be_about_the_request_is_no_cut(words: str) -> None:
    assert not is_cut(status_error(500, {"error": {"message": words}}))


@pytest.mark.parametrize("status_code", [301, 302, 400, 401, 403, 404, 405, 422, 501])
def test_a_trial_refused_with_this_status_is_misconfigured(status_code: int) -> None:
    assert is_misconfigured(status_error(status_code))


@pytest.mark.parametrize("status_code", [408, 423, 424, 425, 429, 500, 502, 503, 504, 520, 524, 529, 530])
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


def test_a_fault_of_the_proxy_names_the_variables_of_the_proxy() -> None:
    assert setting_to_check(DEEP_SLOT, httpx.ProxyError("refused")) == "HTTP_PROXY or NO_PROXY"


def test_a_wrong_setting_is_a_reason_that_needs_no_other_setting() -> None:
    error = SettingsError("OFFLOAD_DEEP_CA_FILE: it contains no certificate")
    assert reason_with_setting(DEEP_SLOT, error) == "OFFLOAD_DEEP_CA_FILE: it contains no certificate"
    assert is_misconfigured(error)


@pytest.mark.rule("slot-14")
@pytest.mark.parametrize("echoed", ["pass-word", "bWU6cGFzcy13b3Jk"])
def test_a_password_that_the_server_echoes_is_not_quoted(echoed: str) -> None:
    request = httpx.Request("POST", "http://router", headers={"authorization": basic("me", "pass-word")})
    response = httpx.Response(401, json={"error": f"wrong: {echoed}"}, request=request)
    error = httpx.HTTPStatusError("refused", request=request, response=response)
    assert reason_with_words(error) == "HTTP 401"


@pytest.mark.rule("slot-14")
def test_the_words_behind_a_byte_order_mark_are_read() -> None:
    body = b'\xef\xbb\xbf{"error": {"message": "Loading model"}}'
    request = httpx.Request("POST", "http://router")
    error = httpx.HTTPStatusError("", request=request, response=httpx.Response(503, content=body, request=request))
    assert reason_with_words(error) == 'HTTP 503: "Loading model"'
    assert result_from_health(DEEP_SLOT, "/health", Reply(503, body, {})).reason.endswith(': "Loading model"')


def test_a_retry_after_of_a_refusal_is_read() -> None:
    error = status_error(429, None, **{"retry-after": "61"})
    assert retry_after_of(error) == retry_after_seconds(error.response) == 61
    assert retry_after_of(ValueError()) is None
