"""What an error from a slot means: the words an operator reads, who may have been reached, what to set right.

No word of a response's body leaves this file but the router's own few (`refusals.py`): bodies may echo documents.
"""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import httpx

from dagster_offload import timing
from dagster_offload.client.connections import AnsweredUnasked
from dagster_offload.client.transport import truer_error
from dagster_offload.errors import CutAnswer, MalformedAnswer, SlotFrozen, StageDeferred, WrongModel
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.refusals import (
    is_misconfigured_status,
    os_error_text,
    router_reason_in,
    setting_behind_status,
)

# The request may have reached the slot, and its answer did not reach us whole.
_CUT_ERRORS = (
    CutAnswer,
    httpx.ReadError,
    httpx.ReadTimeout,
    httpx.WriteError,
    httpx.WriteTimeout,
    httpx.CloseError,
    httpx.RemoteProtocolError,
    httpx.DecodingError,
)
_MISCONFIGURED_ERRORS = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)


def fault_reason(exc: BaseException) -> str:
    """Why a call failed, in the few words an operator reads: `upstream_cold`, `HTTP 500`, `connection refused`."""
    if isinstance(exc, StageDeferred):
        return exc.reason
    if isinstance(exc, httpx.HTTPStatusError):
        return router_reason(exc) or f"HTTP {exc.response.status_code}"
    if isinstance(exc, WrongModel):
        return f"wrong_model: {exc}"
    if isinstance(exc, CutAnswer):
        return f"answer cut: {exc}"
    if isinstance(exc, SlotFrozen):
        return f"frozen: {exc}"
    if isinstance(exc, MalformedAnswer):
        return f"malformed_answer: {exc}"
    if isinstance(exc, (httpx.TransportError, httpx.DecodingError)):
        return _transport_reason(exc)
    return type(exc).__name__


def reason_with_setting(slot: SlotConfig, exc: BaseException) -> str:
    """`fault_reason`, and the setting to look at where the slot did not name its reason itself."""
    reason = fault_reason(exc)
    return reason if router_reason(exc) else f"{reason} (check {setting_to_check(slot, exc)})"


def _transport_reason(exc: httpx.TransportError | httpx.DecodingError) -> str:
    error = truer_error(exc) if isinstance(exc, httpx.TransportError) else exc
    causes = list(_causes(exc))
    if isinstance(error, httpx.ProxyError):
        return "proxy cannot be reached or refuses"
    if any(isinstance(cause, (ssl.SSLError, aiohttp.ClientSSLError)) for cause in causes):
        is_untrusted = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
        return "TLS certificate not trusted" if is_untrusted else "TLS handshake failed"
    for cause in sorted(causes, key=lambda cause: not isinstance(cause, socket.gaierror)):
        if (words := os_error_text(cause)) is not None:
            return words
    if any(isinstance(cause, AnsweredUnasked) for cause in causes):
        return "the server sent an answer before it was sent a request"
    if any(isinstance(cause, aiohttp.ClientResponseError) for cause in causes):
        return "what answers there speaks no HTTP"
    for kind, words in (
        (httpx.ConnectTimeout, "no connection in time"),
        (httpx.ReadTimeout, "no answer in time"),
        (httpx.RemoteProtocolError, "server closed the connection before its answer was whole"),
        (httpx.ReadError, "answer cut: the connection ended inside it"),
        (httpx.ConnectError, "cannot connect"),
        (httpx.DecodingError, "answer cut: its body is not in the encoding it names"),
    ):
        if isinstance(error, kind):
            return words
    return type(error).__name__


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and everything that led to it, the members of groups included."""
    waiting: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while waiting:
        error = waiting.pop(0)
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        waiting += [error.__cause__, error.__context__, getattr(error, "os_error", None)]
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions


def is_cut(exc: BaseException) -> bool:
    """Whether the request may have reached the slot and its answer was cut: the document may be the cause.

    False where no connection stood, and where the router itself refused (503, 429, one of its own words).
    """
    if isinstance(exc, httpx.HTTPStatusError):
        return exc.response.status_code in {502, 504} and router_reason(exc) is None
    if isinstance(exc, httpx.TransportError):
        exc = truer_error(exc)
    return isinstance(exc, _CUT_ERRORS)


def is_busy(exc: BaseException) -> bool:
    """Whether the slot asked for patience: a 429 is back-pressure, not absence."""
    return isinstance(exc, httpx.HTTPStatusError) and exc.response.status_code == httpx.codes.TOO_MANY_REQUESTS


def retry_after_of(exc: BaseException) -> float | None:
    """Seconds the slot asked us to wait (5 s .. 6 h); None where it named no time."""
    if isinstance(exc, httpx.HTTPStatusError):
        return retry_after_seconds(exc.response)
    if isinstance(exc, StageDeferred) and "retry_after_minutes" in vars(exc):
        return exc.retry_after_minutes * 60
    return None


def router_reason(exc: BaseException) -> str | None:
    """The router's own word for its refusal; only words of `refusals.py` are ever taken from a body."""
    return None if not isinstance(exc, httpx.HTTPStatusError) else word_in(exc.response)


def word_in(response: httpx.Response) -> str | None:
    """The router's own word in a response that was read, or None."""
    return None if response.is_success else router_reason_in(text_of(response))


def text_of(response: httpx.Response) -> str:
    """The body as UTF-8, which JSON is. Not `response.text`: it goes by the header, and some codecs (`undefined`) raise."""
    return response.content.decode(errors="replace")


def is_misconfigured(fault: BaseException | int) -> bool:
    """Whether a trial that ends so most likely has to be mended by a person."""
    if isinstance(fault, httpx.HTTPStatusError):
        fault = fault.response.status_code
    if isinstance(fault, int):
        return is_misconfigured_status(fault)
    return isinstance(fault, _MISCONFIGURED_ERRORS)


def setting_to_check(slot: SlotConfig, fault: BaseException | int) -> str:
    """The setting most likely to put this fault right, as an operator would type it."""
    if isinstance(fault, httpx.HTTPStatusError):
        fault = fault.response.status_code
    if isinstance(fault, int):
        return setting_behind_status(slot, fault)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(fault)):
        return slot.setting("ca_file")
    if isinstance(fault, WrongModel):
        return f"{slot.setting('model')} or {slot.setting('expected_model')}"
    return slot.setting("url")


MAX_RETRY_AFTER_SECONDS = 6 * 3600.0


def retry_after_seconds(response: "httpx.Response", now: datetime | None = None) -> float | None:
    """Seconds the server asked us to wait, clamped to 5 s .. 6 h; None where it named none we can read.

    `Retry-After` is a number of seconds or an HTTP date (RFC 9110, 10.2.3).
    """
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
            when = when if when.tzinfo else when.replace(tzinfo=UTC)
            seconds = (when - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, OverflowError):  # no date, or one beyond every calendar
            return None
    if seconds != seconds:  # a header that says "nan"
        return None
    return min(max(seconds, timing.current().shortest_retry_after), MAX_RETRY_AFTER_SECONDS)
