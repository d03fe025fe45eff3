"""Why a sink did not take a record: it is unavailable, its settings are wrong, or it refused this record.

A reason never contains text of a document, a key, or the path of a webhook's address.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import httpx

from dagster_offload.client.certificates import UNTRUSTED
from dagster_offload.client.faults import CONNECTION_ENDED, fault_reason
from dagster_offload.client.retry_after import retry_after_seconds
from dagster_offload.errors import SettingsError

# It logs the whole address of each request, and that of a webhook may be a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)


class Blame(StrEnum):
    """Whose fault a failure is. Only a refusal is an attempt of the record."""

    UNAVAILABLE = "unavailable"  # the sink is down: every record waits for it
    MISCONFIGURED = "misconfigured"  # a setting must change: every record waits for that
    REFUSED = "refused"  # the sink works, and does not take this record


class SinkFault(Exception):  # noqa: N818 - it is a finding, as StageDeferred is
    """A record was not taken. `retry_after` are seconds that the sink asked for.

    `is_of_record`: the refusal says nothing about other records, so it is no sign of a broken sink. `may_be_of_record`: the sink
    failed over this record, and may not fail over others.
    """

    def __init__(
        self,
        blame: Blame,
        reason: str,
        retry_after: float | None = None,
        *,
        is_of_record: bool = False,
        may_be_of_record: bool = False,
    ) -> None:
        super().__init__(reason)
        self.blame = blame
        self.reason = reason
        self.retry_after = retry_after
        self.is_of_record = is_of_record
        self.may_be_of_record = may_be_of_record


_NAMES_OF_ERRORS = frozenset({"detail", "non_field_errors"})  # of Django REST framework, which Paperless uses
_TOO_MANY_REQUESTS = 429
_TEMPORARY = frozenset({408, 423, 425, _TOO_MANY_REQUESTS})
# The address or the key is wrong.
_OF_SETTINGS = {
    401: "check its token",
    403: "check its token and the permissions of its user",
    404: "check its address",
    405: "check its address",
    406: "it does not know this version of the API",
    407: "check the proxy",
    410: "check its address",
}
# A firewall before the server forbids a text that looks like an attack, and a handler may not find what the record is about.
_OF_SETTINGS_OR_RECORD = frozenset({403, 404})
_TO_TRUST_IT = (
    "renew it, or start this with SSL_CERT_FILE set to a file (PEM) that has the certificate of its authority"
)
# The request had no token that could be wrong.
_WITHOUT_TOKEN = {401: "set `token`", 403: "it may need a token: set `token`"}


def check_answer(response: httpx.Response, about: str = "") -> None:
    """Raise `SinkFault` unless the response is a success. `about` names the request within a sink: ` at /api/tags/`.

    The response must have its request, which shows whether a token was sent.
    """
    status = response.status_code
    if response.is_success:
        return
    said = f"HTTP {status}{about}"
    if response.is_redirect:
        raise SinkFault(
            Blame.MISCONFIGURED, f"{said}: it redirects, and redirects are not followed: set the final address"
        )
    if status >= 500 or status in _TEMPORARY:
        # A handler that did not expect this record, or a proxy behind which it died, answers with any of the others.
        may_be_of_record = status != _TOO_MANY_REQUESTS
        raise SinkFault(Blame.UNAVAILABLE, said, retry_after_seconds(response), may_be_of_record=may_be_of_record)
    if status in _OF_SETTINGS:
        may_be_of_record = status in _OF_SETTINGS_OR_RECORD
        raise SinkFault(Blame.MISCONFIGURED, f"{said}: {_advice(response)}", may_be_of_record=may_be_of_record)
    raise SinkFault(Blame.REFUSED, f"{said}{_named_fields(response)}")


def _advice(response: httpx.Response) -> str:
    advice = _OF_SETTINGS[response.status_code]
    if "authorization" in response.request.headers:
        return advice
    return _WITHOUT_TOKEN.get(response.status_code, advice)


def _named_fields(response: httpx.Response) -> str:
    """The names of the fields that a JSON error is about, of those that were sent. All else may quote the record or a key."""
    content = _json_or_none(response.content)
    known = _NAMES_OF_ERRORS | set(_names_in(_json_or_none(response.request.content)))
    names = [name for name in content if name in known] if isinstance(content, dict) else []
    return f" about {', '.join(names[:10])}" if names else ""


def _json_or_none(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _names_in(sent: Any) -> Iterator[str]:
    if isinstance(sent, dict):
        yield from sent
    for part in sent.values() if isinstance(sent, dict) else sent if isinstance(sent, list) else ():
        yield from _names_in(part)


@contextmanager
def http_faults() -> Iterator[None]:
    """Turn wrong settings and errors of httpx into `SinkFault`. Messages of httpx may contain an address and are not kept."""
    try:
        yield
    except SettingsError as error:
        raise SinkFault(Blame.MISCONFIGURED, str(error)) from None
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
        raise SinkFault(Blame.MISCONFIGURED, f"{type(error).__name__}: check its address") from None
    except httpx.HTTPError as error:
        if (reason := fault_reason(error)).startswith(UNTRUSTED):
            raise SinkFault(Blame.MISCONFIGURED, f"{reason}: {_TO_TRUST_IT}") from None
        raise SinkFault(Blame.UNAVAILABLE, reason, may_be_of_record=isinstance(error, CONNECTION_ENDED)) from None
