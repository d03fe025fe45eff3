"""What a health answer means, whoever asked for it: `probe.py` in the engine, `quick_probe.py` in a command."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.refusals import is_misconfigured_status, router_reason_in, setting_behind_status
from dagster_offload.text.lenient_json import read_json

CONNECT_SECONDS = 3.0
MODELS_PATH = "/v1/models"  # asked where there is no health path


@dataclass(frozen=True)
class ProbeResult:
    """What the probe saw. `answered`: some HTTP answer came, a red one included (the process is not frozen)."""

    healthy: bool
    reason: str
    answered: bool = False


def health_path(slot: SlotConfig) -> str:
    return "/" + slot.health_path.lstrip("/")


def result_from_health(slot: SlotConfig, path: str, status_code: int, body: bytes) -> ProbeResult:
    """What the answer to the health request says."""
    if 200 <= status_code < 300:
        return ProbeResult(True, f"{path} says HTTP {status_code}", answered=True)
    word = router_reason_in(body.decode(errors="replace"))
    reason = word or f"{path} says HTTP {status_code}"
    if word is None or is_misconfigured_status(status_code):
        reason += f" (check {setting_behind_status(slot, status_code)})"
    return ProbeResult(False, reason, answered=True)


def result_from_models(slot: SlotConfig, path: str, status_code: int, body: bytes) -> ProbeResult:
    """What `/v1/models` says where `path` is not there. Both answered, so the process is up; a trial decides the rest.

    A name that is not listed may be answered all the same: Ollama takes `qwen3` for `qwen3:latest`.
    """
    if status_code == 404:
        return ProbeResult(True, f"no {path} and no {MODELS_PATH}: only a completion can tell", answered=True)
    if not 200 <= status_code < 300:
        return result_from_health(slot, MODELS_PATH, status_code, body)
    names = models_in(body)
    if names is None:
        return ProbeResult(True, f"no {path}, and {MODELS_PATH} is no list of models", answered=True)
    if slot.model in names:
        return ProbeResult(True, f"no {path}; {MODELS_PATH} lists {slot.model}", answered=True)
    nearest = nearest_name(slot.model, names)
    hint = f"the nearest name is {nearest}; check {slot.setting('model')}" if nearest else "it lists none"
    return ProbeResult(True, f"no {path}; {MODELS_PATH} does not list {slot.model} ({hint})", answered=True)


def busy_with_a_call(path: str) -> ProbeResult:
    """`path` was answered with 404 and the list of models not in time: the server is at work on a call."""
    return ProbeResult(True, f"no {path}, and {MODELS_PATH} waits: the server is busy", answered=True)


def models_in(body: bytes) -> list[str] | None:
    """The names in the body of `/v1/models`; None where it is no such list."""
    try:
        return [str(model["id"]) for model in read_json(body)["data"]]
    except (ValueError, KeyError, TypeError):
        return None


def nearest_name(wanted: str, names: Sequence[str]) -> str | None:
    """The listed name most like `wanted`: one that begins or ends with it, else the one spelt most alike."""
    for name in names:
        if name.startswith(wanted) or name.removesuffix(".gguf").endswith(wanted):
            return name
    return max(names, key=lambda name: SequenceMatcher(None, wanted, name).ratio(), default=None)
