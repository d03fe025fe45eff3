"""What an error from a slot means: the reason shown to operators, whether the slot was reached, the setting to check.

Of a response body, only a router's reason code and the server's own short message leave this module. `refusals.py` makes
sure that neither quotes a document.
"""

import json
import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence

import aiohttp
import httpx

from dagster_offload.client.certificates import UNTRUSTED, refused_certificate, setting_behind_certificate
from dagster_offload.client.connections import UnsolicitedAnswer
from dagster_offload.client.retry_after import retry_after_seconds
from dagster_offload.client.transport import HttpAnswer, corrected_error
from dagster_offload.errors import (
    CutAnswer,
    CutBySleep,
    ErrorAsAnswer,
    MalformedAnswer,
    SettingsError,
    SlotFrozen,
    StageDeferred,
    WrongModel,
    is_deferrable_error,
)
from dagster_offload.slot.addresses import proxy_setting, secrets_in
from dagster_offload.slot.chat import texts_in
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.health import shown_names
from dagster_offload.slot.refusals import (
    CONNECTION_CLOSED,
    NOT_HTTP,
    is_about_the_key,
    is_ended_by_the_server,
    is_misconfigured_status,
    os_error_text,
    plain_words,
    router_reason_in,
    server_words,
    setting_behind_status,
    status_in_words,
)
from dagster_offload.text.lenient_json import read_json

# The request may have reached the server, but its complete answer did not reach us.
CONNECTION_ENDED = (
    httpx.ReadError,
    httpx.ReadTimeout,
    httpx.WriteError,
    httpx.WriteTimeout,
    httpx.CloseError,
    httpx.RemoteProtocolError,
)
# The proxy before the slot lost its answer. LiteLLM reports a slot that did not answer in time as 408. nginx does so if it
# did not receive the whole request in time: a document that is always too long for that must not be sent for ever either.
# Cloudflare answers 520 and 524; with its 521 to 523 and 530, it has not reached the server at all.
CUT_STATUS_CODES = frozenset({408, 499, 502, 504, 520, 524})
_CUT_ERRORS = (CutAnswer, *CONNECTION_ENDED, httpx.DecodingError)
# Reasons that are sentences, and their codes.
_SLEPT = "this machine slept during the call"
_UNSOLICITED = "the server sent an answer before it received a request"
_PROXY = "the proxy is unreachable or refused the connection"
_CODES = {
    CONNECTION_CLOSED: "connection_closed",
    NOT_HTTP: "not_http",
    _SLEPT: "machine_slept",
    _UNSOLICITED: "answer_before_request",
    _PROXY: "proxy_failed",
}
_EMPTY_ACCOUNT = re.compile(r'"(?:insufficient_quota|exceeded_current_quota_error)"')
_MISCONFIGURED_ERRORS = (SettingsError, httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)


def fault_reason(exc: BaseException) -> str:
    """Why a call failed, as a short text for operators: `upstream_cold`, `HTTP 500`, `connection refused`."""
    if isinstance(exc, StageDeferred):
        return exc.reason
    if isinstance(exc, SettingsError):
        return str(exc)
    if isinstance(exc, httpx.HTTPStatusError):
        return router_reason(exc) or status_in_words(exc.response.status_code, exc.response.headers)
    if isinstance(exc, WrongModel):
        return f"wrong_model: {exc}"
    if isinstance(exc, CutAnswer):
        return f"answer cut: {exc}"
    if isinstance(exc, CutBySleep):
        return _SLEPT
    if isinstance(exc, SlotFrozen):
        return f"frozen: {exc}"
    if isinstance(exc, MalformedAnswer):
        return f"malformed_answer: {exc}"
    if isinstance(exc, (httpx.TransportError, httpx.DecodingError)):
        return _transport_reason(exc)
    return type(exc).__name__


def fault_code(exc: BaseException) -> str:
    """A short code for the fault. Equal faults have equal codes."""
    if isinstance(exc, SettingsError):
        return "wrong_setting"  # its text is a sentence about the setting
    reason = fault_reason(exc)
    return _CODES.get(reason) or reason.partition(":")[0].replace(" ", "_").lower()


def reason_with_words(exc: BaseException) -> str:
    """`fault_reason`, with the server's own message: `HTTP 400: "Unsupported parameter: max_tokens"`."""
    return fault_reason(exc) + _quoted(exc)


def reason_with_setting(
    slot: SlotConfig,
    exc: BaseException,
    *,
    where: str = "",
    listed: Sequence[str] | None = None,
    has_answered: bool = False,
) -> str:
    """`fault_reason`, with the setting to check and the server's own message, unless the slot gave a reason code itself.

    No setting if the connection ended during the call: most often, the machine went to sleep.
    `where` follows the reason: ` on a.txt`. `listed`: the names in the server's model list, if the alias may be wrong.
    `has_answered`: the slot has answered at its URL before, so the URL is right.
    """
    reason = fault_reason(exc) + where
    if router_reason(exc):
        return reason
    if listed is not None:
        # The server has answered with its list, so its URL is right.
        names = f"the server lists {shown_names(slot.model, listed)}"
        check = f"({names})" if slot.model in listed else f"(check {slot.setting('model')}: {names})"
    elif is_unpaid(exc):
        check = "(add credit to its account)"
    else:
        setting = None if isinstance(exc, CutBySleep) or _ended_during_the_call(exc) else setting_to_check(slot, exc)
        is_right = setting is None or (has_answered and setting == slot.setting("url"))
        check = "" if is_right else f"(check {setting})"
    return f"{reason} {check}".rstrip() + _quoted(exc)


def words_of(exc: BaseException) -> str | None:
    """The server's own short message about its refusal, or None. It quotes neither the request nor a key."""
    if isinstance(exc, ErrorAsAnswer):
        return exc.words
    if not isinstance(exc, httpx.HTTPStatusError) or exc.response.is_success:
        return None
    return server_words(text_of(exc.response), _sent_in(exc.request))


def _sent_in(request: httpx.Request) -> str:
    return f"{_texts_in(request)}\n{secrets_in(request.headers)}"


def _texts_in(request: httpx.Request) -> str:
    """The texts of a request's messages; empty for a request without a body."""
    try:
        return texts_in(read_json(request.content))
    except (httpx.RequestNotRead, ValueError, KeyError, TypeError):
        return ""


def _quoted(exc: BaseException) -> str:
    """The words of a refusal to show after its reason, also those of a proxy in plain text."""
    words = words_of(exc)
    if words is None and isinstance(exc, httpx.HTTPStatusError):
        content_type = exc.response.headers.get("content-type", "")
        words = plain_words(text_of(exc.response), content_type, _sent_in(exc.request))
    return "" if words is None else f": {json.dumps(words, ensure_ascii=False)}"


def may_be_the_model(exc: BaseException) -> bool:
    """Whether the refusal may be about the model's name, so that the server's model list helps."""
    if not isinstance(exc, httpx.HTTPStatusError) or is_about_the_key(words_of(exc)):
        return False
    return exc.response.status_code in {400, 404, 422} and not is_deferrable_error(exc)


def _transport_reason(exc: httpx.TransportError | httpx.DecodingError) -> str:
    error = corrected_error(exc) if isinstance(exc, httpx.TransportError) else exc
    causes = list(_causes(exc))
    if isinstance(error, httpx.ProxyError):
        return _PROXY
    if (certificate := refused_certificate(causes)) is not None:
        return f"{UNTRUSTED}: {certificate.verify_message}"
    if any(isinstance(cause, (ssl.SSLError, aiohttp.ClientSSLError)) for cause in causes):
        return "TLS handshake failed"
    for cause in sorted(causes, key=lambda cause: not isinstance(cause, socket.gaierror)):
        if (message := os_error_text(cause)) is not None:
            return message
    if any(isinstance(cause, UnsolicitedAnswer) for cause in causes):
        return _UNSOLICITED
    if _is_not_http(causes):
        return NOT_HTTP
    for kind, message in (
        (httpx.ConnectTimeout, "no connection in time"),
        (httpx.ReadTimeout, "no answer in time"),
        (httpx.RemoteProtocolError, CONNECTION_CLOSED),
        (httpx.ReadError, "answer cut: the connection ended during the answer"),
        (httpx.ConnectError, "cannot connect"),
        (httpx.DecodingError, "answer cut: the body does not match its Content-Encoding"),
    ):
        if isinstance(error, kind):
            return message
    return type(error).__name__


def _is_not_http(causes: Iterable[BaseException]) -> bool:
    return any(isinstance(cause, aiohttp.ClientResponseError) for cause in causes)


def _ended_during_the_call(exc: BaseException) -> bool:
    """Whether the connection ended during the call, so the URL is most likely right. A complete answer that is no JSON may
    be that of another server."""
    if not isinstance(exc, httpx.TransportError) or _is_not_http(_causes(exc)):
        return False
    return isinstance(corrected_error(exc), CONNECTION_ENDED)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and all its causes and contexts, including the members of exception groups."""
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
    """Whether the request may have reached the slot and its answer was cut, so that the document may be the cause.

    False if there was no connection, or if the router itself refused (503, 429 or one of its reason codes).
    """
    if isinstance(exc, httpx.HTTPStatusError):
        is_gateway = exc.response.status_code in CUT_STATUS_CODES and router_reason(exc) is None
        return is_gateway or (not is_deferrable_error(exc) and is_ended_by_the_server(words_of(exc)))
    if isinstance(exc, ErrorAsAnswer):
        return is_ended_by_the_server(exc.words)
    if isinstance(exc, httpx.TransportError):
        exc = corrected_error(exc)
    return isinstance(exc, _CUT_ERRORS)


def is_busy(exc: BaseException) -> bool:
    """Whether the slot answered 429: it is busy, not unavailable."""
    return _is_status(exc, httpx.codes.TOO_MANY_REQUESTS) and not is_unpaid(exc)


def busy_reason(exc: BaseException) -> str:
    """Why the slot answered 429, for operators: `busy: "Rate limit reached: 50 requests a day"`."""
    return router_reason(exc) or f"busy{_quoted(exc)}"


def is_unpaid(exc: BaseException) -> bool:
    """Whether the account at the slot's provider has too little credit: a 402 (OpenRouter, DeepSeek), or a 429 that says so
    (OpenAI, Moonshot). A trial may still be answered, because it costs next to nothing."""
    if isinstance(exc, httpx.HTTPStatusError) and _is_status(exc, httpx.codes.TOO_MANY_REQUESTS):
        return _EMPTY_ACCOUNT.search(text_of(exc.response)) is not None
    return _is_status(exc, httpx.codes.PAYMENT_REQUIRED)


def _is_status(exc: BaseException, status_code: int) -> bool:
    return isinstance(exc, httpx.HTTPStatusError) and exc.response.status_code == status_code


def retry_after_of(exc: BaseException) -> float | None:
    """The seconds to wait that the slot requested (5 s to 6 h); None if it sent no time."""
    if isinstance(exc, httpx.HTTPStatusError):
        return retry_after_seconds(exc.response)
    if isinstance(exc, StageDeferred) and "retry_after_minutes" in vars(exc):
        return exc.retry_after_minutes * 60
    return None


def router_reason(exc: BaseException) -> str | None:
    """The router's reason code for its refusal, or None. Only the codes of `refusals.py` are ever read from a body."""
    return None if not isinstance(exc, httpx.HTTPStatusError) else _reason_in(exc.response)


def _reason_in(response: httpx.Response) -> str | None:
    return None if response.is_success else router_reason_in(text_of(response))


def text_of(response: HttpAnswer) -> str:
    """The body decoded as UTF-8, like all JSON, without the mark that .NET and IIS put before it. `response.text` uses the
    header, and some codecs (`undefined`) raise."""
    return response.content.decode("utf-8-sig", errors="replace")


def is_misconfigured(fault: BaseException) -> bool:
    """Whether a trial that ends with this fault most likely needs a change by a person."""
    if not isinstance(fault, httpx.HTTPStatusError):
        return isinstance(fault, _MISCONFIGURED_ERRORS)
    status_code = fault.response.status_code
    # LiteLLM answers 500 if a key is missing.
    is_key_missing = status_code == httpx.codes.INTERNAL_SERVER_ERROR and is_about_the_key(words_of(fault))
    is_wrong = is_misconfigured_status(status_code) and not is_deferrable_error(fault)
    return is_key_missing or is_unpaid(fault) or is_wrong


def setting_to_check(slot: SlotConfig, fault: BaseException) -> str | None:
    """The setting that most likely fixes this fault: the name of its environment variable. None if no setting does,
    or if the fault names it itself."""
    if isinstance(fault, SettingsError):
        return None
    if isinstance(fault, httpx.HTTPStatusError):
        response = fault.response
        return setting_behind_status(
            slot, response.status_code, words_of(fault), body=text_of(response), headers=response.headers
        )
    if (certificate := refused_certificate(_causes(fault))) is not None:
        return setting_behind_certificate(slot, certificate)
    if isinstance(fault, httpx.TransportError) and isinstance(corrected_error(fault), httpx.ProxyError):
        return proxy_setting(slot)
    if isinstance(fault, WrongModel):
        return f"{slot.setting('model')} or {slot.setting('expected_model')}"
    return slot.setting("url")
