"""Checks an unavailable slot by a probe and a trial. No other module closes a breaker.

`check_breaker` is called before work starts: by the sensor, by a drain, and by a run that wakes. `run_or_await_trial` is
called after a call failed.
"""

import asyncio
import logging
import time
from typing import Any

from dagster_offload import timing
from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.probe import listed_models, probe
from dagster_offload.client.trial import TrialVerdict, trial
from dagster_offload.engine.lanes.call_records import call_record
from dagster_offload.errors import NeedsPatience
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState, CallRecord, SlotRow
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import breaker, permits, slots
from dagster_offload.ledger.slots.breaker import LONGEST_BUSY_SECONDS, TrialEnd, TrialTurn
from dagster_offload.ledger.work import finish
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.health import ProbeResult

logger = logging.getLogger(__name__)


async def check_breaker(
    ledger: AsyncLedger, client: AIClient, slot: SlotConfig, worker: Worker, limit_seconds: float | None = None
) -> SlotRow:
    """Close the slot's breaker if a trial is due and the slot answers it. Returns the slot's row afterwards.

    A closed breaker is left as it is. If no permit is free for a trial, nothing is sent: other workers have calls open,
    and their results will show the slot's state. `limit_seconds` is how long a trial may take; None = as long as a call.
    Raises `NeedsPatience` if no answer came within a limit that is shorter than a call may take, and `SlotForgotten`.
    """
    row = await present(ledger, slot)
    if row.breaker is BreakerState.CLOSED:
        return row
    if not await ledger.run(permits.acquire, slot.name, worker.id, is_person=worker.is_person):
        await ledger.run(permits.stop_waiting, slot.name, worker.id)
        return row
    try:
        return await try_closing(ledger, client, slot, worker, limit_seconds)
    finally:
        await ledger.run(permits.release, slot.name, worker.id)


async def try_closing(
    ledger: AsyncLedger, client: AIClient, slot: SlotConfig, worker: Worker, limit_seconds: float | None = None
) -> SlotRow:
    """Probe the slot, and run a trial if it is healthy and one is due. The caller holds a permit.

    Does neither if the slot was registered with other settings meanwhile: they may have been corrected.
    """
    row = await present(ledger, slot)
    if row.fingerprint != slot.fingerprint:
        return row
    result, row = await probe_slot(ledger, slot)
    if result.healthy and row.is_retry_due:
        await run_or_await_trial(ledger, client, slot, worker, row.epoch, limit_seconds=limit_seconds)
    return await present(ledger, slot)


async def probe_slot(ledger: AsyncLedger, slot: SlotConfig) -> tuple[ProbeResult, SlotRow]:
    """Probe a slot whose breaker is not closed, and record the result in the ledger. This may make a trial due.

    A misconfigured slot is also queried for its models: the right one may have been pulled or loaded since.
    """
    result = await probe(slot)
    row = await ledger.run(breaker.note_probe, slot.name, is_healthy=result.healthy, reason=result.reason)
    if row.breaker is BreakerState.MISCONFIGURED and result.healthy and not row.is_retry_due:
        names = await listed_models(slot)
        if names is not None:
            await ledger.run(slots.note_models, slot.name, "\n".join(sorted(names)))
            row = await present(ledger, slot)
    return result, row


async def run_or_await_trial(
    ledger: AsyncLedger,
    client: AIClient,
    slot: SlotConfig,
    worker: Worker,
    epoch: int,
    *,
    busy_waits: int = 0,
    limit_seconds: float | None = None,
) -> bool:
    """Run a trial, or wait for the one that another worker runs. Returns whether the slot answered in `epoch` or later.

    The caller holds a permit. A trial that gets a 429 is sent again after a pause, up to `busy_waits` times: the 429 may
    be a consequence of the error before it, because a proxy may pause a model after an error.
    """
    while True:
        turn = await ledger.run(breaker.begin_trial, slot.name, worker.id, epoch, slot.fingerprint)
        if turn is TrialTurn.YOURS:
            return await _run_trial(ledger, client, slot, worker, epoch, busy_waits, limit_seconds)
        if turn is not TrialTurn.WAIT:
            return turn is TrialTurn.ANSWERED
        await asyncio.sleep(timing.current().trial_recheck)


async def _run_trial(
    ledger: AsyncLedger,
    client: AIClient,
    slot: SlotConfig,
    worker: Worker,
    epoch: int,
    busy_waits: int,
    limit_seconds: float | None,
) -> bool:
    started = time.monotonic()
    limit = slot.read_timeout if limit_seconds is None else min(limit_seconds, slot.read_timeout)
    try:
        has_answered = await ledger.run(slots.has_answered, slot)
        found = await trial(client, slot, limit, has_answered=has_answered)
        while (pause := busy_pause(found, busy_waits)) is not None:
            busy_waits -= 1
            await ledger.run(finish.record_call, worker.id, None, None, _call(slot, epoch, found))
            await asyncio.sleep(pause)
            started = time.monotonic()
            found = await trial(client, slot, limit, has_answered=has_answered)
    except BaseException:  # this worker is stopped, which says nothing about the slot
        stopped = CallRecord(slot.name, slot.shown_url, epoch, slot.model, time.monotonic() - started, "stopped")
        await ledger.run(_abandon, slot.name, worker.id, stopped)
        raise
    if found.timed_out and limit < slot.read_timeout:
        await ledger.run(_abandon, slot.name, worker.id, _call(slot, epoch, found))
        raise NeedsPatience(found.reason)
    end = TrialEnd(found.answered, found.reason, found.misconfigured, found.retry_after_seconds, found.busy)
    await ledger.run(_end, slot.name, worker.id, epoch, end, _call(slot, epoch, found))
    logger.info("slot %s: trial %s", slot.name, "answered" if found.answered else f"refused: {found.reason}")
    return found.answered


def busy_pause(found: TrialVerdict, waits_left: int) -> float | None:
    """Seconds to wait before a trial that got a 429 is sent again; None if it is not sent again."""
    if not found.busy or waits_left <= 0:
        return None
    wait = timing.current().busy_pause if found.retry_after_seconds is None else found.retry_after_seconds
    return wait if wait <= LONGEST_BUSY_SECONDS else None


def _call(slot: SlotConfig, epoch: int, found: TrialVerdict) -> CallRecord:
    outcome = "ok" if found.answered else found.reason
    return call_record(slot, epoch, found.seconds, answer=found.answer, outcome=outcome)


def _abandon(cur: Cursor, slot: str, worker_id: int, call: CallRecord) -> None:
    finish.record_call(cur, worker_id, None, None, call)
    breaker.abandon_trial(cur, slot, worker_id)


def _end(cur: Cursor, slot: str, worker_id: int, epoch: int, end: TrialEnd, call: CallRecord) -> Any:
    finish.record_call(cur, worker_id, None, None, call)
    return breaker.end_trial(cur, slot, worker_id, epoch, end, call.url)


async def present(ledger: AsyncLedger, slot: SlotConfig) -> SlotRow:
    """The slot's row. Raises `SlotForgotten`: work in progress does not add a slot again that a person removed."""
    row = await ledger.run(slots.get, slot.name)
    if row is None:
        raise slots.forgotten(slot.name)
    return row
