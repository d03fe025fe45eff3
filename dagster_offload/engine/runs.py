"""A run over chosen documents: work through them, then report what is left and when to look again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dagster_offload.engine.breaker import let_through
from dagster_offload.engine.extract import extract_due
from dagster_offload.engine.lane import Scope
from dagster_offload.engine.lanes import Lanes
from dagster_offload.engine.progress import Progress
from dagster_offload.engine.session import document_runner, ledger_executor, open_client, run_stoppable
from dagster_offload.engine.wake import describe_unavailable
from dagster_offload.errors import NoSuchDocument, SettingsError
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import BreakerState, SlotRow, State
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims, documents
from dagster_offload.ledger.work.claims import Unfinished
from dagster_offload.settings import Settings
from dagster_offload.slot.config import SlotConfig
from dagster_offload.stages.catalog import llm_stages, recipes
from dagster_offload.stages.graph import EXTRACT

CLAIMED_ELSEWHERE_SECONDS = 30.0


@dataclass(frozen=True)
class RunSummary:
    """How far a run over given documents came. All done = `wait_seconds` None and nothing in `failed`."""

    done: int
    failed: tuple[Unfinished, ...] = ()
    wait_seconds: float | None = None
    wait_reason: str | None = None
    is_deferral: bool = False
    slot: str | None = None  # the slot a deferral waits for


def run_documents(
    settings: Settings,
    ledger: Ledger,
    keys: Sequence[str],
    stages: Sequence[str],
    run_id: str | None = None,
    on_progress: Progress | None = None,
) -> RunSummary:
    """A person's click or a backfill: do `stages` of these documents, upstream first, and say what is still to wait for.

    Never waits itself for a slot that is away. Raises `NoSuchDocument` before anything is written, `SlotLost`, and
    `SettingsError` where LLM stages are asked for and no slot is configured.
    """
    missing = ledger.run(documents.missing_keys, keys)
    if missing:
        raise NoSuchDocument(f"no such document: {', '.join(missing[:5])}")
    llm = [stage for stage in stages if stage != EXTRACT]
    if llm:
        ledger.run(slots.refuse_lost_slot, settings.slots)
        if settings.slots.for_prompt() is None:
            raise SettingsError("no slot is configured: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL")
    for slot in settings.slots:
        ledger.run(slots.register, slot, recipes(settings))
    with Worker(ledger, "run", (EXTRACT, *llm), run_id) as worker, ledger_executor() as pool:
        extract_due(settings, ledger, worker, keys, on_progress)
        return run_stoppable(_run_documents(settings, AsyncLedger(ledger, pool), worker, keys, stages, on_progress))


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
        for slot, slot_stages in _slots_of_stages(settings, stages):
            await let_through(ledger, client, slot, worker)
            await Lanes(runner, Scope(slot_stages, keys), on_progress).work_at(slot)
    unfinished = await ledger.run(claims.unfinished, keys, stages)
    row = None if (slot_now := settings.slots.for_prompt()) is None else await ledger.run(slots.get, slot_now.name)
    return summarize_run(len(keys), unfinished, row, settings.retry_after_minutes * 60)


def _slots_of_stages(settings: Settings, stages: Sequence[str]) -> Iterator[tuple[SlotConfig, list[str]]]:
    """Where these stages may be done, best first: the deep slot, then `primary` for what the owner lets it do too."""
    configured, declared = settings.slots, llm_stages(settings)
    first = configured.for_prompt()
    asked = [name for name in declared if name in stages]
    if first is None or not asked:
        return
    yield first, asked
    may_be_small = [name for name in asked if declared[name].primary_may_do_it]
    if configured.primary is not None and first is not configured.primary and may_be_small:
        yield configured.primary, may_be_small


def summarize_run(
    asked: int, unfinished: Sequence[Unfinished], slot: SlotRow | None, default_wait_seconds: float
) -> RunSummary:
    """What a run over given documents does next: succeed, fail at once, or wait for the right time."""
    failed = tuple(u for u in unfinished if u.state in (State.FAILED, State.QUARANTINED, State.GONE))
    waiting = [u for u in unfinished if u not in failed]
    done = asked - len({u.document for u in unfinished})
    if failed or not waiting:
        return RunSummary(done, failed)
    if slot is not None and slot.breaker is not BreakerState.CLOSED and any(u.stage != EXTRACT for u in waiting):
        # What the last refusal said, never the breaker's own `retry_at`: a run is not what tries the slot.
        wait = default_wait_seconds if slot.refusal_wait_seconds is None else slot.refusal_wait_seconds
        return RunSummary(done, (), wait, describe_unavailable(slot), is_deferral=True, slot=slot.name)
    times = [u.seconds_to_due for u in waiting if u.seconds_to_due is not None]
    if len(times) == len(waiting):
        first = min(waiting, key=lambda u: u.seconds_to_due or 0.0)
        return RunSummary(done, (), max(min(times), 1.0), f"{first.document}: {first.stage}: {first.reason}")
    return RunSummary(done, (), CLAIMED_ELSEWHERE_SECONDS, "another worker holds the rest")
