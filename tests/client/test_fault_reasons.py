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
    retry_after_seconds,
    setting_to_check,
)
from dagster_offload.errors import CutAnswer, SettingsError, WrongModel
from dagster_offload.slot.addresses import basic
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


@pytest.mark.parametrize("status_code", [301, 302, 400, 401, 403, 404, 405, 422, 501])
def test_a_trial_refused_with_this_status_is_misconfigured(status_code: int) -> None:
    assert is_misconfigured(status_error(status_code))


@pytest.mark.parametrize("status_code", [408, 429, 500, 502, 503, 504, 520, 524, 529, 530])
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


def test_a_retry_after_of_a_refusal_is_read() -> None:
    error = status_error(429, None, **{"retry-after": "61"})
    assert retry_after_of(error) == retry_after_seconds(error.response) == 61
    assert retry_after_of(ValueError()) is None
