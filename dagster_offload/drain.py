"""The engine's doors, without Dagster: a drain, the documents of a person's run, and whether to drain now.

Each registers a worker, opens the client, works its lanes and says what is left and why.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from dagster_offload.client import AIClient
from dagster_offload.clients import open_client
from dagster_offload.errors import DrainRefused, OffloadError, SettingsError
from dagster_offload.gate import AsyncLedger, let_through
from dagster_offload.health import ProbeResult
from dagster_offload.lanes import Lanes, Scope
from dagster_offload.ledger import Ledger, breaker, claims, documents, slots, usage
from dagster_offload.ledger.claims import Backlog, Unfinished
from dagster_offload.ledger.estimate import estimate
from dagster_offload.ledger.records import ASKED_AT_THE_NEXT_LOOK, BreakerState, SlotRow, State
from dagster_offload.ledger.workers import Worker, live_workers
from dagster_offload.opening import open_ledger
from dagster_offload.probe import probe
from dagster_offload.settings import Settings, load_settings
from dagster_offload.slots import SlotConfig
from dagster_offload.stages import DRAIN_STAGES, EXTRACT, llm_stages, recipes
from dagster_offload.stopping import run_stoppable
from dagster_offload.tally import Progress
from dagster_offload.texts import extract_due
from dagster_offload.walk import Walker

ALL = "all"
CLAIMED_ELSEWHERE_SECONDS = 30.0
LEDGER_THREADS = 4
# How long a thread that computes (telling Dagster, say) may keep the interpreter from the event loop: Python's own 5 ms
# are as long as all else that passes between an answer and the next call.
SWITCH_SECONDS = 0.0001


@dataclass(frozen=True)
class DrainSummary:
    """What a drain did and left, in documents; what its calls cost, in tokens; how fast the slot is.

    `left` = due work it could have done but for the slot or the limit; `reason` says why where it is the slot. `width` =
    calls open at once, in the end. `warning` = a line for people about a server that reads documents twice. The slot's
    pace is of its last hours of use, None where that is not known.
    """

    done: int
    failed: int
    deferred: int
    left: int
    held_elsewhere: int
    reason: str | None = None
    is_slot_away: bool = False
    is_misconfigured: bool = False
    tokens_read: int = 0  # of prompts, what was not in the server's cache
    tokens_cached: int | None = None  # of prompts, what was; None where the server does not say
    tokens_written: int = 0
    width: int | None = None
    warning: str | None = None
    tokens_per_second: float | None = None
    documents_per_hour: float | None = None
    slot_hours_left: float | None = None


@dataclass(frozen=True)
class RunSummary:
    """How far a run over given documents came. All done = `wait_seconds` None and nothing in `failed`."""

    done: int
    failed: tuple[Unfinished, ...] = ()
    wait_seconds: float | None = None
    wait_reason: str | None = None
    is_deferral: bool = False


class NoSuchDocument(OffloadError):  # noqa: N818 - said like the errors beside it
    """A key that is no document present in the library."""


def drain(stage: str = ALL, limit: int | None = None) -> DrainSummary:
    """Work off the backlog of `stage` on the deep slot, at most `limit` documents.

    Raises `DrainRefused` before Postgres or the library are touched where no deep slot is configured or `stage` is not
    a drain stage.
    """
    settings = load_settings()
    check_drain(settings, stage)
    with open_ledger(settings) as ledger:
        return run_drain(settings, ledger, stage, limit)


def check_drain(settings: Settings, stage: str) -> tuple[SlotConfig, tuple[str, ...]]:
    """The deep slot and the stages of a drain. Raises `DrainRefused`; touches nothing."""
    if stage != ALL and stage not in DRAIN_STAGES:
        raise DrainRefused(f"{stage!r} is not a drain stage: use one of {', '.join(DRAIN_STAGES)} or {ALL}")
    deep = settings.slots.deep
    if deep is None:
        raise DrainRefused("no deep slot is configured: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL")
    return deep, DRAIN_STAGES if stage == ALL else (stage,)


def run_drain(
    settings: Settings,
    ledger: Ledger,
    stage: str = ALL,
    limit: int | None = None,
    run_id: str | None = None,
    on_progress: Progress | None = None,
) -> DrainSummary:
    """`drain` over an open ledger: what the job and the CLI call."""
    deep, stages = check_drain(settings, stage)
    ledger.run(slots.register, deep, recipes(settings))
    with Worker(ledger, "drain", stages, run_id) as worker, _executor() as pool:
        return run_stoppable(
            _drain(settings, AsyncLedger(ledger, pool), worker, deep, Scope(stages, limit=limit), on_progress)
        )


async def _drain(
    settings: Settings,
    ledger: AsyncLedger,
    worker: Worker,
    deep: SlotConfig,
    scope: Scope,
    on_progress: Progress | None,
) -> DrainSummary:
    async with open_client(settings.slots, ledger) as client:
        lanes = Lanes(_walker(settings, ledger, client, worker), scope, on_progress)
        backlog = await ledger.run(claims.backlog, scope.stages)
        if backlog.due or backlog.waiting:
            await let_through(ledger, client, deep, worker)
        await lanes.work_at(deep)
    row = await ledger.run(slots.get, deep.name)
    left = await ledger.run(claims.count_due, scope.stages)
    deferred = await ledger.run(claims.count_waiting, scope.stages)
    used = await ledger.run(usage.of_worker, worker.id)
    warning = usage.warning_of(await ledger.run(usage.second_stage_reuse, worker.id), deep.name)
    pace = await ledger.run(estimate, deep.name)
    return DrainSummary(
        done=lanes.tally.done,
        failed=lanes.tally.failed,
        deferred=deferred,
        left=left,
        held_elsewhere=await ledger.run(claims.count_claimed_elsewhere, scope.stages, worker.id),
        reason=None if row is None or row.breaker is BreakerState.CLOSED else why_away(row),
        is_slot_away=row is not None and row.breaker is BreakerState.OPEN and left + deferred > 0,
        is_misconfigured=row is not None and row.breaker is BreakerState.MISCONFIGURED and left + deferred > 0,
        tokens_read=used.read,
        tokens_cached=used.cached,
        tokens_written=used.written,
        width=None if row is None else row.width,
        warning=warning,
        tokens_per_second=pace.tokens_per_second,
        documents_per_hour=pace.documents_per_hour,
        slot_hours_left=pace.slot_hours_left,
    )


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
    for slot in (settings.slots.deep, settings.slots.primary):
        if slot is not None:
            ledger.run(slots.register, slot, recipes(settings))
    with Worker(ledger, "run", (EXTRACT, *llm), run_id) as worker, _executor() as pool:
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
        walker = _walker(settings, ledger, client, worker)
        for slot, slot_stages in _slots_of_stages(settings, stages):
            await let_through(ledger, client, slot, worker)
            await Lanes(walker, Scope(slot_stages, keys), on_progress).work_at(slot)
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
        return RunSummary(done, (), wait, why_away(slot), is_deferral=True)
    times = [u.seconds_to_due for u in waiting if u.seconds_to_due is not None]
    if len(times) == len(waiting):
        first = min(waiting, key=lambda u: u.seconds_to_due or 0.0)
        return RunSummary(done, (), max(min(times), 1.0), f"{first.document}: {first.stage}: {first.reason}")
    return RunSummary(done, (), CLAIMED_ELSEWHERE_SECONDS, "another worker holds the rest")


def why_away(slot: SlotRow) -> str:
    """One line: `deep is away: upstream_cold since 14:02 (next look 14:03:10)`."""
    if slot.breaker is BreakerState.MISCONFIGURED:
        way_out = f"change the setting, or dagster-offload slot set {slot.name} --try-again"
        return f"{slot.name} is misconfigured: {slot.reason_in_words}; {way_out}"
    away = f"{slot.name} is away: {slot.reason_in_words}"
    if slot.is_retry_due:
        return f"{away}; {ASKED_AT_THE_NEXT_LOOK}"
    return f"{away} (next look {slot.retry_at.astimezone():%H:%M:%S})" if slot.retry_at else away


@dataclass(frozen=True)
class Decision:
    """Whether to launch a drain now, and the reason with its numbers."""

    launch: bool
    words: str


def should_drain(
    *,
    is_configured: bool,
    backlog: int,
    waiting: int,
    live_drains: int,
    probe: ProbeResult | None,
    slot: SlotRow | None,
) -> Decision:
    """Decide from what was looked at, cheapest first; no I/O. `backlog` = documents due, `waiting` = put off."""
    if not is_configured:
        return Decision(False, "no deep slot is configured: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL")
    if live_drains:
        return Decision(False, f"{live_drains} drain is at work; {Backlog(backlog, waiting)}")
    if not backlog + waiting:
        return Decision(False, "nothing is due: 0 documents due, 0 deferred")
    counts = str(Backlog(backlog, waiting))
    if probe is not None and not probe.healthy:
        return Decision(False, f"the deep slot's health probe says {probe.reason}; {counts}")
    if slot is not None and slot.breaker is not BreakerState.CLOSED:
        return Decision(False, f"{why_away(slot)}; {counts}")
    if not backlog:
        return Decision(False, f"nothing is due: 0 documents due, {waiting} deferred")
    return Decision(True, counts)


def look_for_drain(settings: Settings, ledger: Ledger) -> Decision:
    """Look at backlog, live drains, probe and breaker, with a trial where one is due; then decide. Takes seconds."""
    return run_stoppable(_look_for_drain(settings, ledger))


async def _look_for_drain(settings: Settings, ledger: Ledger) -> Decision:
    deep = settings.slots.deep
    if deep is None:
        ledger.run(slots.refuse_lost_slot, settings.slots)
        return should_drain(is_configured=False, backlog=0, waiting=0, live_drains=0, probe=None, slot=None)
    row = ledger.run(slots.register, deep, recipes(settings))
    found = ledger.run(claims.backlog, DRAIN_STAGES)
    live = len(ledger.run(live_workers, ledger.schema, "drain"))
    seen = None
    if found.due + found.waiting and not live:
        seen = await probe(deep)
        if row.breaker is BreakerState.OPEN:
            row = ledger.run(breaker.note_probe, deep.name, is_healthy=seen.healthy, reason=seen.reason)
            if seen.healthy and row.is_retry_due:
                row = await _try_the_gate(settings, ledger, deep)
        found = ledger.run(claims.backlog, DRAIN_STAGES)
    return should_drain(
        is_configured=True, backlog=found.due, waiting=found.waiting, live_drains=live, probe=seen, slot=row
    )


async def _try_the_gate(settings: Settings, ledger: Ledger, deep: SlotConfig) -> SlotRow:
    """A trial of the sensor's own: a slot that is healthy but refuses costs no Dagster run."""
    with Worker(ledger, "sensor") as worker:
        async with open_client(settings.slots, AsyncLedger(ledger)) as client:
            return await let_through(AsyncLedger(ledger), client, deep, worker)


def _walker(settings: Settings, ledger: AsyncLedger, client: AIClient, worker: Worker) -> Walker:
    return Walker(settings, ledger, client, worker, llm_stages(settings), recipes(settings))


@contextmanager
def _executor() -> Iterator[ThreadPoolExecutor]:
    """Threads for the ledger beside an event loop that comes first."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with ThreadPoolExecutor(LEDGER_THREADS, thread_name_prefix="ledger") as pool:
            yield pool
    finally:
        sys.setswitchinterval(before)
