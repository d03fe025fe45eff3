"""The drain: a bounded run that works through the backlog on the deep slot and reports what is left and why."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from dagster_offload.engine.agreement import agree_with_up
from dagster_offload.engine.breaker import check_breaker
from dagster_offload.engine.lane import Scope
from dagster_offload.engine.lanes import Lanes
from dagster_offload.engine.progress import Progress
from dagster_offload.engine.session import document_runner, ledger_executor, open_client, run_stoppable
from dagster_offload.engine.wake import describe_unavailable
from dagster_offload.errors import DrainRefused, NoRoom
from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.reports import usage
from dagster_offload.ledger.reports.estimate import estimate
from dagster_offload.ledger.slots import rests, slots
from dagster_offload.ledger.work import claims
from dagster_offload.postgres.room import refuse_without_room, shortage_of
from dagster_offload.settings import Settings, load_settings
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.rest import Rest
from dagster_offload.stages.catalog import recipes, stage_graph
from dagster_offload.stages.pipeline import pipeline_of

ALL = "all"


@dataclass(frozen=True)
class DrainSummary:
    """What a drain did and left, in documents; what its calls cost, in tokens; how fast the slot is.

    `left` counts documents that are neither done nor deferred: due ones that the slot or the limit kept it from doing, and
    the `in_back_off`, which wait for their next attempt. `reason` says why, if the slot or a change of the pipeline is the
    cause; `next_check_at` (ISO 8601) is when a running `up` checks the slot again.
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


def check_drain(settings: Settings, stage: str) -> tuple[SlotConfig, tuple[str, ...]]:
    """The deep slot and the stages of a drain. No I/O. Raises `DrainRefused`."""
    names = stage_graph(settings).drain_stages
    if stage != ALL and stage not in names:
        raise DrainRefused(f"{stage!r} is not a drain stage: use one of {', '.join(names)} or {ALL}")
    deep = settings.slots.deep
    if deep is None:
        raise DrainRefused("no deep slot is configured: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL")
    return deep, names if stage == ALL else (stage,)


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
    deep, names = check_drain(settings, stage)
    pipeline = pipeline_of(settings)
    agree_with_up(ledger, pipeline)
    ledger.run(slots.register, deep, pipeline.recipes)
    with Worker(ledger, "drain", names, run_id) as worker, ledger_executor(ledger) as pool:
        return run_stoppable(
            _drain(settings, AsyncLedger(ledger, pool), worker, deep, Scope(names, limit=limit), on_progress)
        )


async def _fill(ledger: AsyncLedger, current: Mapping[str, str]) -> None:
    """Create the items of stages that were added, batch by batch, beside the calls."""
    while await ledger.run(stages.fill, current):
        pass


async def _drain(
    settings: Settings,
    ledger: AsyncLedger,
    worker: Worker,
    deep: SlotConfig,
    scope: Scope,
    on_progress: Progress | None,
) -> DrainSummary:
    refuse_without_room(settings)
    async with open_client(settings.slots, ledger) as client:
        lanes = Lanes(document_runner(settings, ledger, client, worker), scope, on_progress)
        may_fill_more = await ledger.run(stages.fill, recipes(settings))
        backlog = await ledger.run(claims.backlog, scope.stages)
        rest = await ledger.run(rests.read_rest, deep)
        if rest is None and (backlog.due or backlog.waiting):
            await ledger.run(slots.make_trial_due, deep.name)
            await check_breaker(ledger, client, deep, worker)
        filling = asyncio.create_task(_fill(ledger, recipes(settings))) if may_fill_more else None
        try:
            await lanes.work_at(deep)
            if filling is not None:
                await filling
                await lanes.work_at(deep)  # on the items that appeared after the lanes had ended
        finally:
            if filling is not None:
                filling.cancel()
    row = await ledger.run(slots.get, deep.name)
    in_back_off = await ledger.run(claims.count_in_back_off, scope.stages)
    due = await ledger.run(claims.count_due, scope.stages)
    if due and (shortage := shortage_of(settings)) is not None:
        raise NoRoom(f"{shortage}. Documents: {lanes.counts.done} done, {due} left")
    deferred = await ledger.run(claims.count_waiting, scope.stages)
    used = await ledger.run(usage.of_worker, worker.id)
    warning = usage.warning_of(await ledger.run(usage.second_stage_reuse, worker.id), deep.name)
    pace = await ledger.run(estimate, deep.name)
    rest, is_left = lanes.rest, due + deferred > 0
    next_check = row.retry_at if rest is None and row is not None else None if rest is None else rest.until
    return DrainSummary(
        done=lanes.counts.done,
        failed=lanes.counts.failed,
        deferred=deferred,
        left=due + in_back_off,
        held_elsewhere=await ledger.run(claims.count_claimed_elsewhere, scope.stages, worker.id),
        in_back_off=in_back_off,
        waits_for=await ledger.run(claims.count_waiting_for_others, stage_graph(settings), scope.stages),
        reason=_reason(row, rest if is_left else None, is_superseded=lanes.is_superseded),
        next_check_at=None if next_check is None else next_check.isoformat(timespec="seconds"),
        is_slot_unavailable=is_left and (rest is not None or _is(row, BreakerState.OPEN)),
        is_misconfigured=is_left and rest is None and _is(row, BreakerState.MISCONFIGURED),
        tokens_read=used.read,
        tokens_cached=used.cached,
        tokens_written=used.written,
        concurrency=None if row is None else row.concurrency,
        warning=warning,
        tokens_per_second=pace.tokens_per_second,
        documents_per_hour=pace.documents_per_hour,
        slot_hours_left=pace.slot_hours_left,
    )


def _is(slot: SlotRow | None, breaker: BreakerState) -> bool:
    return slot is not None and slot.breaker is breaker


def _reason(slot: SlotRow | None, rest: Rest | None, *, is_superseded: bool) -> str | None:
    """Why a drain stopped before its work was done; None if it did not."""
    if is_superseded:
        return "the running `up` took over an edited pipeline: the next drain works with it"
    if rest is not None:
        return str(rest)
    return None if slot is None or slot.breaker is BreakerState.CLOSED else describe_unavailable(slot)
