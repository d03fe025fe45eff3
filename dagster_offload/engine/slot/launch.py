"""Decides whether to launch a drain now, from the backlog, live drains, the health probe and the circuit breaker."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from dagster_offload import timing
from dagster_offload.client.probe import probe
from dagster_offload.engine.session import open_client, run_stoppable
from dagster_offload.engine.slot.breaker import check_breaker, probe_slot
from dagster_offload.engine.slot.free_work import FreeWork
from dagster_offload.engine.slot.state import describe_wait
from dagster_offload.engine.slot.waking import wake_if_due
from dagster_offload.errors import NeedsPatience
from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.pipelines import refuse_other_pipeline
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.core.workers import Worker, live_workers
from dagster_offload.ledger.slots import availability, holds, permits, rests, slots
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.ledger.work import claims
from dagster_offload.ledger.work.claims import Backlog
from dagster_offload.postgres.room import shortage_of
from dagster_offload.settings import Settings
from dagster_offload.slot.config import DEEP, NO_DEEP_SLOT, SlotConfig
from dagster_offload.slot.health import ProbeResult
from dagster_offload.slot.reserve import (
    Preferred,
    all_preferred,
    describe_reserve,
    preferred_to,
    reserve_for,
    stages_left,
    without_held,
)
from dagster_offload.slot.rest import Rest, RestKind
from dagster_offload.stages.catalog import stage_graph, stages_by_slot
from dagster_offload.stages.pipeline import pipeline_of
from dagster_offload.text.counts import agreeing, counted
from dagster_offload.text.lists import listed


@dataclass(frozen=True)
class Decision:
    """Whether to launch a drain now, and why, with the numbers."""

    launch: bool
    message: str


@dataclass(frozen=True)
class Facts:
    """What the decision about one slot depends on. The defaults are those of a slot that nothing keeps from working."""

    backlog: int  # documents due
    waiting: int  # deferred documents
    live_drains: int
    probe: ProbeResult | None  # None: not probed
    slot: SlotRow | None  # None: not registered
    name: str = DEEP
    is_configured: bool = True
    needs_patience: bool = False  # the sensor's short trial got no answer
    shortage: str | None = None  # why the disk is too full for answers
    rest: Rest | None = None  # why the slot must not be used now
    wake: str | None = None  # what was done to wake its machine
    is_free: bool = True  # nothing holds back the due work, such as an earlier stage that is not done
    in_reserve_for: Sequence[str] = ()  # the available slots of a higher priority that take all its work
    held: Sequence[Hold] = ()  # the stages that it holds and that documents wait for; the counts are without them


def should_drain(facts: Facts) -> Decision:
    """Decide about one slot, without I/O."""
    backlog, waiting, name, live = facts.backlog, facts.waiting, facts.name, facts.live_drains
    counts = str(Backlog(backlog, waiting))
    if not facts.is_configured:
        return Decision(False, NO_DEEP_SLOT)
    if live:
        return Decision(False, f"{counted(live, 'drain')} {agreeing('are', live)} running; {counts}")
    if not backlog + waiting:
        nothing = "nothing is due: 0 documents due, 0 deferred"
        return Decision(False, "; ".join(map(str, facts.held)) or nothing)
    if facts.rest is not None:
        return Decision(False, f"{facts.rest}; {counts}")
    if facts.shortage is not None:
        return Decision(False, f"{facts.shortage}; {counts}")
    if facts.in_reserve_for:
        return Decision(False, f"{describe_reserve(facts.in_reserve_for)}; {counts}")
    if facts.probe is not None and not facts.probe.healthy:
        woken = f"; {facts.wake}" if facts.wake else ""
        return Decision(False, f"the {name} slot's health probe reports {facts.probe.reason}{woken}; {counts}")
    if facts.needs_patience:
        limit = f"{timing.current().sensor_trial:g} s"
        message = f"the {name} slot gave no answer within {limit}: a drain waits longer, up to the limit of a call"
        return Decision(True, f"{message}; {counts}")
    if facts.slot is not None and facts.slot.breaker is not BreakerState.CLOSED:
        return Decision(False, f"{describe_wait(facts.slot)}; {counts}")
    if not backlog:
        return Decision(False, f"nothing is due: 0 documents due, {waiting} deferred")
    if not facts.is_free:
        return Decision(False, f"what is due at {name} waits for an earlier stage or for a worker; {counts}")
    return Decision(True, counts)


def together(by_slot: Mapping[str, Decision]) -> Decision:
    """One decision about several slots, from a decision about each: launch a drain if any of them is worth one."""
    chosen = {slot: each for slot, each in by_slot.items() if each.launch} or by_slot
    return Decision(
        any(each.launch for each in chosen.values()),
        "; ".join(f"{slot}: {each.message}" for slot, each in chosen.items()),
    )


def decide_drain(settings: Settings, ledger: Ledger, free_work: FreeWork | None = None) -> Decision:
    """Read the backlog, live drains, probes and breakers, run the trials that are due, then decide. Takes seconds.

    All slots are looked at side by side. As soon as one of them is worth a drain, the others are not waited for: the drain
    looks at them itself. `free_work`: that of earlier ticks, if there were any.
    """
    # The workers of trials deregister after the event loop has ended: that waits for Postgres, and would hold up the loop.
    with ExitStack() as sign_offs:
        return run_stoppable(_decide_drain(settings, AsyncLedger(ledger), free_work or FreeWork(), sign_offs))


async def _decide_drain(settings: Settings, ledger: AsyncLedger, free_work: FreeWork, sign_offs: ExitStack) -> Decision:
    configured = settings.slots.of_drains
    if not configured:
        await ledger.run(slots.refuse_lost_slot, settings.slots)
        nothing = Facts(backlog=0, waiting=0, live_drains=0, probe=None, slot=None, is_configured=False)
        return should_drain(nothing)
    pipeline, by_slot = pipeline_of(settings), stages_by_slot(settings, stage_graph(settings).drain_stages)
    await ledger.run(refuse_other_pipeline, pipeline)
    rows = [await ledger.run(slots.register, slot, pipeline.recipes) for slot in configured]
    await ledger.run(stages.fill, pipeline.recipes)  # one batch, if a stage was added
    live = len(await ledger.run(live_workers, ledger.ledger.schema, "drain"))
    held = await ledger.run(holds.list_holds)
    tick = _Tick(settings, ledger, live, held, free_work, sign_offs)
    looks = [
        asyncio.create_task(tick.decide(slot, row, preferred_to(slot, configured, by_slot)), name=slot.name)
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


class _Tick:
    """One look at all slots. Each is probed at most once, though others may be in reserve for it."""

    def __init__(
        self,
        settings: Settings,
        ledger: AsyncLedger,
        live_drains: int,
        held: Sequence[Hold],
        free_work: FreeWork,
        sign_offs: ExitStack,
    ) -> None:
        """`sign_offs` gets what deregisters the workers of trials. Needs a running event loop."""
        self._settings, self._ledger = settings, ledger
        self._live_drains, self._free_work, self._sign_offs = live_drains, free_work, sign_offs
        self._shortage, self._holds = shortage_of(settings), held
        self._probes: dict[str, asyncio.Task[ProbeResult]] = {}
        # Whether a machine was woken a short time ago, so that those of a lower priority can sleep on.
        loop = asyncio.get_running_loop()
        self._is_awaited = {slot.name: loop.create_future() for slot in settings.slots.of_drains}

    async def decide(self, slot: SlotConfig, row: SlotRow, preferred: Preferred) -> Decision:
        """Look at one slot and decide. `row`: its row in the ledger. `preferred`: the slots that take its stages first."""
        try:
            return should_drain(await self._read_facts(slot, row, preferred))
        finally:
            if not self._is_awaited[slot.name].done():
                self._is_awaited[slot.name].set_result(False)

    async def _read_facts(self, slot: SlotConfig, row: SlotRow, preferred: Preferred) -> Facts:
        run = self._ledger.run
        held = [hold for hold in self._holds if hold.slot == slot.name and hold.stage in preferred and hold.left]
        preferred = without_held(slot.name, preferred, holds.by_slot(self._holds))
        its_stages = list(preferred)
        backlog = await run(claims.backlog, its_stages, slot.name)
        health, needs_patience, woken, is_free = None, False, None, True
        in_reserve_for: list[str] = []
        may_launch = bool(backlog.due + backlog.waiting) and not self._live_drains
        rest = await run(rests.read_rest, slot) if may_launch else None
        if rest is not None:
            reason = None if rest.kind is RestKind.PAUSED else rest.state
            await run(availability.note, slot.name, is_available=False, reason=reason)
        elif may_launch and self._shortage is None:
            available = await self._available(preferred)
            in_reserve_for, its_stages = reserve_for(preferred, available), stages_left(preferred, available)
            if its_stages:
                health, row, needs_patience = await self._check(slot, row)
                # A server that answers is on, and one with open calls may answer no health request.
                is_silent = not health.answered and not await run(permits.count_held, slot.name)
                if is_silent or health.is_unreached:
                    woken = await self._wake(slot, {stage: preferred[stage] for stage in its_stages})
                backlog = await run(claims.backlog, its_stages, slot.name)
                if health.healthy and row.breaker is BreakerState.CLOSED and backlog.due:
                    is_free = await self._is_any_free(its_stages, slot.name)
        return Facts(
            backlog=backlog.due,
            waiting=backlog.waiting,
            live_drains=self._live_drains,
            probe=health,
            slot=row,
            needs_patience=needs_patience,
            shortage=self._shortage,
            rest=rest,
            wake=woken,
            is_free=is_free,
            in_reserve_for=in_reserve_for,
            held=held,
            name=slot.name,
        )

    async def _wake(self, slot: SlotConfig, preferred: Preferred) -> str | None:
        """Wake a slot's machine if a wake is due, or leave it to better slots. Returns what was done, in words."""
        if slot.wake is None:
            return None
        run = self._ledger.run
        better = [each.name for each in all_preferred(preferred) if await self._is_awaited[each.name]]
        backlog = await run(claims.backlog, stages_left(preferred, better), slot.name)
        if not backlog.due + backlog.waiting:
            return f"it is woken only if {listed(better)} {agreeing('do', len(better))} not answer"
        woken = await wake_if_due(self._ledger, slot)
        if (absence := await run(availability.absence, slot.name)) is not None:
            self._is_awaited[slot.name].set_result(await run(rests.is_awaited, slot, absence.since))
        return woken

    async def _check(self, slot: SlotConfig, row: SlotRow) -> tuple[ProbeResult, SlotRow, bool]:
        """Probe a slot, and run a trial if one is due: the probe, the slot's row afterwards, and whether the trial was too
        short."""
        if row.breaker is BreakerState.CLOSED:
            health = await self._probe(slot)
            reason = None if health.healthy else f"unavailable, {health.reason}"
            await self._ledger.run(availability.note, slot.name, is_available=health.healthy, reason=reason)
            return health, row, False
        health, row = await probe_slot(self._ledger, slot)
        if health.healthy and row.is_retry_due:
            try:
                row = await self._try_closing(slot)
            except NeedsPatience:
                return health, row, True
        return health, row, False

    async def _probe(self, slot: SlotConfig) -> ProbeResult:
        if slot.name not in self._probes:
            self._probes[slot.name] = asyncio.create_task(probe(slot))
        return await self._probes[slot.name]

    async def _available(self, preferred: Preferred) -> list[str]:
        """The names of the preferred slots that a drain would use now. One that answers no probe while calls are open is busy.

        A drain does not probe: it finds out by a call that such a slot is away. If it has no free work for a call there, it
        keeps the reserve back, so the slot counts as available here, too.
        """
        run, found = self._ledger.run, []
        for slot in all_preferred(preferred):
            if await run(availability.available, [slot]):
                health = await self._probe(slot)
                is_busy = not health.answered and await run(permits.count_held, slot.name) > 0
                shared = [stage for stage, slots in preferred.items() if slot in slots]
                if health.healthy or is_busy or not await self._is_any_free(shared, slot.name):
                    found.append(slot.name)
        return found

    async def _try_closing(self, slot: SlotConfig) -> SlotRow:
        """Run a short trial in the sensor, so that a healthy slot that refuses work costs no run. Raises `NeedsPatience`."""
        ledger = self._ledger
        worker = await asyncio.to_thread(self._sign_offs.enter_context, Worker(ledger.ledger, "sensor"))
        async with open_client(self._settings.slots, ledger) as client:
            return await check_breaker(ledger, client, slot, worker, timing.current().sensor_trial)

    async def _is_any_free(self, its_stages: Sequence[str], slot: str) -> bool:
        return await asyncio.to_thread(self._free_work.is_any, self._ledger.ledger, its_stages, slot)
