"""What a health answer means. Used by `client/probe.py`, and by `cli/quick_probe.py` without an HTTP client."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.refusals import is_misconfigured_status, router_reason_in, setting_behind_status
from dagster_offload.text.lenient_json import read_json

CONNECT_SECONDS = 3.0
MODELS_PATH = "/v1/models"  # requested if there is no health path


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe. `answered`: there was any HTTP answer, even an unhealthy one (the process is not frozen)."""

    healthy: bool
    reason: str
    answered: bool = False


def health_path(slot: SlotConfig) -> str:
    """The slot's health path, with one leading slash."""
    return "/" + slot.health_path.lstrip("/")


def result_from_health(slot: SlotConfig, path: str, status_code: int, body: bytes) -> ProbeResult:
    """The result of an answer to the health request."""
    if 200 <= status_code < 300:
        return ProbeResult(True, f"{path} returned HTTP {status_code}", answered=True)
    reason_code = router_reason_in(body.decode(errors="replace"))
    reason = reason_code or f"{path} returned HTTP {status_code}"
    if reason_code is None or is_misconfigured_status(status_code):
        reason += f" (check {setting_behind_status(slot, status_code)})"
    return ProbeResult(False, reason, answered=True)


def result_from_models(slot: SlotConfig, path: str, status_code: int, body: bytes) -> ProbeResult:
    """The result of `/v1/models` if `path` does not exist. Both were answered, so the process runs; a trial decides more.

    A model that is not listed may still answer: Ollama accepts `qwen3` for `qwen3:latest`.
    """
    if status_code == 404:
        return ProbeResult(True, f"no {path} and no {MODELS_PATH}: only a completion can show more", answered=True)
    if not 200 <= status_code < 300:
        return result_from_health(slot, MODELS_PATH, status_code, body)
    names = models_in(body)
    if names is None:
        return ProbeResult(True, f"no {path}, and {MODELS_PATH} is not a list of models", answered=True)
    if slot.model in names:
        return ProbeResult(True, f"no {path}; {MODELS_PATH} lists {slot.model}", answered=True)
    nearest = nearest_name(slot.model, names)
    hint = f"the nearest name is {nearest}; check {slot.setting('model')}" if nearest else "it lists none"
    return ProbeResult(True, f"no {path}; {MODELS_PATH} does not list {slot.model} ({hint})", answered=True)


def busy_with_a_call(path: str) -> ProbeResult:
    """The result if `path` returned 404 and the list of models timed out: the server is busy with a call."""
    return ProbeResult(True, f"no {path}, and {MODELS_PATH} does not answer: the server is busy", answered=True)


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
    return max(names, key=lambda name: SequenceMatcher(None, wanted, name).ratio(), default=None)
