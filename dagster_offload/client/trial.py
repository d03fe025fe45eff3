"""Does the slot really answer? A one-token completion decides.

Health alone does not: several servers are green while they load, and some proxies always are.

The caller holds a permit for it and writes the verdict to the ledger.
"""

import asyncio
import time
from dataclasses import dataclass, field, replace

import httpx

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.faults import is_busy, is_misconfigured, reason_with_setting, retry_after_of
from dagster_offload.client.freeze_watch import FreezeWatch
from dagster_offload.errors import OffloadError, SettingsError
from dagster_offload.slot.chat import ChoiceWithoutMessage
from dagster_offload.slot.completion import Answer, ModelEvidence, RequestOptions, Usage
from dagster_offload.slot.config import SlotConfig

TRIAL_PROMPT = "Answer with one word: ready"
BOUNDS = {"max_tokens", "max_completion_tokens"}


@dataclass(frozen=True)
class TrialVerdict:
    """`answered` closes the breaker; `misconfigured`: a person has to mend it, most likely, and `reason` names the setting.

    The fields from `seconds` on are what the ledger's row of this call needs; `seconds` counts from the sending.
    """

    answered: bool
    reason: str
    misconfigured: bool = False
    busy: bool = False  # a 429: the slot asks for patience
    timed_out: bool = False  # no answer within the limit: the model may still be loading
    retry_after_seconds: float | None = None
    seconds: float = 0.0
    served_model: str | None = None
    model_evidence: ModelEvidence | None = None
    usage: Usage = field(default_factory=Usage)


async def trial(client: AIClient, slot: SlotConfig, limit_seconds: float | None = None) -> TrialVerdict:
    """Ask `slot` for one token. Content and finish_reason are not looked at.

    Waits as long as for any call, unless `limit_seconds` says otherwise: a server that loads its model on first use
    (Ollama, LM Studio) stops loading when the caller leaves. A process that freezes meanwhile is noticed in a minute.
    Never raises for a fault of the slot or its settings; faults of our own propagate.
    """
    limit_seconds = slot.read_timeout if limit_seconds is None else limit_seconds
    options = RequestOptions(max_tokens=1, temperature=0.0, thinking=False, read_timeout_seconds=limit_seconds)
    started = time.monotonic()
    try:
        async with FreezeWatch(slot) as freeze_watch, asyncio.timeout(limit_seconds):
            answer = await freeze_watch.beside(client._request(_without_bounds(slot), TRIAL_PROMPT, options=options))
    except ChoiceWithoutMessage:
        return TrialVerdict(True, "answered", seconds=time.monotonic() - started)
    except TimeoutError:
        seconds = time.monotonic() - started
        return TrialVerdict(False, f"no answer within {limit_seconds:g} s", timed_out=True, seconds=seconds)
    except SettingsError as error:
        return TrialVerdict(False, str(error), misconfigured=True, seconds=time.monotonic() - started)
    except (httpx.HTTPError, httpx.InvalidURL, OffloadError) as error:
        return _refused(slot, error, time.monotonic() - started)
    seconds = time.monotonic() - started
    if not isinstance(answer, Answer):  # a plain str says nothing but that it came
        return TrialVerdict(True, "answered", seconds=seconds)
    return TrialVerdict(
        True,
        "answered",
        seconds=seconds,
        served_model=answer.served_model,
        model_evidence=answer.model_evidence,
        usage=answer.usage,
    )


def _without_bounds(slot: SlotConfig) -> SlotConfig:
    """The owner's own bounds are for documents: a trial stays short."""
    kept = {name: value for name, value in slot.extra_body.items() if name not in BOUNDS}
    return slot if kept == slot.extra_body else replace(slot, extra_body=kept)


def _refused(slot: SlotConfig, error: Exception, seconds: float) -> TrialVerdict:
    return TrialVerdict(
        False,
        reason_with_setting(slot, error),
        misconfigured=is_misconfigured(error),
        busy=is_busy(error),
        retry_after_seconds=retry_after_of(error),
        seconds=seconds,
    )
