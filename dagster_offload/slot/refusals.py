"""What a refusal means, from its status, its body or a system error, without an HTTP client.

Separate from `client/faults.py` because importing an HTTP client would make the command `status` too slow.
"""

import errno
import re
import socket
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from dagster_offload.errors import is_offline_at_ngrok
from dagster_offload.slot.addresses import origin, proxy_setting
from dagster_offload.slot.config import SlotConfig
from dagster_offload.text.lenient_json import read_json, short_texts
from dagster_offload.text.plain_text import cleaned, escaped, shortened

ROUTER_REASONS = ("upstream_cold", "editor_busy", "warming")
_ROUTER_REASON = re.compile(rf"\b({'|'.join(ROUTER_REASONS)})\b")
_LONGEST_MESSAGE = 200  # characters; a router's message is short, an echoed document is longer

CONNECTION_CLOSED = "the server closed the connection before its answer was complete"
NOT_HTTP = "the server does not speak HTTP"

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


LONGEST_WORDS = 140  # characters of a server's message that are quoted
# A longer text of a proxy, or one of more lines, is a page.
_LONGEST_PLAIN_TEXT = 200
_MOST_PLAIN_LINES = 2
_LONGEST_ORIGIN = 80
# The fields of a refusal that hold its message: OpenAI's form, FastAPI's (vLLM, LiteLLM, llama-cpp-python), Ollama's.
_MESSAGE_FIELDS = ("error", "detail", "message", "msg")
_DEEPEST_FIELD = 4
_THREE_DIGITS = re.compile("[0-9]{3}")
_STATUS_FIELDS = ("status", "code", "status_code", "statusCode")
# A message that repeats this many characters of what was sent may quote a document. So may one with a whole line of it.
_LONGEST_COMMON_TEXT = 16
_SHORTEST_LINE = 4
# Long hexadecimal numbers are hashes of keys; a URL may hold a password.
_SECRET = re.compile(r"\b[0-9a-f]{32,}\b|\bsk-[\w.*-]+|(?<=//)[^/\s@]+@")

_ABOUT_THE_KEY = re.compile(
    # LiteLLM says "No connected db." for a wrong key, because it looks for other keys in a database.
    r"no connected db|no api[ _]key|(?:invalid|incorrect|missing|wrong) (?:api[ _]?key|proxy server token|token)"
    r"|authentication error|\bunauthori[sz]ed\b",
    re.IGNORECASE,
)
# The server, or a proxy before it, could not load the model or lost it during the call. All other open calls may end with it.
_ENDED_BY_THE_SERVER = re.compile(
    # LM Studio, whose model is unloaded or whose load was cancelled.
    r"\bmodel (?:is |was |has been |has )?unloaded\b|\boperation cancell?ed\b"
    # A model that cannot be loaded, for memory or time: LM Studio, Ollama, LocalAI, oMLX, TabbyAPI, llama-server as a router.
    # Not a grammar or the like, which belongs to the request: then every document of a stage would run alone.
    r"|\b(?:failed to|unable to|could not|cannot) load\b(?!(?: \w+){0,3} (?:grammar|schema|template|vocabulary|image)\b)"
    r"|\bmore system memory\b|\btimed out waiting for (?:llama|server)"
    r"|\bno models? (?:is |are )?(?:currently )?loaded\b|\bmodel is not loaded\b"
    # oMLX ends all calls if memory is short.
    r"|\brequest aborted\b"
    # The model's process crashed: LM Studio, Ollama, vLLM.
    r"|\bmodel (?:has )?crashed\b|\brunner (?:process )?(?:has |is )?(?:unexpectedly stopped|terminated|crashed|exited|no longer)"
    r"|\bEngineCore encountered\b"
    # The proxy's connection to it failed: Ollama and LocalAI before their own processes, llama-server as a router, LiteLLM, and
    # what proxies in Go, Python and Node quote.
    r"|\bEOF$|\bfailed to read connection\b|\bcould not establish connection\b|\bconnection error\b|\bserver disconnected\b"
    r"|\bconnection (?:was )?(?:forcibly )?(?:reset|refused|closed|aborted)\b|\bsocket hang up\b|\bECONN(?:RESET|REFUSED)\b"
    r"|\bfetch failed\b|\bconnection attempts failed\b|\bactively refused\b",
    re.IGNORECASE,
)
_ABOUT_A_PARAMETER = re.compile(
    r"\b(?:unsupported|unknown|unrecognized|unexpected|invalid) (?:parameter|argument|field)"
    r"|\bextra (?:inputs|fields)\b",
    re.IGNORECASE,
)


def server_words(body: str, sent: str = "") -> str | None:
    """The server's own short message in the body of a refusal, safe to show; None if there is none.

    Only the first line of a known error field is used. `sent` is what the request contained: a message that repeats a part
    of it is left out, because it may quote a document.
    """
    try:
        found = _message_in(read_json(body)) or ""
    except ValueError:
        return None
    line = next((line for line in cleaned(found).splitlines() if line.strip()), "")
    message = " ".join(line.split())
    return None if _repeats(message[: 2 * LONGEST_WORDS], sent) else _shown(message)


def plain_words(body: str, content_type: str, sent: str = "") -> str | None:
    """The first line of a refusal in plain text, as proxies and some servers send it; None if there is none to show.

    These words are only shown and decide nothing, because a proxy may say them. `sent`: as in `server_words`.
    """
    text = body.strip()
    if not content_type.lower().startswith("text/plain") or len(text) > _LONGEST_PLAIN_TEXT or _is_markup(text):
        return None
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    if not 0 < len(lines) <= _MOST_PLAIN_LINES or not all(map(str.isprintable, lines)):
        return None
    return None if _repeats(" ".join(lines), sent) else _shown(lines[0])


def _is_markup(text: str) -> bool:
    return text.startswith(("{", "[", '"', "<"))


def _shown(message: str) -> str | None:
    return shortened(_SECRET.sub("…", message), LONGEST_WORDS) or None


def status_in_words(status_code: int, headers: Mapping[str, str]) -> str:
    """A status for operators, with what its headers say: `HTTP 302: it redirects to https://login.example`."""
    if is_offline_at_ngrok(status_code, headers):
        return f"HTTP {status_code}: no machine is connected to ngrok under this name"
    if 300 <= status_code < 400 and (target := _origin_of(headers.get("location", ""))):
        return f"HTTP {status_code}: it redirects to {target}"
    return f"HTTP {status_code}"


def _origin_of(location: str) -> str | None:
    """Scheme and host of a redirect. The rest may hold a key; None if it stays at the server."""
    try:
        found = origin(location).removeprefix("://") if urlsplit(location).netloc else None
    except ValueError:
        return None
    return None if found is None else shortened(escaped(found), _LONGEST_ORIGIN)


def status_named_in(*places: object) -> int | None:
    """The HTTP status that an error names: the first one in these objects; None if there is none."""
    numbers = (place.get(name) for place in places if isinstance(place, dict) for name in _STATUS_FIELDS)
    return next((number for number in map(_status_in, numbers) if number is not None), None)


def _status_in(value: object) -> int | None:
    number = int(value) if isinstance(value, str) and _THREE_DIGITS.fullmatch(value) else value
    return number if isinstance(number, int) and 400 <= number <= 599 else None


def _message_in(value: object, depth: int = 0) -> str | None:
    if isinstance(value, str):
        return value if depth else None
    if depth > _DEEPEST_FIELD:
        return None
    if isinstance(value, list):
        return _message_in(value[0], depth) if value else None
    if isinstance(value, dict):
        found = (_message_in(value[name], depth + 1) for name in _MESSAGE_FIELDS if name in value)
        return next((message for message in found if message), None)
    return None


def _repeats(words: str, sent: str) -> bool:
    folded, message = sent.casefold(), words.casefold()
    lines = {line.strip() for line in folded.splitlines()}
    if any(line in message for line in lines if len(line) >= _SHORTEST_LINE):
        return True
    joined = " ".join(folded.split())
    starts = range(len(message) - _LONGEST_COMMON_TEXT + 1)
    return any(message[start : start + _LONGEST_COMMON_TEXT] in joined for start in starts)


def is_ended_by_the_server(words: str | None) -> bool:
    """Whether the server's words mean that it ended the call for a reason of its own, not because of the request."""
    return words is not None and _ENDED_BY_THE_SERVER.search(words) is not None


def is_about_the_key(words: str | None) -> bool:
    """Whether the server's message is about a missing or wrong key, whatever the status is."""
    return words is not None and _ABOUT_THE_KEY.search(words) is not None


def os_error_text(error: BaseException) -> str | None:
    """Why a connection failed or broke, from a system error; None for other errors."""
    if isinstance(error, socket.gaierror):
        return "no such host"
    return _OS_ERRORS.get(error.errno or 0) if isinstance(error, OSError) else None


def is_misconfigured_status(status_code: int) -> bool:
    """Whether a refusal with this status most likely needs a change by a person, in the settings or at the server."""
    return (
        300 <= status_code < 400
        or status_code == 501
        # 424: the generation failed (TGI).
        or (400 <= status_code < 500 and status_code not in {408, 423, 424, 425, 429, 499})
    )


_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def setting_behind_status(
    slot: SlotConfig,
    status_code: int,
    words: str | None = None,
    *,
    body: str = "",
    headers: Mapping[str, str] = _NO_HEADERS,
) -> str | None:
    """The setting that most likely fixes a refusal with this status: the name of its environment variable.

    `words` is the server's own message in `body`. None if the server explains itself: then its URL is right, and no setting
    is known.
    """
    if status_code == 407:  # its words are the proxy's
        return proxy_setting(slot)
    if status_code == 403 and slot.api_key is None and not is_about_the_key(words):
        # Ollama and Jan refuse every name but their own, and so a proxy that forwards the name in the URL.
        return f"{slot.setting('api_key')}, or whether the server accepts the host name in {slot.setting('url')}"
    if status_code in {401, 403} or is_about_the_key(words):
        return slot.setting("api_key")
    if status_code in {400, 422}:
        if words is not None and _ABOUT_A_PARAMETER.search(words):
            return slot.setting("extra_body") if slot.extra_body else None
        return slot.setting("model")
    # 405 and 421: another server answers there (Open WebUI), or one that does not expect this host.
    if 300 <= status_code < 400 or status_code in {405, 421} or is_offline_at_ngrok(status_code, headers):
        return slot.setting("url")
    if status_code == 404 and words is not None and "model" in words.lower():
        return slot.setting("model")
    if status_code == 404:
        both = f"{slot.setting('url')} or {slot.setting('model')}"
        # Servers explain a 404 in JSON. Traefik, frp and others send a text or a page while they know no machine.
        is_page = bool(body.strip()) and not body.lstrip().startswith(("{", "["))
        return f"{both}, or whether a proxy answers because the machine is asleep" if is_page else both
    return slot.setting("url") if words is None else None
