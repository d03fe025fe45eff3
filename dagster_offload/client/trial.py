"""Does the slot really answer? A one-token completion decides.

Health alone does not: several servers are green while they load, and some proxies always are.

The caller holds a permit for it and writes the verdict to the ledger.
"""

import asyncio
import time
from dataclasses import dataclass, field, replace

import httpx

from dagster_offload import timing
from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.faults import is_misconfigured, reason_with_setting, retry_after_of
from dagster_offload.errors import OffloadError, SettingsError
from dagster_offload.slot.chat import ChoiceWithoutMessage
from dagster_offload.slot.completion import Answer, ModelEvidence, RequestOptions, Usage
from dagster_offload.slot.config import SlotConfig

TRIAL_PROMPT = "Answer with one word: ready"
BOUNDS = {"max_tokens", "max_completion_tokens"}


@dataclass(frozen=True)
class TrialVerdict:
    """`answered` closes the breaker; `misconfigured` waits for the settings to change, and `reason` names which.

    The fields from `seconds` on are what the ledger's row of this call needs; `seconds` counts from the sending.
    """

    answered: bool
    reason: str
    misconfigured: bool = False
    retry_after_seconds: float | None = None
    seconds: float = 0.0
    served_model: str | None = None
    model_evidence: ModelEvidence | None = None
    usage: Usage = field(default_factory=Usage)


async def trial(client: AIClient, slot: SlotConfig) -> TrialVerdict:
    """Ask `slot` for one token, within `Timing.trial_limit`. Content and finish_reason are not looked at.

    Never raises for a fault of the slot or its settings; faults of our own propagate.
    """
    limit_seconds = timing.current().trial_limit
    options = RequestOptions(max_tokens=1, temperature=0.0, thinking=False, read_timeout_seconds=limit_seconds)
    started = time.monotonic()
    try:
        async with asyncio.timeout(limit_seconds):
            answer = await client._request(_without_bounds(slot), TRIAL_PROMPT, options=options)
    except ChoiceWithoutMessage:
        return TrialVerdict(True, "answered", seconds=time.monotonic() - started)
    except TimeoutError:
        return TrialVerdict(False, f"no answer within {limit_seconds:g} s", seconds=time.monotonic() - started)
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
        retry_after_seconds=retry_after_of(error),
        seconds=seconds,
    )
