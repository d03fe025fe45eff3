"""Decides whether to launch a drain now, from the backlog, live drains, the health probe and the circuit breaker."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagster_offload import timing
from dagster_offload.client.probe import probe
from dagster_offload.engine.session import open_client, run_stoppable
from dagster_offload.engine.slot.breaker import check_breaker, probe_slot
from dagster_offload.engine.slot.waking import wake_if_due
from dagster_offload.errors import NeedsPatience
from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.pipelines import refuse_other_pipeline
from dagster_offload.ledger.core.rows import CHECKED_AT_THE_NEXT_TICK, BreakerState, SlotRow
from dagster_offload.ledger.core.workers import Worker, live_workers
from dagster_offload.ledger.slots import availability, permits, rests, slots
from dagster_offload.ledger.work import claims
from dagster_offload.ledger.work.claims import Backlog
from dagster_offload.postgres.room import shortage_of
from dagster_offload.settings import Settings
from dagster_offload.slot.config import DEEP, SlotConfig
from dagster_offload.slot.health import ProbeResult
from dagster_offload.slot.reserve import Preferred, all_preferred, describe_reserve, preferred_to, reserve_for, stages_left
from dagster_offload.slot.rest import Rest
from dagster_offload.stages.catalog import stage_graph, stages_by_slot
from dagster_offload.stages.pipeline import pipeline_of


def describe_unavailable(slot: SlotRow) -> str:
    """One line: `deep is unavailable: upstream_cold since 14:02`."""
    if slot.breaker is BreakerState.MISCONFIGURED:
        next_step = f"correct that; to check it at once, run dagster-offload slot set {slot.name} --try-again"
        return f"{slot.name} is misconfigured: {slot.reason_text}; {next_step}"
    return f"{slot.name} is unavailable: {slot.reason_text}"


def describe_wait(slot: SlotRow) -> str:
    """`describe_unavailable`, and when the slot is checked again. Only for processes that check it, or that wait for one."""
    state = describe_unavailable(slot)
    if slot.is_retry_due:
        return f"{state}; {CHECKED_AT_THE_NEXT_TICK}"
    return f"{state} (next check {slot.retry_at.astimezone():%H:%M:%S})" if slot.retry_at else state


@dataclass(frozen=True)
class Decision:
    """Whether to launch a drain now, and why, with the numbers."""

    launch: bool
    message: str


def should_drain(
    *,
    is_configured: bool,
    backlog: int,
    waiting: int,
    live_drains: int,
    probe: ProbeResult | None,
    slot: SlotRow | None,
    needs_patience: bool = False,
    shortage: str | None = None,
    rest: Rest | None = None,
    wake: str | None = None,
    is_free: bool = True,
    reserve_for: Sequence[str] = (),
    name: str = DEEP,
) -> Decision:
    """Decide from the given facts about one slot, `name`, without I/O.

    `backlog` counts documents due, `waiting` counts deferred ones. `needs_patience`: the sensor's short trial got no answer.
    `shortage`: the disk is too full for answers. `rest`: the slot must not be used now. `wake`: what was done to wake it.
    `is_free`: whether nothing holds back the due work, such as an earlier stage that is not done. `reserve_for`: the available
    slots of a higher priority that take all its work.
    """
    if not is_configured:
        return Decision(False, "no deep slot is configured: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL")
    if live_drains:
        return Decision(False, f"{live_drains} drain is running; {Backlog(backlog, waiting)}")
    if not backlog + waiting:
        return Decision(False, "nothing is due: 0 documents due, 0 deferred")
    counts = str(Backlog(backlog, waiting))
    if rest is not None:
        return Decision(False, f"{rest}; {counts}")
    if shortage is not None:
        return Decision(False, f"{shortage}; {counts}")
    if reserve_for:
        return Decision(False, f"{describe_reserve(reserve_for)}; {counts}")
    if probe is not None and not probe.healthy:
        woken = f"; {wake}" if wake else ""
        return Decision(False, f"the {name} slot's health probe reports {probe.reason}{woken}; {counts}")
    if needs_patience:
        limit = f"{timing.current().sensor_trial:g} s"
        message = f"the {name} slot gave no answer within {limit}: a drain waits longer, up to the limit of a call"
        return Decision(True, f"{message}; {counts}")
    if slot is not None and slot.breaker is not BreakerState.CLOSED:
        return Decision(False, f"{describe_wait(slot)}; {counts}")
    if not backlog:
        return Decision(False, f"nothing is due: 0 documents due, {waiting} deferred")
    if not is_free:
        return Decision(False, f"what is due at {name} waits for an earlier stage or for a worker; {counts}")
    return Decision(True, counts)


def together(by_slot: Mapping[str, Decision]) -> Decision:
    """One decision about several slots, from a decision about each: launch a drain if any of them is worth one."""
    chosen = {slot: each for slot, each in by_slot.items() if each.launch} or by_slot
    return Decision(
        any(each.launch for each in chosen.values()),
        "; ".join(f"{slot}: {each.message}" for slot, each in chosen.items()),
    )


def decide_drain(settings: Settings, ledger: Ledger) -> Decision:
    """Read the backlog, live drains, probes and breakers, run the trials that are due, then decide. Takes seconds.

    All slots are looked at side by side. As soon as one of them is worth a drain, the others are not waited for: the drain
    looks at them itself.
    """
    return run_stoppable(_decide_drain(settings, ledger))


async def _decide_drain(settings: Settings, ledger: Ledger) -> Decision:
    configured = settings.slots.of_drains
    if not configured:
        ledger.run(slots.refuse_lost_slot, settings.slots)
        return should_drain(is_configured=False, backlog=0, waiting=0, live_drains=0, probe=None, slot=None)
    pipeline, by_slot = pipeline_of(settings), stages_by_slot(settings, stage_graph(settings).drain_stages)
    ledger.run(refuse_other_pipeline, pipeline)
    rows = [ledger.run(slots.register, slot, pipeline.recipes) for slot in configured]
    ledger.run(stages.fill, pipeline.recipes)  # one batch, if a stage was added
    live = len(ledger.run(live_workers, ledger.schema, "drain"))
    probes = _Probes()
    looks = [
        asyncio.create_task(
            _decide_at(settings, ledger, slot, row, preferred_to(slot, configured, by_slot), live, probes), name=slot.name
        )
        for slot, row in zip(configured, rows, strict=True)
    ]
    decisions: dict[str, Decision] = {}
    try:
        for next_one in asyncio.as_completed(looks):
            await next_one
            decisions = {look.get_name(): look.result() for look in looks if look.done()}
            if any(decision.launch for decision in decisions.values()):
                break
    finally:
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
    return together(decisions) if len(configured) > 1 else decisions[configured[0].name]


class _Probes:
    """The health of each slot in one tick. A slot is probed once, though others may be in reserve for it."""

    def __init__(self) -> None:
        self._probes: dict[str, asyncio.Task[ProbeResult]] = {}

    async def of(self, slot: SlotConfig) -> ProbeResult:
        """The result of the slot's probe."""
        if slot.name not in self._probes:
            self._probes[slot.name] = asyncio.create_task(probe(slot))
        return await self._probes[slot.name]

    async def available(self, ledger: Ledger, slots: Sequence[SlotConfig]) -> list[str]:
        """The names of those slots that can be used now. A slot that answers no probe while calls are open is busy."""
        closed = ledger.run(availability.available, slots)
        found = []
        for slot in slots:
            if slot.name in closed:
                health = await self.of(slot)
                is_busy = not health.answered and ledger.run(permits.count_held, slot.name) > 0
                found += [slot.name] if health.healthy or is_busy else []
        return found


async def _decide_at(
    settings: Settings,
    ledger: Ledger,
    slot: SlotConfig,
    row: SlotRow,
    preferred: Preferred,
    live: int,
    probes: _Probes,
) -> Decision:
    its_stages: Sequence[str] = list(preferred)
    backlog = ledger.run(claims.backlog, its_stages, slot.name)
    health, needs_patience, shortage, woken, is_free = None, False, shortage_of(settings), None, True
    reserved_for: list[str] = []
    may_launch = backlog.due + backlog.waiting and not live
    rest = ledger.run(rests.read_rest, slot) if may_launch else None
    if may_launch and rest is None and shortage is None:
        available = await probes.available(ledger, all_preferred(preferred))
        reserved_for, its_stages = reserve_for(preferred, available), stages_left(preferred, available)
    if rest is not None:
        ledger.run(availability.note, slot.name, is_available=False)
    elif may_launch and shortage is None and not reserved_for:
        if row.breaker is BreakerState.CLOSED:
            health = await probes.of(slot)
            ledger.run(availability.note, slot.name, is_available=health.healthy)
        else:
            health, row = await probe_slot(AsyncLedger(ledger), slot)
            if health.healthy and row.is_retry_due:
                try:
                    row = await _try_closing(settings, ledger, slot)
                except NeedsPatience:
                    needs_patience = True
        # A server that answers is on, and one with open calls may answer no health request.
        if not health.answered and not ledger.run(permits.count_held, slot.name):
            woken = await wake_if_due(ledger, slot)
        backlog = ledger.run(claims.backlog, its_stages, slot.name)
        if health.healthy and row.breaker is BreakerState.CLOSED:
            is_free = ledger.run(claims.is_any_free, its_stages, slot.name)
    return should_drain(
        is_configured=True,
        backlog=backlog.due,
        waiting=backlog.waiting,
        live_drains=live,
        probe=health,
        slot=row,
        needs_patience=needs_patience,
        shortage=shortage,
        rest=rest,
        wake=woken,
        is_free=is_free,
        reserve_for=reserved_for,
        name=slot.name,
    )


async def _try_closing(settings: Settings, ledger: Ledger, slot: SlotConfig) -> SlotRow:
    """Run a short trial in the sensor, so that a healthy slot that refuses work costs no run. Raises `NeedsPatience`."""
    with Worker(ledger, "sensor") as worker:
        async with open_client(settings.slots, AsyncLedger(ledger)) as client:
            return await check_breaker(AsyncLedger(ledger), client, slot, worker, timing.current().sensor_trial)
