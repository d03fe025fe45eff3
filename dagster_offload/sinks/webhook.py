"""A webhook as a sink: each record is posted as JSON, signed as the Standard Webhooks say (standardwebhooks.com).

The signature covers the identifier, the time and the body, so a receiver can refuse forged and replayed requests. Redirects
are not followed: a signed record and a token must not reach another server.
"""

import base64
import binascii
import hashlib
import hmac
import time

from dagster_offload.errors import SettingsError
from dagster_offload.sinks.faults import check_answer
from dagster_offload.sinks.http_server import HttpServer
from dagster_offload.sinks.message import Message, Sendable

_PREFIX = "whsec_"  # of a key that is written in base64


class Webhook:
    """Posts records to one address."""

    def __init__(self, url: str, secret: str | None, token: str | None, timeout: float) -> None:
        """`secret`: the key of the signature; None = not signed. Raises `SettingsError` for a wrong one."""
        self._url = url
        self._key = None if secret is None else signing_key(secret)
        headers = {"content-type": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        self._server = HttpServer(headers, timeout, cuts_answers=True)

    def send(self, message: Sendable) -> None:
        """Post a record. Raises `SinkFault`."""
        body = message.body
        headers = {
            "webhook-id": message.key,
            "idempotency-key": message.key,
            "webhook-timestamp": str(int(time.time())),
        }
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, message.key, headers["webhook-timestamp"], body)
        check_answer(self._server.request("POST", self._url, content=body, headers=headers))

    def test(self, message: Message) -> str:
        """Post a sample. Raises `SinkFault`."""
        self.send(message)
        return "the address took the sample" + ("" if self._key is not None else "; it is not signed (no secret)")

    def cancel(self) -> None:
        """A request in flight ends by itself, at its time limit at the latest."""


def signing_key(secret: str) -> bytes:
    """The bytes of a secret: `whsec_` and base64, or the text itself. Raises `SettingsError`, also for an empty one."""
    try:
        is_base64 = secret.startswith(_PREFIX)
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True) if is_base64 else secret.encode()
    except binascii.Error:
        raise SettingsError(f"a webhook's secret that begins with {_PREFIX} must be base64 after it") from None
    if not key:
        raise SettingsError("a webhook's secret is empty: everyone could sign with it. Set it, or remove it")
    return key


def signature(key: bytes, identifier: str, timestamp: str, body: bytes) -> str:
    """The value of the header `webhook-signature`: the version and an HMAC-SHA256 in base64."""
    signed = f"{identifier}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
