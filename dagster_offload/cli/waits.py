"""What waiting work waits for, in the words of `status`: that of one document, and what a person has just made pending.

The facts are read first, and only the slots that the ledger calls available are probed. `wait_of` decides without I/O.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from dagster_offload.cli.formatting import describe_time, say
from dagster_offload.cli.running import Running
from dagster_offload.slot.config import NO_DEEP_SLOT, SlotConfig
from dagster_offload.slot.reserve import describe_reserve, preferred_to
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.lists import listed

if TYPE_CHECKING:
    from dagster_offload.ledger.core.database import Cursor, Ledger
    from dagster_offload.ledger.reports.explanation import ExplainedItem
    from dagster_offload.service.home import RunningUp
    from dagster_offload.settings import Settings

WAITING_STATES = ("pending", "deferred")
NOW = "now"
WHERE_TO_READ_ON = "what to do: dagster-offload status"  # the ledger's words for a hold are long


@dataclass(frozen=True)
class Obstacle:
    """Why a slot cannot be used now, in words, and when that is over, where known."""

    text: str
    until: datetime | None = None


@dataclass(frozen=True)
class Wait:
    """When a work item is taken, in short, and what it waits for, in words (empty if the short form says it).

    `until` is when that is over, where known. `is_due`: it waits for nothing but a drain or a scan.
    """

    short: str
    reason: str = ""
    until: datetime | None = None
    is_due: bool = False

    @property
    def in_full(self) -> str:
        """What it waits for, in words."""
        return self.reason or ("its next attempt" if self.until is not None else self.short)


@dataclass(frozen=True)
class Facts:
    """What the decision depends on. `slots`: those of drains. `by_slot`: the stages that each may answer.

    `obstacles`: by slot, why it can be used for no stage. `held`: by slot and stage, why it does not take the stage.
    """

    running: Running
    shortage: str | None = None
    slots: Sequence[SlotConfig] = ()
    by_slot: Mapping[str, Sequence[str]] = field(default_factory=dict)
    obstacles: Mapping[str, Obstacle] = field(default_factory=dict)
    held: Mapping[tuple[str, str], str] = field(default_factory=dict)


def wait_of(item: "ExplainedItem", facts: Facts) -> Wait:
    """Decide what a work item waits for that is in one of `WAITING_STATES`."""
    if item.first_needs:
        return Wait(f"after {listed(item.first_needs)}")
    if item.same_in_work is not None:
        return Wait("after a copy", f"{item.same_in_work}, which has the same content and is in work")
    if facts.shortage is not None:
        return Wait("when the disk has space", f"free space: {facts.shortage}")
    if item.stage == EXTRACT:
        return Wait(NOW, facts.running.who_scans, is_due=True) if item.is_due else _at(item.not_before)
    return _wait_for_slots(item, facts)


def _wait_for_slots(item: "ExplainedItem", facts: Facts) -> Wait:
    slots, obstacles = _slots_of(item.stage, facts)
    if not slots:
        return Wait("when a slot answers it", f"a slot: {NO_DEEP_SLOT}")
    usable = [slot for slot in slots if slot not in obstacles]
    if set(usable) & set(item.due_at):
        alone = ", alone and after the others" if item.must_run_alone else ""
        return Wait(f"{NOW}{alone}", facts.running.who_drains, is_due=True)
    if usable:
        return _at(item.not_before)
    ends = [found.until for found in obstacles.values() if found.until is not None]
    return Wait(f"when {listed(slots, 'or')} can be used", _why_no_slot(obstacles), min(ends, default=None))


def what_follows(stages: Collection[str], facts: Facts) -> list[str]:
    """What happens to work that a person has just made pending, one line for all stages to which the same happens."""
    groups: dict[str, list[str]] = {}
    for stage in stages:
        groups.setdefault(_what_follows(stage, facts), []).append(stage)
    return [f"{listed(group)}: {then}" for then, group in groups.items()]


def _what_follows(stage: str, facts: Facts) -> str:
    if facts.shortage is not None:
        return f"waiting for free space: {facts.shortage}"
    if stage == EXTRACT:
        return facts.running.who_scans
    slots, obstacles = _slots_of(stage, facts)
    if not slots:
        return f"waiting for a slot: {NO_DEEP_SLOT}"
    return facts.running.who_drains if len(obstacles) < len(slots) else f"waiting for {_why_no_slot(obstacles)}"


def _slots_of(stage: str, facts: Facts) -> tuple[list[str], dict[str, Obstacle]]:
    """The slots that may answer a stage, and why some of them do not now."""
    slots = [slot.name for slot in facts.slots if stage in facts.by_slot[slot.name]]
    return slots, {slot: found for slot in slots if (found := _obstacle(slot, stage, facts)) is not None}


def _why_no_slot(obstacles: Mapping[str, Obstacle]) -> str:
    names = listed(list(obstacles), "or")
    if len(obstacles) == 1:
        return f"{names}: {obstacles[names].text}"
    return f"{names} ({'; '.join(f'{name}: {found.text}' for name, found in obstacles.items())})"


def _obstacle(slot: str, stage: str, facts: Facts) -> Obstacle | None:
    """Why a slot does not take a stage now; None if it does."""
    if (slot, stage) in facts.held:
        return Obstacle(facts.held[slot, stage])
    if slot in facts.obstacles:
        return facts.obstacles[slot]
    config = next(each for each in facts.slots if each.name == slot)
    better = [
        other.name
        for other in preferred_to(config, facts.slots, facts.by_slot)[stage]
        if other.name not in facts.obstacles and (other.name, stage) not in facts.held
    ]
    return Obstacle(describe_reserve(better)) if better else None


def say_what_follows(settings: "Settings", ledger: "Ledger", stages: Collection[str]) -> None:
    """Print what happens to work in these stages that was just made pending. Takes at most 5 s."""
    for line in what_follows(stages, read_facts(settings, ledger, stages)):
        say(line)


def _at(moment: datetime | None) -> Wait:
    return Wait(describe_time(moment), until=moment)


def read_facts(settings: "Settings", ledger: "Ledger", stages: Collection[str]) -> Facts:
    """Read the facts about waiting work in these stages, and probe the slots for them. Takes at most 5 s."""
    from dagster_offload.postgres.room import shortage_of
    from dagster_offload.service.home import running_up
    from dagster_offload.stages.catalog import llm_stages, stages_by_slot

    slots, by_slot = settings.slots.of_drains, stages_by_slot(settings, llm_stages(settings))
    running, obstacles, held, busy = ledger.run(_read, settings, running_up(settings.home))
    wanted = [
        slot
        for slot in slots
        if slot.key_problem is None and slot.name not in obstacles and set(by_slot[slot.name]) & set(stages)
    ]
    return Facts(
        running=running,
        shortage=shortage_of(settings),
        slots=slots,
        by_slot=by_slot,
        obstacles=obstacles | _unhealthy(wanted, busy, running),
        held=held,
    )


def _read(
    cur: "Cursor", settings: "Settings", up: "RunningUp | None"
) -> tuple[Running, dict[str, Obstacle], dict[tuple[str, str], str], set[str]]:
    """What runs, which slots the ledger calls unavailable, which stages they hold, and which have calls open."""
    from dagster_offload.ledger.core.database import see_one_moment
    from dagster_offload.ledger.reports import activity, status
    from dagster_offload.ledger.slots import holds, permits, rests
    from dagster_offload.ledger.slots import slots as rows

    see_one_moment(cur)
    running = Running(up, status.live_kinds(cur), activity.stopped_sensors(cur))
    obstacles = {}
    for slot in settings.slots.of_drains:
        row = rows.get(cur, slot.name)
        if (rest := rests.read_rest(cur, slot)) is not None:
            obstacles[slot.name] = Obstacle(rest.state, rest.until)
        elif row is not None and row.breaker != "closed":
            obstacles[slot.name] = Obstacle(running.describe_breaker(row))  # the next check may not be the end
    held = {
        (hold.slot, hold.stage): f"the stage is held, {hold.reason_text} ({WHERE_TO_READ_ON})"
        for hold in holds.list_holds(cur)
    }
    busy = {slot.name for slot in settings.slots.of_drains if permits.count_held(cur, slot.name)}
    return running, obstacles, held, busy


def _unhealthy(slots: Sequence[SlotConfig], busy: Collection[str], running: Running) -> dict[str, Obstacle]:
    """The slots whose probe says that they cannot be used. One that gives no answer while our calls are open is busy."""
    from dagster_offload.cli.quick_probe import quick_probe

    with ThreadPoolExecutor(max(len(slots), 1)) as threads:  # side by side: a probe takes seconds if a slot is away
        probes = zip(slots, threads.map(quick_probe, slots), strict=True)
        return {
            slot.name: Obstacle(f"unavailable: {running.describe_unhealthy(probe.reason)}")
            for slot, probe in probes
            if not (probe.healthy or (slot.name in busy and not probe.answered))
        }
