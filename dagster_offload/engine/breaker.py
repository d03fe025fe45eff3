"""The gate in front of a slot: probe, one trial, verdict. The only place that closes a breaker.

`let_through` is asked before work starts (by the sensor, a drain, a run that wakes); `verdict` by a call that failed.
"""

import asyncio
import logging
import time
from typing import Any, ParamSpec, TypeVar

from dagster_offload import timing
from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.probe import probe
from dagster_offload.client.trial import trial
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState, CallRecord, SlotRow
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import breaker, permits, slots
from dagster_offload.ledger.slots.breaker import TrialEnd, TrialTurn
from dagster_offload.ledger.work import finish
from dagster_offload.slot.config import SlotConfig

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


async def let_through(ledger: AsyncLedger, client: AIClient, slot: SlotConfig, worker: Worker) -> SlotRow:
    """The slot's row after what may be done now to close its breaker. A closed breaker is left alone.

    Where no permit is free for a trial, others have calls open, whose ends will tell.
    """
    row = await registered(ledger, slot)
    if row.breaker is not BreakerState.OPEN:
        return row
    if not await ledger.run(permits.acquire, slot.name, worker.id, is_person=worker.is_person):
        await ledger.run(permits.stop_waiting, slot.name, worker.id)
        return row
    try:
        return await try_closing(ledger, client, slot, worker)
    finally:
        await ledger.run(permits.release, slot.name, worker.id)


async def try_closing(ledger: AsyncLedger, client: AIClient, slot: SlotConfig, worker: Worker) -> SlotRow:
    """A probe beside an open breaker, and a trial where it is green and one is due. The caller holds a permit."""
    seen = await probe(slot)
    row = await ledger.run(breaker.note_probe, slot.name, is_healthy=seen.healthy, reason=seen.reason)
    if seen.healthy and row.is_retry_due:
        await verdict(ledger, client, slot, worker, row.epoch)
    return await registered(ledger, slot)


async def verdict(ledger: AsyncLedger, client: AIClient, slot: SlotConfig, worker: Worker, epoch: int) -> bool:
    """Whether the slot answered since `epoch` was opened: by a trial of ours, or by the one somebody else runs.

    The caller holds a permit.
    """
    while True:
        turn = await ledger.run(breaker.begin_trial, slot.name, worker.id, epoch)
        if turn is TrialTurn.YOURS:
            return await _try(ledger, client, slot, worker, epoch)
        if turn is not TrialTurn.WAIT:
            return turn is TrialTurn.ANSWERED
        await asyncio.sleep(timing.current().trial_look)


async def _try(ledger: AsyncLedger, client: AIClient, slot: SlotConfig, worker: Worker, epoch: int) -> bool:
    started = time.monotonic()
    try:
        found = await trial(client, slot)
    except BaseException:  # we were stopped: that says nothing about the slot
        stopped = CallRecord(slot.name, epoch, slot.model, time.monotonic() - started, "stopped")
        await ledger.run(_abandon, slot.name, worker.id, stopped)
        raise
    call = CallRecord(
        slot=slot.name,
        epoch=epoch,
        asked_model=slot.model,
        seconds=found.seconds or time.monotonic() - started,
        outcome="ok" if found.answered else found.reason,
        served_model=found.served_model,
        model_evidence=found.model_evidence,
        tokens_in=found.usage.prompt_tokens,
        tokens_out=found.usage.completion_tokens,
        tokens_cached=found.usage.cached_tokens,
    )
    end = TrialEnd(found.answered, found.reason, found.misconfigured, found.retry_after_seconds)
    await ledger.run(_end, slot.name, worker.id, epoch, end, call)
    logger.info("slot %s: trial %s", slot.name, "answered" if found.answered else f"refused: {found.reason}")
    return found.answered


def _abandon(cur: Cursor, slot: str, worker_id: int, call: CallRecord) -> None:
    finish.record_call(cur, worker_id, None, None, call)
    breaker.abandon_trial(cur, slot, worker_id)


def _end(cur: Cursor, slot: str, worker_id: int, epoch: int, end: TrialEnd, call: CallRecord) -> Any:
    finish.record_call(cur, worker_id, None, None, call)
    return breaker.end_trial(cur, slot, worker_id, epoch, end)


async def registered(ledger: AsyncLedger, slot: SlotConfig) -> SlotRow:
    row = await ledger.run(slots.get, slot.name)
    return row if row is not None else await ledger.run(slots.register, slot)
