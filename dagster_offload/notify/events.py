"""Which events a channel is notified of, and in which words. Pure.

A message names documents, stages and reasons, as `up` does. It contains no text of a document.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.reports.status import ProblemGroup
from dagster_offload.ledger.slots.availability import Absence
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.settings.sections.notify import ChannelSettings, Event
from dagster_offload.text.counts import agreeing, counted, plural
from dagster_offload.text.plain_text import escaped

# Failures are reported together: the next notification waits this long, unless the work ends before.
GROUPED_SECONDS = 3600.0
NAMED = 10  # groups of failures
LONGEST_REASON = 200  # characters


@dataclass(frozen=True)
class Due:
    """The documents that are due in a stage which an unavailable slot would take now, because no better one is available.

    `waiting`: those of them that are due in a stage which no available slot answers meanwhile.
    """

    documents: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class Facts:
    """What was read for one channel. `left` and `need_you` count documents; `latest` is the newest transition.

    `failures` are those that no notification named, of `failed_documents`, by the transitions `failed`. `was_done`: something was
    done since the last notification that all is done. `is_working`: a scan, drain or run is alive. `seconds_for_others`: new
    failures were not read, because others may follow within this time; None: they were read. `due`: by unavailable slot.
    """

    latest: int
    left: int
    is_working: bool
    was_done: bool
    documents: int = 0
    need_you: int = 0
    failed: Sequence[int] = ()
    failures: Sequence[ProblemGroup] = ()
    failed_documents: int = 0
    seconds_for_others: float | None = None
    slots: Sequence[SlotRow] = ()
    holds: Sequence[Hold] = ()
    opened_at: dict[str, str] = field(default_factory=dict)
    absences: dict[str, Absence] = field(default_factory=dict)
    due: dict[str, Due] = field(default_factory=dict)


@dataclass(frozen=True)
class Notification:
    """One message. A channel gets at most one with the same `key`."""

    event: Event
    key: str
    title: str
    message: str


@dataclass(frozen=True)
class Decision:
    """The messages, and what was looked at with them. `seconds`: when to look again; None = at the next change."""

    messages: list[Notification]
    is_done_looked_at: bool
    are_failures_looked_at: bool
    seconds: float | None = None


def seconds_for_others(seconds_since_failures: float | None, *, is_over: bool) -> float | None:
    """Seconds for which new failures are kept back, because others may follow; None: not at all.

    `seconds_since_failures`: since the channel was last notified of failures, if it was. `is_over`: no work is left.
    """
    if is_over or seconds_since_failures is None or seconds_since_failures >= GROUPED_SECONDS:
        return None
    return GROUPED_SECONDS - seconds_since_failures


def decide(facts: Facts, channel: ChannelSettings) -> Decision:
    """Decide what this channel is notified of now."""
    is_over = not facts.left and not facts.is_working
    found = [
        *_done(facts, is_over=is_over),
        *_misconfigured(facts),
        *_held(facts),
        *_away(facts, channel.away_days),
        *_needs_you(facts, channel),
    ]
    return Decision(
        [notification for notification in found if notification.event in channel.events],
        is_done_looked_at=is_over,
        are_failures_looked_at=facts.seconds_for_others is None,
        seconds=facts.seconds_for_others,
    )


def _done(facts: Facts, *, is_over: bool) -> Iterator[Notification]:
    if is_over and facts.was_done:
        needs = f" {_verb(facts.need_you, 'need')} you: dagster-offload status" if facts.need_you else ""
        yield Notification(
            "done",
            f"done/{facts.latest}",
            "all done",
            f"{counted(facts.documents, 'document')}, nothing is left.{needs}",
        )


def _needs_you(facts: Facts, channel: ChannelSettings) -> Iterator[Notification]:
    if not facts.failures:
        return
    title = f"{_verb(facts.failed_documents, 'need')} you"
    lines = [group.line(LONGEST_REASON) for group in facts.failures[:NAMED]] if channel.names else []
    if channel.names and (more := sum(group.count for group in facts.failures[NAMED:])):
        lines.append(f"and {more:,} more")
    lines.append("What to do: dagster-offload status, and dagster-offload explain DOCUMENT")
    yield Notification("needs_you", f"needs_you/{max(facts.failed)}", title, "\n".join(lines))


def _misconfigured(facts: Facts) -> Iterator[Notification]:
    for slot in facts.slots:
        if slot.breaker is BreakerState.MISCONFIGURED:
            waits = _left(facts.left, facts.due.get(slot.name, Due()).waiting)
            code = (slot.reason or "").partition(":")[0].partition(" ")[0]
            yield Notification(
                "misconfigured",
                f"misconfigured/{slot.name}/{facts.opened_at.get(slot.name)}/{code}",
                f"the slot {slot.name} is misconfigured",
                f"{escaped(slot.reason_text[:LONGEST_REASON])}\n{waits}, and none is lost.\n"
                "The setting to change: dagster-offload doctor",
            )


def _held(facts: Facts) -> Iterator[Notification]:
    for hold in facts.holds:
        yield Notification(
            "misconfigured",
            f"held/{hold.slot}/{hold.stage}/{hold.since.isoformat()}",
            f"the slot {hold.slot} holds the stage {hold.stage}",
            f"{escaped(hold.reason_text[:LONGEST_REASON])}.\n{hold.left_text}, and none is lost. Other stages "
            f"go on.\nWhat to do: {hold.next_step}",
        )


def _away(facts: Facts, days: float) -> Iterator[Notification]:
    for slot in facts.slots:
        absence, due = facts.absences.get(slot.name), facts.due.get(slot.name, Due())
        if absence is None or absence.days < days or not due.documents or slot.breaker is BreakerState.MISCONFIGURED:
            continue
        yield Notification(
            "away",
            f"away/{slot.name}/{absence.number}",
            f"the slot {slot.name} is unavailable for {days:g} {plural('day', days)}",
            f"Since {absence.since.astimezone():%Y-%m-%d %H:%M}. {_left(due.documents, due.waiting)}, and none is lost.\n"
            f"Wake the machine, or look: dagster-offload doctor {slot.name}",
        )


def _left(count: int, waiting: int) -> str:
    """How many documents are left, and how many of them wait for a slot while the others go on."""
    if waiting and waiting >= count:
        return f"{_verb(count, 'wait')} for it"
    left = f"{counted(count, 'document')} left"
    return f"{left}, {waiting:,} of them {agreeing('wait', waiting)} for it" if waiting else left


def _verb(count: int, verb: str) -> str:
    return f"{counted(count, 'document')} {agreeing(verb, count)}"
