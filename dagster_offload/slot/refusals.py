"""What a refusal means, from its status, its body or a system error, without an HTTP client.

Separate from `client/faults.py` because importing an HTTP client would make the command `status` too slow.
"""

import errno
import re
import socket

from dagster_offload.slot.config import SlotConfig
from dagster_offload.text.lenient_json import read_json, short_texts

ROUTER_REASONS = ("upstream_cold", "editor_busy", "warming")
_ROUTER_REASON = re.compile(rf"\b({'|'.join(ROUTER_REASONS)})\b")
_LONGEST_MESSAGE = 200  # characters; a router's message is short, an echoed document is longer

_OS_ERRORS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: "host vanished",
    errno.EHOSTUNREACH: "no route to host",
    errno.EHOSTDOWN: "host is down",
    errno.ENETUNREACH: "network unreachable",
    errno.ENETDOWN: "network is down",
}


def router_reason_in(text: str) -> str | None:
    """The router's reason code in the body of a refusal, or None."""
    try:
        messages = list(short_texts(read_json(text), _LONGEST_MESSAGE))
    except ValueError:
        messages = [text] if len(text) <= _LONGEST_MESSAGE else []
    for message in messages:
        found = _ROUTER_REASON.search(message)
        if found is not None:
            return found[1]
    return None


def os_error_text(error: BaseException) -> str | None:
    """Why a connection failed or broke, from a system error; None for other errors."""
    if isinstance(error, socket.gaierror):
        return "no such host"
    return _OS_ERRORS.get(error.errno or 0) if isinstance(error, OSError) else None


def is_misconfigured_status(status_code: int) -> bool:
    """Whether a refusal with this status most likely needs a change by a person, in the settings or at the server."""
    return (
        300 <= status_code < 400 or status_code == 501 or (400 <= status_code < 500 and status_code not in {408, 429})
    )


def setting_behind_status(slot: SlotConfig, status_code: int) -> str:
    """The setting that most likely fixes a refusal with this status: the name of its environment variable."""
    if status_code in {401, 403}:
        return slot.setting("api_key")
    if status_code in {400, 422}:
        return slot.setting("model")
    if status_code == 404 or 300 <= status_code < 400:
        return f"{slot.setting('url')} or {slot.setting('model')}"
    return slot.setting("url")
