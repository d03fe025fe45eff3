"""What a probe requests and what the answers mean, without I/O.

`client/probe.py` sends the requests, and `cli/quick_probe.py` does so without an HTTP client.

The health path of each server, as its source or a real one shows it: llama.cpp, mlx_lm, vLLM and llama-swap have
`/health`. Ollama and llama-cpp-python answer 404 there, and LM Studio an error with status 200: their model list is
requested instead. LiteLLM's `/health` completes a call on every model, so it is recognised by another path first.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from dagster_offload import timing
from dagster_offload.errors import is_offline_at_ngrok, is_unreached
from dagster_offload.slot.addresses import auth_headers, secrets_in
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.refusals import (
    is_misconfigured_status,
    plain_words,
    router_reason_in,
    server_words,
    setting_behind_status,
    status_in_words,
)
from dagster_offload.text.lenient_json import read_json
from dagster_offload.text.plain_text import escaped, shortened

CONNECT_SECONDS = 3.0
DEFAULT_PATH = "/health"
MODELS_PATH = "/v1/models"  # requested if there is no health path
# LiteLLM's paths without a price. They need no key.
LITELLM_ALIVE_PATH = "/health/liveliness"
LITELLM_READY_PATH = "/health/readiness"
_LITELLM_ALIVE = ("I'm alive!", {"status": "shutting_down"})  # the answers of `/health/liveliness`
_LITELLM_NOTE = f"LiteLLM; its {DEFAULT_PATH} would complete a call on every model, so it is not requested"

MOST_NAMES = 5  # model names in a message
LONGEST_NAME = 80
# Comparing the spelling of all names of a huge list would take seconds.
MOST_COMPARED = 1_000
LONGEST_COMPARED = 200


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe. `answered`: there was any HTTP answer, even an unhealthy one (the process is not frozen).

    `is_unreached`: a tunnel answered, because it has not reached the slot's machine.

    `path` is the health path that was found. `advice` names the setting that would make the next probe better.
    `is_setting`: nothing was sent, because a setting that `reason` names must be corrected first.
    """

    healthy: bool
    reason: str
    answered: bool = False
    is_unreached: bool = False
    path: str | None = None
    advice: str | None = None
    is_setting: bool = False


@dataclass(frozen=True)
class Get:
    """A GET request that a probe sends next, and how long it may take."""

    path: str
    seconds: float


@dataclass(frozen=True)
class Reply:
    """The answer to a `Get`. `headers` are found by lower-case names."""

    status_code: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status_code < 300


# The requests of one probe. Each is answered with `send`: a reply, or None if none came in time.
Probing = Generator[Get, Reply | None, ProbeResult]


def probing(slot: SlotConfig, found: str | None = None) -> Probing:
    """The requests of one probe, in order, and its result. `found` is the path that an earlier probe of this process found.

    A path that completes calls is requested at most once, and not at all if the server is recognisable as LiteLLM.
    """
    path, limit = found or health_path(slot), timing.current().probe_limit
    if found is None and path == DEFAULT_PATH:
        alive = yield Get(LITELLM_ALIVE_PATH, limit)
        if alive is None:
            return no_answer()
        if is_litellm(alive):
            path = LITELLM_READY_PATH
    reply = yield Get(path, limit)
    if reply is not None and _completes_calls(reply):
        return (yield from _probing_without_price(slot, path))
    if reply is None:
        return replace(no_answer(), path=path)
    if found is not None and found != health_path(slot) and is_missing(reply):
        return (yield from probing(slot))  # another server listens there now
    if path == MODELS_PATH or not (is_missing(reply) or _is_forbidden(reply)):
        return result_from_health(slot, path, reply)
    models = yield Get(MODELS_PATH, timing.current().models_limit)
    if is_missing(reply):
        return busy_with_a_call(path) if models is None else result_from_models(slot, path, models)
    return _result_without_key(slot, path, reply, models)


def _probing_without_price(slot: SlotConfig, costly: str) -> Probing:
    """The requests after `costly` has completed calls: of a path that completes none."""
    path, limit = LITELLM_READY_PATH, timing.current().probe_limit
    reply = yield Get(path, limit)
    if reply is not None and is_missing(reply):
        path = MODELS_PATH
        reply = yield Get(path, limit)
    result = no_answer() if reply is None else result_from_health(slot, path, reply)
    advice = f"{costly} completes calls each time it is requested: set {slot.setting('health_path')}={path}"
    return replace(result, path=path, advice=advice)


def health_path(slot: SlotConfig) -> str:
    """The slot's health path, with one leading slash."""
    return "/" + slot.health_path.lstrip("/")


def is_litellm(reply: Reply) -> bool:
    """Whether an answer of `/health/liveliness` is LiteLLM's."""
    return _json_in(reply) in _LITELLM_ALIVE


def is_missing(reply: Reply) -> bool:
    """Whether the path does not exist. LM Studio says so with an error and status 200."""
    if reply.status_code == 404:
        return not is_offline_at_ngrok(reply.status_code, reply.headers)
    value = _json_in(reply) if reply.is_success else None
    return isinstance(value, dict) and "error" in value


def _is_forbidden(reply: Reply) -> bool:
    return reply.status_code in {401, 403}


def _completes_calls(reply: Reply) -> bool:
    """Whether this health answer is LiteLLM's, which costs a completion on every model."""
    value = _json_in(reply)
    return isinstance(value, dict) and "healthy_endpoints" in value


def _json_in(reply: Reply) -> object:
    try:
        return read_json(reply.body)
    except ValueError:
        return None


def no_answer() -> ProbeResult:
    """The result if a request was not answered in time."""
    return ProbeResult(False, f"no answer within {timing.current().probe_limit:g} s")


def result_from_health(slot: SlotConfig, path: str, reply: Reply) -> ProbeResult:
    """The result of an answer to the health request."""
    status_code = reply.status_code
    note = f" ({_LITELLM_NOTE})" if path == LITELLM_READY_PATH and health_path(slot) != path else ""
    if reply.is_success:
        return ProbeResult(True, f"{path} returned HTTP {status_code}{note}", answered=True, path=path)
    text, secrets = reply.body.decode("utf-8-sig", errors="replace"), secrets_in(auth_headers(slot))
    reason_code, words = router_reason_in(text), server_words(text, secrets)
    reason = reason_code or f"{path} returned {status_in_words(status_code, reply.headers)}"
    if reason_code is None or is_misconfigured_status(status_code):
        setting = setting_behind_status(slot, status_code, words, body=text, headers=reply.headers)
        reason += f" (check {setting})" if setting else ""
    quoted = words or plain_words(text, reply.headers.get("content-type", ""), secrets)
    if reason_code is None and quoted:
        reason += f": {json.dumps(quoted, ensure_ascii=False)}"
    unreached = is_unreached(status_code, reply.headers)
    return ProbeResult(False, reason, answered=True, is_unreached=unreached, path=path)


def result_from_models(slot: SlotConfig, path: str, models: Reply) -> ProbeResult:
    """The result of `/v1/models` if `path` does not exist. Both were answered, so the process runs; a trial decides more.

    A model that is not listed may still answer: Ollama accepts `qwen3` for `qwen3:latest`.
    """
    if models.status_code == 404:
        reason = f"no {path} and no {MODELS_PATH}: only a completion can show more"
        return ProbeResult(True, reason, answered=True, path=path)
    if not models.is_success:
        return replace(result_from_health(slot, MODELS_PATH, models), path=path)
    names = models_in(models.body)
    if names is None:
        return ProbeResult(True, f"no {path}, and {MODELS_PATH} is not a list of models", answered=True, path=path)
    if slot.model in names:
        return ProbeResult(True, f"no {path}; {MODELS_PATH} lists {slot.model}", answered=True, path=path)
    nearest = nearest_name(slot.model, names)
    hint = f"the nearest name is {_shown(nearest)}; check {slot.setting('model')}" if nearest else "it lists none"
    reason = f"no {path}; {MODELS_PATH} does not list {slot.model} ({hint})"
    return ProbeResult(True, reason, answered=True, path=path)


def _result_without_key(slot: SlotConfig, path: str, reply: Reply, models: Reply | None) -> ProbeResult:
    """The result if `path` refused the key. If the model list accepts it, the path needs another one than completions."""
    if models is None or models.status_code == 404:
        return result_from_health(slot, path, reply)
    if not models.is_success:
        return replace(result_from_health(slot, MODELS_PATH, models), path=path)
    return ProbeResult(
        True,
        f"{path} returned HTTP {reply.status_code}, but {MODELS_PATH} accepts the key",
        answered=True,
        path=path,
        advice=f"{path} needs another key than completions: set {slot.setting('health_path')}={MODELS_PATH}",
    )


def busy_with_a_call(path: str) -> ProbeResult:
    """The result if `path` does not exist and the list of models timed out: the server is busy with a call."""
    reason = f"no {path}, and {MODELS_PATH} does not answer: the server is busy"
    return ProbeResult(True, reason, answered=True, path=path)


def models_in(body: bytes) -> list[str] | None:
    """The model names in a body of `/v1/models`; None if it is not such a list."""
    try:
        return [str(model["id"]) for model in read_json(body)["data"]]
    except (ValueError, KeyError, TypeError):
        return None


def nearest_name(wanted: str, names: Sequence[str]) -> str | None:
    """The name most similar to `wanted`: one that begins or ends with it, else the most similar spelling."""
    for name in names:
        if name.startswith(wanted) or name.removesuffix(".gguf").endswith(wanted):
            return name
    spelled = [name for name in names if len(name) <= LONGEST_COMPARED][:MOST_COMPARED]
    return next(iter([*get_close_matches(wanted, spelled, n=1, cutoff=0), *names]), None)


def shown_names(wanted: str, names: Sequence[str]) -> str:
    """The names that a server lists, the nearest to `wanted` first: `qwen3:latest, llama3:latest and 3 more`."""
    if not names:
        return "no model"
    nearest = nearest_name(wanted, names)
    ordered = sorted(names, key=lambda name: name != nearest)
    shown = ", ".join(map(_shown, ordered[:MOST_NAMES]))
    more = len(names) - MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _shown(name: str) -> str:
    """A server's name for a model, safe for one line and short."""
    return shortened(escaped(name[:LONGEST_COMPARED]), LONGEST_NAME)
