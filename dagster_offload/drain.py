"""The drain: a bounded run that works through the backlog on the deep slot, and on further slots, and reports what is left."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dagster_offload.engine.agreement import agree_with_up
from dagster_offload.engine.lanes.several_slots import SeveralSlots
from dagster_offload.engine.lanes.totals import Totals
from dagster_offload.engine.progress import Progress
from dagster_offload.engine.session import document_runner, ledger_executor, open_client, run_stoppable
from dagster_offload.errors import DrainRefused, NoRoom
from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.reports import usage
from dagster_offload.ledger.reports.estimate import estimate
from dagster_offload.ledger.slots import holds, slots
from dagster_offload.ledger.work import left
from dagster_offload.postgres.room import refuse_without_room, shortage_of
from dagster_offload.settings import Settings, load_settings
from dagster_offload.slot.config import NO_DEEP_SLOT, SlotConfig
from dagster_offload.stages.catalog import recipes, splitting, stage_graph, stages_by_slot
from dagster_offload.stages.pipeline import pipeline_of

ALL = "all"
SUPERSEDED = "the running `up` took over an edited pipeline: the next drain works with it"


@dataclass(frozen=True)
class DrainSummary:
    """What a drain did and left, in documents; what its calls cost, in tokens; how fast the slot is.

    `left` counts documents that are neither done nor deferred: due ones that the slot or the limit kept it from doing, and
    the `in_back_off`, which only wait for their next attempt. `reason` says why, if the slot, a stage that it holds or a
    change of the pipeline is the cause; `next_check_at` (ISO 8601) is when a running `up` checks the slot again.
    `is_misconfigured`: what is left waits for a person, who must change a setting of the slot, or a stage.
    `answered_in_part`: how many have an answer of this drain for a stage and are not done: another stage is left or failed.
    `waits_for`: how many documents wait for another stage before they can start, by that stage.
    `concurrency` is that at the end. `warning` is a line about a server that reads documents twice. The slot's pace
    is that of its last hours of use; None if it is not known.
    """

    done: int
    failed: int
    deferred: int
    left: int
    held_elsewhere: int
    in_back_off: int = 0
    answered_in_part: int = 0
    waits_for: Mapping[str, int] = field(default_factory=dict)
    reason: str | None = None
    next_check_at: str | None = None
    is_slot_unavailable: bool = False
    is_misconfigured: bool = False
    tokens_read: int = 0  # prompt tokens that were not in the server's cache
    tokens_cached: int | None = None  # prompt tokens that were; None if the server does not report them
    tokens_written: int = 0
    concurrency: int | None = None
    warning: str | None = None
    tokens_per_second: float | None = None
    documents_per_hour: float | None = None
    slot_hours_left: float | None = None


def drain(stage: str = ALL, limit: int | None = None) -> DrainSummary:
    """Work through the backlog of `stage` on the deep slot, at most `limit` documents.

    Raises `DrainRefused` if no deep slot is configured or `stage` is not a drain stage, before it uses Postgres or the
    library.
    """
    settings = load_settings()
    check_drain(settings, stage)
    with open_ledger(settings) as ledger:
        return run_drain(settings, ledger, stage, limit)


def check_drain(settings: Settings, stage: str) -> tuple[tuple[SlotConfig, ...], tuple[str, ...]]:
    """The slots and the stages of a drain, `deep` first. No I/O. Raises `DrainRefused`, and `SettingsError` if the key of a slot
    is not known here."""
    names = stage_graph(settings).drain_stages
    if stage != ALL and stage not in names:
        raise DrainRefused(f"{stage!r} is not a drain stage: use one of {', '.join(names)} or {ALL}")
    slots = settings.slots.of_drains
    if not slots:
        raise DrainRefused(NO_DEEP_SLOT)
    for slot in slots:
        slot.require_key()
    return slots, names if stage == ALL else (stage,)


def run_drain(
    settings: Settings,
    ledger: Ledger,
    stage: str = ALL,
    limit: int | None = None,
    run_id: str | None = None,
    on_progress: Progress | None = None,
) -> DrainSummary:
    """Run a drain with an open ledger. The job and the CLI call this. Raises `DrainRefused` and `OtherPipeline`.

    Raises `NoRoom` if the disk has, or gets, too little free space. What was done until then is stored.
    """
    configured, wanted = check_drain(settings, stage)
    if limit is not None and limit < 1:  # the command checks its option, Dagster's launchpad does not
        raise DrainRefused(f"the limit is {limit}: a drain takes at least one document")
    pipeline = pipeline_of(settings)
    agree_with_up(ledger, pipeline)
    for slot in configured:
        ledger.run(slots.register, slot, pipeline.recipes)
    by_slot = stages_by_slot(settings, wanted)
    chosen = [slot for slot in configured if by_slot[slot.name]]
    with Worker(ledger, "drain", wanted, run_id) as worker, ledger_executor(ledger) as pool:
        totals = Totals(limit, on_progress)
        return run_stoppable(_Drain(settings, AsyncLedger(ledger, pool), worker, wanted, by_slot, chosen, totals).run())


@dataclass(frozen=True)
class _Drain:
    """One drain, from its first call to its summary. `slots` are those that may answer one of its stages."""

    settings: Settings
    ledger: AsyncLedger
    worker: Worker
    stages: Sequence[str]
    by_slot: Mapping[str, Sequence[str]]
    slots: Sequence[SlotConfig]
    totals: Totals

    async def run(self) -> DrainSummary:
        """Work until nothing is due, then read what was done and what is left. Raises `NoRoom`."""
        refuse_without_room(self.settings)
        async with open_client(self.settings.slots, self.ledger) as client:
            runner = document_runner(self.settings, self.ledger, client, self.worker)
            at_work = SeveralSlots(runner, self.slots, self.by_slot, self.totals)
            await self._work(at_work)
        return await self._summary(at_work)

    async def _work(self, at_work: SeveralSlots) -> None:
        """Work at all slots until nothing is due. Creates the items of stages that were added, beside the calls."""
        may_fill_more = await self.ledger.run(stages.fill, recipes(self.settings))
        await at_work.make_trials_due()
        filling = asyncio.create_task(self._fill()) if may_fill_more else None
        try:
            await at_work.work()
            if filling is not None:
                await filling
                await at_work.work()  # on the items that appeared after the work had ended
        finally:
            if filling is not None:
                filling.cancel()

    async def _fill(self) -> None:
        """Create the items of stages that were added, batch by batch."""
        while await self.ledger.run(stages.fill, recipes(self.settings)):
            pass

    async def _summary(self, at_work: SeveralSlots) -> DrainSummary:
        """What was done and what is left. Raises `NoRoom` if work is due and the disk is full."""
        run, worker_id = self.ledger.run, self.worker.id
        counts = await run(left.count_left, self.stages)
        if counts.due and (shortage := shortage_of(self.settings)) is not None:
            done = self.totals.counts.done
            raise NoRoom(f"{shortage}. Documents: {done} done, {counts.deferred} deferred, {counts.left} left")
        used = await run(usage.of_worker, worker_id)
        held = holds.held_everywhere(self.settings, await run(holds.list_holds))
        names = (slot.name for slot in self.slots)
        pace = await run(estimate, *names, splitting=splitting(self.settings), held_everywhere=held)
        rows = {slot.name: await run(slots.get, slot.name) for slot in self.slots}
        registered = [row for row in rows.values() if row is not None]
        waited_for = await at_work.slots_waited_for(rows)
        reasons = [slot.reason for slot in waited_for if slot.reason is not None]
        next_checks = [slot.next_check for slot in waited_for if slot.next_check is not None]
        # A document may be done in one stage and wait for another, or for another slot.
        done = await run(left.count_finished, sorted(self.totals.done), self.stages)
        return DrainSummary(
            done=done,
            failed=self.totals.counts.failed,
            deferred=counts.deferred,
            left=counts.left,
            held_elsewhere=await run(left.count_claimed_elsewhere, self.stages, worker_id),
            in_back_off=counts.in_back_off,
            answered_in_part=await run(usage.documents_answered_in_part, worker_id, self.stages),
            waits_for=await run(left.count_waiting_for_others, stage_graph(self.settings), self.stages),
            reason=SUPERSEDED if at_work.is_superseded else "; ".join(reasons) or None,
            next_check_at=min(next_checks).isoformat(timespec="seconds") if next_checks else None,
            is_slot_unavailable=any(slot.is_unavailable for slot in waited_for),
            is_misconfigured=any(slot.is_misconfigured for slot in waited_for),
            tokens_read=used.read,
            tokens_cached=used.cached,
            tokens_written=used.written,
            concurrency=sum(row.concurrency for row in registered) if registered else None,
            warning=await self._warning(),
            tokens_per_second=pace.tokens_per_second,
            documents_per_hour=pace.documents_per_hour,
            slot_hours_left=pace.slot_hours_left,
        )

    async def _warning(self) -> str | None:
        """Name the servers that read documents twice; None if none does."""
        schema = self.ledger.ledger.schema
        of_slots = [
            usage.warning_of(
                await self.ledger.run(usage.second_stage_reuse, self.worker.id, slot.name), slot.name, schema
            )
            for slot in self.slots
        ]
        return "; ".join(filter(None, of_slots)) or None
