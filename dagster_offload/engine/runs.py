"""A run over chosen documents: works through them, then reports what is left and when to check again."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from dagster_offload.engine.agreement import agree_with_up
from dagster_offload.engine.extraction.run import extract_due
from dagster_offload.engine.lanes.several_slots import SeveralSlots
from dagster_offload.engine.lanes.totals import Totals
from dagster_offload.engine.progress import Progress
from dagster_offload.engine.session import document_runner, ledger_executor, open_client, run_stoppable
from dagster_offload.engine.slot.state import SlotState, describe_wait
from dagster_offload.errors import NoSuchDocument, SettingsError
from dagster_offload.ledger.core import stages as core_stages
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import BreakerState, State
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import holds, rests, slots
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.ledger.work import documents, left
from dagster_offload.ledger.work.left import Unfinished
from dagster_offload.postgres.room import shortage_of
from dagster_offload.settings import Settings
from dagster_offload.slot.config import NO_SLOT
from dagster_offload.slot.rest import Rest
from dagster_offload.stages.catalog import recipes, stage_graph, stages_by_slot
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.stages.pipeline import pipeline_of

CLAIMED_ELSEWHERE_SECONDS = 30.0
NAMES_SHOWN = 5  # of documents that do not exist
NEEDS_A_PERSON = {State.FAILED, State.QUARANTINED, State.GONE}
# How often a run that waits for free space on the disk checks it.
NO_ROOM_SECONDS = 60.0


@dataclass(frozen=True)
class RunSummary:
    """The state after a run over chosen documents. All are done if `wait_seconds` is None and `failed` is empty."""

    done: int
    failed: tuple[Unfinished, ...] = ()
    wait_seconds: float | None = None
    wait_reason: str | None = None
    is_deferral: bool = False
    slot: str | None = None  # the slot a deferral waits for, until its breaker closes
    held_stage: str | None = None  # the stage that `slot` holds: a deferral waits until it takes it again
    rest: Rest | None = None  # the rest of a slot that a deferral waits for


def run_documents(
    settings: Settings,
    ledger: Ledger,
    keys: Sequence[str],
    stages: Sequence[str],
    run_id: str | None = None,
    on_progress: Progress | None = None,
) -> RunSummary:
    """Run `stages` of these documents, upstream first, and report what is left. For runs started by a person or a backfill.

    Does not wait for an unavailable slot. Raises `NoSuchDocument` before it writes anything, `OtherPipeline`, `SlotLost`,
    and `SettingsError` if LLM stages are requested and no slot is configured.
    """
    missing = ledger.run(documents.missing_keys, keys)
    if missing:
        more = f" and {len(missing) - NAMES_SHOWN:,} more" if len(missing) > NAMES_SHOWN else ""
        raise NoSuchDocument(f"no such document: {', '.join(missing[:NAMES_SHOWN])}{more}")
    agree_with_up(ledger, pipeline_of(settings))
    llm = [stage for stage in stage_graph(settings).with_needs(stages) if stage != EXTRACT]
    if llm:
        ledger.run(slots.refuse_lost_slot, settings.slots)
        if settings.slots.for_prompt() is None:
            raise SettingsError(NO_SLOT)
    for slot in settings.slots:
        if llm or slot.key_problem is None:  # a run of `extract` sends nothing to it
            ledger.run(slots.register, slot, recipes(settings))
    with Worker(ledger, "run", (EXTRACT, *llm), run_id) as worker, ledger_executor(ledger) as pool:
        extract_due(settings, ledger, worker, keys, on_progress)  # on a full disk, neither of the two starts any work
        ledger.run(core_stages.fill_documents, keys, recipes(settings))
        wanted = [EXTRACT, *llm] if EXTRACT in stages else llm
        return run_stoppable(_run_documents(settings, AsyncLedger(ledger, pool), worker, keys, wanted, on_progress))


async def _run_documents(
    settings: Settings,
    ledger: AsyncLedger,
    worker: Worker,
    keys: Sequence[str],
    stages: Sequence[str],
    on_progress: Progress | None,
) -> RunSummary:
    async with open_client(settings.slots, ledger) as client:
        runner = document_runner(settings, ledger, client, worker)
        # First all large slots at the same time, then `primary` for what they left of the stages that it may do.
        totals, by_slot = Totals(on_progress=on_progress), stages_by_slot(settings, stages)
        configured = settings.slots
        small = () if configured.primary is None else (configured.primary,)
        for group in (configured.of_drains, small):
            if group and shortage_of(settings) is None:
                await SeveralSlots(runner, group, by_slot, totals, keys).work()
    unfinished = await ledger.run(left.unfinished, keys, stages)
    state = await _state_waited_for(settings, ledger, {item.stage for item in unfinished})
    wait = settings.retry_after_minutes * 60
    return summarize_run(len(keys), unfinished, state, wait, shortage_of(settings))


async def _state_waited_for(settings: Settings, ledger: AsyncLedger, left: Collection[str]) -> SlotState:
    """The state of the slot that the stages that are left wait for. They wait for `primary` only if no other may answer."""
    by_slot = stages_by_slot(settings, left)
    waited_for = [slot for slot in settings.slots.of_drains if by_slot[slot.name]]
    if not waited_for and (slot_now := settings.slots.for_prompt()) is not None:
        waited_for = [slot_now]
    states = {
        slot.name: SlotState(await ledger.run(slots.get, slot.name), await ledger.run(rests.read_rest, slot))
        for slot in waited_for
    }
    held = {(hold.slot, hold.stage): hold for hold in await ledger.run(holds.list_holds)}
    stages = [stage for stage in stage_graph(settings).names if stage in left]
    may_answer = [
        [replace(states[name], hold=held.get((name, stage))) for name in states if stage in by_slot[name]]
        for stage in stages
    ]
    return state_waited_for(may_answer, list(states.values()))


def state_waited_for(may_answer: Iterable[Sequence[SlotState]], states: Sequence[SlotState]) -> SlotState:
    """The state that a run waits for to change. `may_answer`: for each stage that is left, the slots that may answer it, with
    their holds of that stage. `states`: all of them.

    It is that of the first stage that no available slot may answer: the first of its slots that comes back without a person, or
    else the first. If there is no such stage, it is that of an available slot,
    or else of any.
    """
    for of_stage in may_answer:
        if of_stage and not any(state.is_available for state in of_stage):
            return next((state for state in of_stage if state.is_unavailable), of_stage[0])
    available = (state for state in states if state.is_available)
    return next(available, next(iter(states), SlotState()))


def summarize_run(
    requested: int,
    unfinished: Sequence[Unfinished],
    state: SlotState,
    default_wait_seconds: float,
    shortage: str | None = None,
) -> RunSummary:
    """Decide what a run over chosen documents does next: succeed, fail at once, or wait, and for how long.

    `requested` is the number of its documents. `state`: of the slot that they wait for. `shortage`: the disk is too full for
    answers. The settings may change meanwhile, so the run looks again after the default wait at the latest.
    """
    slot, rest, hold = state.row, state.rest, state.hold
    failed = tuple(u for u in unfinished if u.state in NEEDS_A_PERSON)
    waiting = [u for u in unfinished if u.state not in NEEDS_A_PERSON]
    done = requested - len({u.document for u in unfinished})
    if failed or not waiting:
        return RunSummary(done, failed)
    if shortage is not None:
        return RunSummary(done, (), NO_ROOM_SECONDS, shortage)
    if hold is not None and any(u.stage == hold.stage for u in waiting):
        wait = _wait_beside(hold, waiting, default_wait_seconds)
        return RunSummary(done, (), wait, str(hold), is_deferral=True, slot=hold.slot, held_stage=hold.stage)
    if rest is not None and any(u.stage != EXTRACT for u in waiting):
        left = rest.seconds_left(datetime.now(UTC))
        wait = default_wait_seconds if left is None else min(max(left, 1.0), default_wait_seconds)
        return RunSummary(done, (), wait, str(rest), is_deferral=True, rest=rest)
    if slot is not None and slot.breaker is not BreakerState.CLOSED and any(u.stage != EXTRACT for u in waiting):
        # The wait that the last refusal named, not the breaker's `retry_at`: runs do not try the slot.
        wait = default_wait_seconds if slot.refusal_wait_seconds is None else slot.refusal_wait_seconds
        return RunSummary(done, (), wait, describe_wait(slot), is_deferral=True, slot=slot.name)
    times = [u.seconds_to_due for u in waiting if u.seconds_to_due is not None]
    if len(times) == len(waiting):
        first = min(waiting, key=lambda u: u.seconds_to_due or 0.0)
        return RunSummary(done, (), max(min(times), 1.0), f"{first.document}: {first.stage}: {first.reason}")
    return RunSummary(done, (), CLAIMED_ELSEWHERE_SECONDS, "another worker holds the rest")


def _wait_beside(hold: Hold, waiting: Iterable[Unfinished], default_wait_seconds: float) -> float:
    """Seconds until the work of other stages than the held one is due, or may be done by the worker that claimed it."""
    others = [u for u in waiting if u.stage != hold.stage]
    due = [u.seconds_to_due for u in others if u.seconds_to_due is not None]
    claimed = [CLAIMED_ELSEWHERE_SECONDS for u in others if u.state is State.CLAIMED]
    return max(min([default_wait_seconds, *due, *claimed]), 1.0)
