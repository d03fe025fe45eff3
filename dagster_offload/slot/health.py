"""What a health answer means, whoever asked for it: `probe.py` in the engine, `quick_probe.py` in a command."""

from dataclasses import dataclass

from dagster_offload.lenient_json import read_json
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.refusals import is_misconfigured_status, router_word_in, setting_behind_status

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


def judged(slot: SlotConfig, path: str, status_code: int, body: bytes) -> ProbeResult:
    """What the answer to the health request says."""
    if 200 <= status_code < 300:
        return ProbeResult(True, f"{path} says HTTP {status_code}", answered=True)
    word = router_word_in(body.decode(errors="replace"))
    reason = word or f"{path} says HTTP {status_code}"
    if word is None or is_misconfigured_status(status_code):
        reason += f" (check {setting_behind_status(slot, status_code)})"
    return ProbeResult(False, reason, answered=True)


def judged_by_models(slot: SlotConfig, path: str, status_code: int, body: bytes) -> ProbeResult:
    """What `/v1/models` says where `path` is not there: it must list the slot's model."""
    if not 200 <= status_code < 300:
        return judged(slot, MODELS_PATH, status_code, body)
    try:
        names = {model["id"] for model in read_json(body)["data"]}
    except (ValueError, KeyError, TypeError):
        return ProbeResult(False, f"no {path}, and {MODELS_PATH} is no list of models", answered=True)
    if slot.model in names:
        return ProbeResult(True, f"no {path}; {MODELS_PATH} lists {slot.model}", answered=True)
    hint = f"(check {slot.setting('model')})"
    return ProbeResult(False, f"no {path}, and {MODELS_PATH} does not list {slot.model} {hint}", answered=True)
