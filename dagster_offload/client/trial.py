"""The trial: a one-token completion that shows whether the slot really answers.

A healthy probe is not enough: several servers report healthy while they load, and some proxies always do.

The caller holds a permit and writes the verdict to the ledger.
"""

import asyncio
import time
from dataclasses import dataclass

import httpx

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.faults import (
    fault_reason,
    is_busy,
    is_misconfigured,
    may_be_the_model,
    reason_with_setting,
    retry_after_of,
)
from dagster_offload.client.freeze_watch import FreezeWatch
from dagster_offload.client.probe import lacks_a_key, listed_models
from dagster_offload.client.short_answer import short_answer
from dagster_offload.errors import OffloadError
from dagster_offload.slot.chat import ChoiceWithoutMessage
from dagster_offload.slot.completion import Answer
from dagster_offload.slot.config import SlotConfig

TRIAL_PROMPT = "Answer with one word: ready"


@dataclass(frozen=True)
class TrialVerdict:
    """`answered` closes the breaker. `misconfigured`: a person most likely has to change a setting, named in `reason`.

    `seconds` counts from the start of the request. `answer` is None if there was none with a message.
    """

    answered: bool
    reason: str
    misconfigured: bool = False
    busy: bool = False  # HTTP 429: the slot is busy
    timed_out: bool = False  # no answer within the limit: the model may still be loading
    retry_after_seconds: float | None = None
    seconds: float = 0.0
    answer: Answer | None = None


async def trial(
    client: AIClient, slot: SlotConfig, limit_seconds: float | None = None, *, has_answered: bool = False
) -> TrialVerdict:
    """Request one token from `slot`, or the fewest that its server accepts. Its content is ignored, and so is its
    finish_reason, unless that says that the generation failed.

    `has_answered`: the slot has answered at its URL before, so the reason does not name that as a setting to check.

    Waits as long as for any call, unless `limit_seconds` is set: a server that loads its model on first use (Ollama, LM
    Studio) stops loading when the client disconnects. A process that freezes meanwhile is detected within a minute.
    Raises for no fault of the slot or its settings; other errors propagate.
    """
    limit_seconds = slot.read_timeout if limit_seconds is None else limit_seconds
    started = time.monotonic()
    try:
        async with FreezeWatch(slot) as freeze_watch, asyncio.timeout(limit_seconds):
            answer = await freeze_watch.beside(short_answer(client, slot, TRIAL_PROMPT, read_seconds=limit_seconds))
    except ChoiceWithoutMessage:
        return TrialVerdict(True, "answered", seconds=time.monotonic() - started)
    except TimeoutError:
        seconds = time.monotonic() - started
        return TrialVerdict(False, f"no answer within {limit_seconds:g} s", timed_out=True, seconds=seconds)
    except (httpx.HTTPError, httpx.InvalidURL, OffloadError) as error:
        return await _refused(slot, error, time.monotonic() - started, has_answered=has_answered)
    seconds = time.monotonic() - started
    return TrialVerdict(True, "answered", seconds=seconds, answer=answer if isinstance(answer, Answer) else None)


async def _refused(slot: SlotConfig, error: Exception, seconds: float, *, has_answered: bool) -> TrialVerdict:
    if await lacks_a_key(slot, error):
        reason = f"{fault_reason(error)} (check {slot.setting('api_key')}: LiteLLM answers like this if no key is sent)"
        return TrialVerdict(False, reason, misconfigured=True, seconds=seconds)
    listed = await listed_models(slot) if may_be_the_model(error) else None
    return TrialVerdict(
        False,
        reason_with_setting(slot, error, listed=listed, has_answered=has_answered),
        misconfigured=is_misconfigured(error),
        busy=is_busy(error),
        retry_after_seconds=retry_after_of(error),
        seconds=seconds,
    )
