"""What `status` shows, read from the ledger in one transaction. Imports no Dagster."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_offload.cli.running import Running

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from dagster_offload.ledger.archive.outcomes import BackupOutcome
    from dagster_offload.ledger.core.database import Cursor, Ledger
    from dagster_offload.ledger.core.pipelines import AnnouncedPipeline
    from dagster_offload.ledger.core.rows import SlotRow, StageCounts
    from dagster_offload.ledger.reports.activity import FailedScan, InWork, NextAttempt
    from dagster_offload.ledger.reports.estimate import Estimate
    from dagster_offload.ledger.reports.long_documents import LongAhead
    from dagster_offload.ledger.reports.status import Doubtful, DoubtfulGroup, InParts, Problem, ProblemGroup
    from dagster_offload.ledger.reports.usage import TokenUse
    from dagster_offload.ledger.sinks.notifications import ChannelRow
    from dagster_offload.ledger.sinks.sinks import SinkRow
    from dagster_offload.ledger.slots.holds import Hold
    from dagster_offload.ledger.work.ocr_pages import PagesLeft
    from dagster_offload.postgres.room import Room
    from dagster_offload.service.home import RunningUp
    from dagster_offload.settings import Settings
    from dagster_offload.slot.config import SlotConfig
    from dagster_offload.slot.health import ProbeResult
    from dagster_offload.slot.rest import Rest

PROBLEMS_SHOWN = 20
NAMED = 3  # documents that failed for one reason, or whose results have the same marks


@dataclass(frozen=True)
class ShownSlot:
    """What `status` shows of a configured slot. `state` has the keys of `Report.deep`."""

    config: "SlotConfig"
    state: dict[str, Any]
    row: "SlotRow | None"
    is_available: bool  # its server is healthy, its breaker is closed, and it does not rest


@dataclass(frozen=True)
class ShownLibrary:
    """The library, and why it is missing with the next step; None if it is not."""

    path: "Path"
    problem: str | None


@dataclass(frozen=True)
class Report:
    """Everything that `status` shows, as text or JSON."""

    deep: dict[str, Any]
    slot: "SlotRow | None"
    slots: list[ShownSlot]  # the configured slots of drains, `deep` first
    library: ShownLibrary | None  # None: none is set
    stages: "dict[str, StageCounts]"
    problems: "list[Problem]"
    problem_groups: "list[ProblemGroup]"
    unusable_names: dict[str, str]
    events_pending: int
    estimate: "Estimate"
    last_drain: "TokenUse | None"
    long_documents: "list[InParts]"
    long_documents_ahead: "list[LongAhead]"
    needs_ocr: int
    pipeline: "AnnouncedPipeline | None"
    difference: str | None
    ocr: "PagesLeft"
    backups: "Sequence[BackupOutcome]"
    room: "Room | None"  # None: the user's own Postgres
    in_back_off: dict[str, int]  # by stage
    doubtful: "list[Doubtful]"
    doubtful_groups: "list[DoubtfulGroup]"
    corrections_for_review: int
    sinks: "list[SinkRow]"
    channels: "list[ChannelRow]"  # of notifications
    up: "RunningUp | None"
    workers: list[str]  # the kinds of those that are alive
    in_work: "list[InWork]"
    next_attempts: "list[NextAttempt]"
    not_applicable: dict[str, int]  # by stage with a condition; a part of `done`
    stopped_sensors: list[str]
    has_scanned: bool
    failed_scan: "FailedScan | None"  # the newest one, while `up` waits before the next
    rests: "list[Rest]"  # of the configured slots that rest
    holds: "list[Hold]"  # the stages that slots do not take
    held_everywhere: set[str]  # the stages that no slot takes
    has_free: bool  # whether an available slot would take any document now
    wakes: str | None  # how the deep slot's machine was woken in the last week; None: not, or it is available

    @property
    def running(self) -> Running:
        """What runs now."""
        return Running(self.up, self.workers, self.stopped_sensors)

    def rest_of(self, slot: str) -> "Rest | None":
        """Why the slot must not be used now; None if it may be."""
        return next((rest for rest in self.rests if rest.slot == slot), None)


def load_report(settings: "Settings", *, starts_postgres: bool = True) -> Report:
    """Probe the slots, then read everything else as it is at one moment, so that the numbers agree.

    `starts_postgres`: see `open_ledger_as_it_is`.
    """
    from dagster_offload.cli.quick_probe import quick_probe
    from dagster_offload.ledger.core.opening import open_ledger_as_it_is
    from dagster_offload.service.home import running_up

    slots = settings.slots.of_drains
    with ThreadPoolExecutor(max(len(slots), 1)) as threads:  # side by side: a probe takes seconds if a slot is away
        probes = dict(zip((slot.name for slot in slots), threads.map(quick_probe, slots), strict=True))
    up = running_up(settings.home)
    with open_ledger_as_it_is(settings, starts_postgres=starts_postgres) as ledger:
        library = _shown_library(settings, ledger)
        return ledger.run(_read, settings, probes, library, up)


def _shown_library(settings: "Settings", ledger: "Ledger") -> ShownLibrary | None:
    from dagster_offload.engine.vanished import why_emptied
    from dagster_offload.library.missing import MOUNT_IT, why_missing

    if settings.library is None:
        return None
    problem = why_missing(settings.library) or why_emptied(settings.library, ledger)
    return ShownLibrary(settings.library, problem and f"{problem}. {MOUNT_IT}")


def _read(
    cur: "Cursor",
    settings: "Settings",
    probes: "Mapping[str, ProbeResult]",
    library: ShownLibrary | None,
    up: "RunningUp | None",
) -> Report:
    from dagster_offload.ledger.archive import outcomes
    from dagster_offload.ledger.core.database import see_one_moment
    from dagster_offload.ledger.core.pipelines import recipes_in_force, running_pipeline
    from dagster_offload.ledger.events import outbox
    from dagster_offload.ledger.reports import activity, status, usage
    from dagster_offload.ledger.reports.estimate import estimate
    from dagster_offload.ledger.sinks import notifications, sinks
    from dagster_offload.ledger.work import corrections, ocr_pages
    from dagster_offload.postgres.room import room_of
    from dagster_offload.stages.catalog import recipes, splitting
    from dagster_offload.stages.pipeline import difference, pipeline_of

    see_one_moment(cur)
    found = _read_slots(cur, settings, probes)
    running = running_pipeline(cur)
    return Report(
        deep=found.deep,
        rests=found.rests,
        holds=found.holds,
        held_everywhere=found.held_everywhere,
        has_free=_has_free(cur, settings, found),
        wakes=found.wakes,
        slot=found.slot,
        slots=found.slots,
        library=library,
        # Where other settings are read, `difference` says so.
        stages=status.stage_counts(cur, recipes_in_force(running, recipes(settings))),
        problems=status.problems(cur, PROBLEMS_SHOWN),
        problem_groups=status.problem_groups(cur, NAMED),
        unusable_names=status.unusable_names(cur),
        events_pending=outbox.count_pending(cur),
        estimate=estimate(
            cur,
            *(probes or (slot_name(settings),)),
            splitting=splitting(settings),
            held_everywhere=found.held_everywhere,
        ),
        last_drain=usage.of_last_drain(cur),
        long_documents=status.in_parts(cur),
        long_documents_ahead=_long_ahead(cur, settings),
        needs_ocr=status.count_needs_ocr(cur),
        pipeline=running,
        difference=None if running is None else difference(pipeline_of(settings), running.pipeline),
        ocr=ocr_pages.left(cur),
        backups=outcomes.outcomes(cur),
        room=room_of(settings),
        in_back_off=status.in_back_off(cur),
        doubtful=status.doubtful(cur, PROBLEMS_SHOWN),
        doubtful_groups=status.doubtful_groups(cur, NAMED),
        corrections_for_review=corrections.count_for_review(cur),
        sinks=sinks.list_sinks(cur),
        channels=notifications.list_channels(cur, list(settings.channels)),
        up=up,
        workers=status.live_kinds(cur),
        in_work=activity.in_work(cur, PROBLEMS_SHOWN),
        next_attempts=activity.next_attempts(cur, PROBLEMS_SHOWN),
        not_applicable=activity.not_applicable(cur),
        stopped_sensors=activity.stopped_sensors(cur),
        has_scanned=activity.has_scanned(cur),
        failed_scan=activity.failed_scan(cur),
    )


@dataclass(frozen=True)
class _Slots:
    """What a report says about slots, with the names of its fields."""

    deep: dict[str, Any]
    slot: "SlotRow | None"
    slots: list[ShownSlot]
    rests: "list[Rest]"
    holds: "list[Hold]"
    held_everywhere: set[str]
    wakes: str | None


def _read_slots(cur: "Cursor", settings: "Settings", probes: "Mapping[str, ProbeResult]") -> _Slots:
    from dagster_offload.ledger.slots import holds, permits, rests, slots
    from dagster_offload.slot.config import DEEP

    resting = [rest for each in settings.slots if (rest := rests.read_rest(cur, each)) is not None]
    states = {
        each.name: (_state(each, row, probes[each.name], permits.count_held(cur, each.name)), row)
        for each in settings.slots.of_drains
        for row in (slots.get(cur, each.name),)
    }
    held = holds.list_holds(cur)
    shown = _shown_slots(settings, states, {rest.slot for rest in resting}, holds.by_slot(held))
    slot = shown[0].row if shown else slots.get(cur, DEEP)
    probe = probes.get(DEEP)
    wakes = None if probe is None or probe.answered else rests.describe_week(cur, DEEP)
    return _Slots(
        deep=shown[0].state if shown else _no_slot(slot),
        slot=slot,
        slots=shown,
        rests=resting,
        holds=held,
        held_everywhere=holds.held_everywhere(settings, held),
        wakes=wakes,
    )


def _has_free(cur: "Cursor", settings: "Settings", found: _Slots) -> bool:
    """Whether an available slot would take any document now."""
    from dagster_offload.ledger.work import claims
    from dagster_offload.stages.catalog import llm_stages, stages_by_slot

    by_slot = stages_by_slot(settings, llm_stages(settings))
    available = [each.config.name for each in found.slots if each.is_available]
    return any(claims.is_any_free(cur, by_slot[slot], slot) for slot in available)


def _long_ahead(cur: "Cursor", settings: "Settings") -> "list[LongAhead]":
    """The documents that are due and do not fit the context of the slot, so that they will be read in parts."""
    from dagster_offload.ledger.reports import long_documents
    from dagster_offload.ledger.reports.estimate import recent_rate
    from dagster_offload.stages.catalog import splitting

    rate = recent_rate(cur, slot_name(settings))
    seconds = None if rate is None else rate.seconds_per_part
    return long_documents.list_next(cur, splitting(settings), seconds, PROBLEMS_SHOWN)


def _shown_slots(
    settings: "Settings",
    states: "Mapping[str, tuple[dict[str, Any], SlotRow | None]]",
    resting: "Collection[str]",
    held: "Mapping[str, Collection[str]]",
) -> list[ShownSlot]:
    """The slots of drains; `in_reserve_for` names the available slots of a higher priority that leave one no stage."""
    from dagster_offload.slot.reserve import preferred_to, reserve_for, without_held
    from dagster_offload.stages.catalog import llm_stages, stages_by_slot

    available = {
        name
        for name, (state, _) in states.items()
        if name not in resting and state["breaker"] == "closed" and state["healthy"] is not False
    }
    slots, by_slot, shown = settings.slots.of_drains, stages_by_slot(settings, llm_stages(settings)), []
    for slot in slots:
        state, row = states[slot.name]
        others = reserve_for(without_held(slot.name, preferred_to(slot, slots, by_slot), held), available)
        shown.append(ShownSlot(slot, state | {"in_reserve_for": others}, row, slot.name in available))
    return shown


def slot_name(settings: "Settings") -> str:
    """The slot that processes the backlog: the deep slot, even if its settings were lost."""
    from dagster_offload.slot.config import DEEP

    configured = settings.slots.for_prompt()
    return DEEP if configured is None else configured.name


def _no_slot(slot: "SlotRow | None") -> dict[str, Any]:
    """The value of `deep` in `status --json` if no deep slot is configured. `slot`: the one that the ledger has."""
    reason = "OFFLOAD_DEEP_URL is not set" + (
        "; this ledger has a deep slot: see `dagster-offload slot show`" if slot else ""
    )
    return {
        "configured": False,
        "healthy": None,
        "breaker": slot and slot.breaker,
        "reason": reason,
        "retry_at": None,
        "in_reserve_for": [],
    }


def _state(config: "SlotConfig", slot: "SlotRow | None", probe: "ProbeResult", open_calls: int) -> dict[str, Any]:
    """The value of a configured slot in `status --json`.

    Some servers answer no health request while they generate. If our calls are open, such a slot is busy. Without its key, a
    slot is not probed, and what the ledger has of it counts.
    """
    is_unavailable = slot is not None and slot.breaker != "closed"
    is_busy = not is_unavailable and not probe.answered and open_calls > 0
    reason = f"busy, {open_calls} of our calls open: {probe.reason}" if is_busy else probe.reason
    healthy: bool | None = probe.healthy or is_busy
    if config.key_problem is not None and not is_busy:
        healthy, reason = None, f"not checked from here: {config.key_problem}"
    return {
        "configured": True,
        "healthy": healthy,
        "breaker": slot.breaker if slot else "closed",
        "reason": slot.reason if slot and is_unavailable else (None if probe.healthy else reason),
        "retry_at": slot.retry_at.isoformat() if slot and is_unavailable and slot.retry_at else None,
    }
