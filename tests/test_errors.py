"""Which errors defer work, which never do, and the limits of a `Retry-After`."""

import inspect
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_offload import errors
from dagster_offload.client import retry_after
from dagster_offload.client.retry_after import retry_after_seconds
from dagster_offload.errors import (
    DEFERRABLE_STATUS_CODES,
    CutAnswer,
    DrainRefused,
    ExtractionFailed,
    MalformedAnswer,
    StageDeferred,
    UnusableAnswer,
    WrongModel,
    is_deferrable_error,
)

REQUEST = httpx.Request("POST", "http://router/v1/chat/completions")

# Errors that waiting for the slot does not fix, each with its reason.
NEVER_DEFERRABLE: set[type[Exception]] = {
    httpx.PoolTimeout,  # our own pool
    httpx.InvalidURL,  # a setting
    httpx.UnsupportedProtocol,  # a setting
    httpx.LocalProtocolError,  # a setting, or our own request
    httpx.TooManyRedirects,  # redirects are not followed
    httpx.CookieConflict,  # cookies are not read
    httpx.StreamError,  # wrong use of a response by us
    httpx.StreamConsumed,
    httpx.StreamClosed,
    httpx.ResponseNotRead,
    httpx.RequestNotRead,
}
# Base classes that are never raised themselves.
BASES: set[type[Exception]] = {
    httpx.HTTPError,
    httpx.RequestError,
    httpx.TransportError,
    httpx.TimeoutException,
    httpx.NetworkError,
    httpx.ProtocolError,
}
ALL_HTTPX_ERRORS: set[type[Exception]] = {
    value for _, value in inspect.getmembers(httpx, inspect.isclass) if issubclass(value, Exception)
} - {httpx.HTTPStatusError}


def status_error(status_code: int, **headers: str) -> httpx.HTTPStatusError:
    response = httpx.Response(status_code, headers=headers, request=REQUEST)
    return httpx.HTTPStatusError("refused", request=REQUEST, response=response)


def made(kind: type[Exception]) -> Exception:
    wants = inspect.signature(kind).parameters
    return kind() if not wants or kind in {httpx.StreamConsumed, httpx.StreamClosed} else kind("made for a test")


@pytest.mark.parametrize("kind", sorted(ALL_HTTPX_ERRORS - BASES, key=str))
def test_every_httpx_error_is_either_deferrable_or_listed_as_never(kind: type[Exception]) -> None:
    assert is_deferrable_error(made(kind)) is (kind not in NEVER_DEFERRABLE)


def test_base_classes_of_httpx_are_not_deferrable() -> None:
    assert ALL_HTTPX_ERRORS >= BASES | NEVER_DEFERRABLE
    assert not any(is_deferrable_error(kind("made for a test")) for kind in BASES)


@pytest.mark.rule("slot-1")
@pytest.mark.parametrize("status_code", [502, 503, 504, 408, 423, 425, 429, 499, *range(520, 525), 529, 530])
def test_a_status_of_an_unavailable_slot_is_deferrable(status_code: int) -> None:
    assert is_deferrable_error(status_error(status_code))


@pytest.mark.parametrize("status_code", [301, 302, 400, 401, 403, 404, 405, 409, 413, 422, 500, 501, 525, 526])
def test_a_status_about_the_request_or_the_settings_is_not_deferrable(status_code: int) -> None:
    assert not is_deferrable_error(status_error(status_code))


@pytest.mark.rule("slot-1")
@given(st.integers(100, 599))
def test_no_other_status_is_deferrable(status_code: int) -> None:
    assert is_deferrable_error(status_error(status_code)) is (status_code in DEFERRABLE_STATUS_CODES)


@pytest.mark.parametrize(
    "kind",
    [httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError],
)
def test_a_broken_connection_is_deferrable(kind: type[httpx.TransportError]) -> None:
    assert is_deferrable_error(kind("gone", request=REQUEST))


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), KeyError("x"), TimeoutError(), OSError()])
def test_other_errors_are_not_deferrable(error: Exception) -> None:
    assert not is_deferrable_error(error)


def test_cut_answers_and_wrong_models_are_deferrable_and_malformed_answers_are_not() -> None:
    assert is_deferrable_error(CutAnswer("cut"))
    assert is_deferrable_error(WrongModel("tiny answered"))
    assert not is_deferrable_error(MalformedAnswer("no choices"))
    assert not is_deferrable_error(UnusableAnswer("empty_answer", "the answer is empty"))


@pytest.mark.rule("slot-4")
def test_a_deferral_waits_30_minutes_unless_the_slot_sent_a_time() -> None:
    assert StageDeferred("deep_unavailable:upstream_cold").retry_after_minutes == 30
    assert StageDeferred("deep_unavailable:editor_busy", retry_after_minutes=2).retry_after_minutes == 2
    assert str(StageDeferred("deep_unavailable:ReadTimeout")) == "deep_unavailable:ReadTimeout"


def wait(value: str, now: datetime | None = None) -> float | None:
    return retry_after_seconds(httpx.Response(503, headers={"retry-after": value}), now)


@pytest.mark.rule("slot-4")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 90 ", 90.0),
        ("120, 120", 120.0),  # of a server and of its proxy
        ("0", 5.0),
        ("-3", 5.0),
        ("4.5", 5.0),
        ("86400", 6 * 3600.0),
        ("inf", 6 * 3600.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_in_seconds_is_clamped_and_an_invalid_value_is_none(value: str, seconds: float | None) -> None:
    assert wait(value) == seconds


def test_retry_after_as_a_date_counts_from_now() -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def at(delta: timedelta) -> float | None:
        return wait(format_datetime(now + delta, usegmt=True), now)

    assert at(timedelta(minutes=10)) == 600
    assert at(-timedelta(days=1)) == 5
    assert at(timedelta(days=2)) == 6 * 3600
    assert wait("Sun, 01 Mar 2026 12:01:00", now) == 60  # without a zone


@pytest.mark.parametrize(
    ("date", "seconds"), [("Sun, 01 Mar 2026 12:00:00 GMT", 600), ("soon", 6 * 3600), (None, 6 * 3600)]
)
def test_retry_after_as_a_date_counts_from_the_servers_own_date_if_it_sends_one(
    date: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowClock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "SlowClock":
            return cls(2026, 3, 1, 5, tzinfo=tz)

    monkeypatch.setattr(retry_after, "datetime", SlowClock)
    headers = {"retry-after": "Sun, 01 Mar 2026 12:10:00 GMT"} | ({} if date is None else {"date": date})
    assert retry_after_seconds(httpx.Response(503, headers=headers)) == seconds


def test_no_retry_after_is_none() -> None:
    assert retry_after_seconds(httpx.Response(503)) is None


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_no_retry_after_header_raises(value: str) -> None:
    seconds = wait(value)
    assert seconds is None or 5 <= seconds <= 6 * 3600


@pytest.mark.parametrize(
    "error",
    [
        StageDeferred("deep_unavailable:warming"),
        StageDeferred("deep_unavailable:warming", retry_after_minutes=1.5),
        DrainRefused("no deep slot is configured"),
        UnusableAnswer("no_json", "the answer holds no JSON object"),
        ExtractionFailed("broken_file", "not a PDF", is_final=True),
        CutAnswer("cut"),
        WrongModel("tiny answered"),
    ],
)
def test_errors_survive_pickling(error: errors.OffloadError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
