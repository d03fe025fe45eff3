"""Reads what happened since a channel was last notified, and stores its messages. One transaction, at a bounded cost."""

from collections.abc import Collection, Sequence

from dagster_offload.ledger.core.database import Cursor, Ledger, fetch_one
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.reports import news
from dagster_offload.ledger.reports.status import problem_groups_of
from dagster_offload.ledger.sinks import notifications
from dagster_offload.ledger.sinks.notifications import Marks
from dagster_offload.ledger.slots import availability, holds, slots
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.ledger.work import counts
from dagster_offload.notify.events import Decision, Due, Facts, decide, seconds_for_others
from dagster_offload.settings import Settings
from dagster_offload.slot.reserve import preferred_to, stages_left, without_held
from dagster_offload.stages.catalog import llm_stages, stages_by_slot


def look(ledger: Ledger, name: str, settings: Settings) -> float | None:
    """Store the messages that are due for this channel. Returns seconds after which to look again; None: at a change."""
    return ledger.run(_look, name, settings)


def _look(cur: Cursor, name: str, settings: Settings) -> float | None:
    marks = notifications.marks(cur, name)
    facts = _read(cur, marks, settings)
    decision = decide(facts, settings.channels[name])
    for notification in decision.messages:
        notifications.add(cur, name, notification.event, notification.key, notification.title, notification.message)
    _mark(cur, name, marks, facts, decision)
    return decision.seconds


def _read(cur: Cursor, marks: Marks, settings: Settings) -> Facts:
    known = slots.list_slots(cur)
    left = news.count_left(cur)
    is_working = bool(
        fetch_one(
            cur,
            "select exists (select from workers where kind = any(%s) and ended_at is null) as is_so",
            [list(news.KINDS)],
        )["is_so"]
    )
    is_over = not left and not is_working
    wait = seconds_for_others(marks.seconds_since_failures, is_over=is_over)
    seen = set(marks.seen)
    failed = (
        [] if wait else [number for number in news.failed_transitions(cur, marks.failures_to) if number not in seen]
    )
    # After the counts: what is done by now was done by these transitions.
    latest = int(fetch_one(cur, "select coalesce(max(transition_id), 0) as n from transitions")["n"])
    held = holds.list_holds(cur)
    absences = {slot.name: found for slot in known if (found := availability.absence(cur, slot.name)) is not None}
    return Facts(
        latest=latest,
        left=left,
        is_working=is_working,
        was_done=is_over and latest > marks.done_to and _was_done(cur, marks.done_to),
        documents=counts.count_documents(cur) if is_over else 0,
        need_you=news.count_failed(cur) if is_over else 0,
        failed=failed,
        failures=problem_groups_of(cur, failed, news.NAMED) if failed else [],
        failed_documents=news.count_still_failed(cur, failed) if failed else 0,
        seconds_for_others=wait,
        slots=known,
        holds=held,
        opened_at=_opened_at(cur),
        absences=absences,
        due=_due_by_slot(cur, known, absences, held, settings),
    )


def _was_done(cur: Cursor, mark: int) -> bool:
    # A correction changes what is done already, and is no work.
    cur.execute(
        "select from transitions where transition_id > %s and to_state = 'done' "
        "and from_state is distinct from 'done' limit 1",
        [mark],
    )
    return cur.rowcount > 0


def _opened_at(cur: Cursor) -> dict[str, str]:
    cur.execute("select name, opened_at from slots where opened_at is not null")
    return {row["name"]: row["opened_at"].isoformat() for row in cur.fetchall()}


def _due_by_slot(
    cur: Cursor, known: Sequence[SlotRow], absent: Collection[str], held: Sequence[Hold], settings: Settings
) -> dict[str, Due]:
    """What is due for those of the unavailable slots that drains use. A better slot that is available leaves a slot no stage."""
    of_drains, stages = settings.slots.of_drains, stages_by_slot(settings, llm_stages(settings))
    held_stages = holds.by_slot(held)
    working = {slot.name for slot in known if slot.breaker is BreakerState.CLOSED and slot.name not in absent}
    answered = {
        stage
        for slot in of_drains
        if slot.name in working
        for stage in stages[slot.name]
        if stage not in held_stages.get(slot.name, ())
    }
    found = {}
    for slot in of_drains:
        if slot.name not in working:
            taken = stages_left(without_held(slot.name, preferred_to(slot, of_drains, stages), held_stages), working)
            waiting = [stage for stage in taken if stage not in answered]
            documents = _due(cur, taken)
            found[slot.name] = Due(documents, documents if waiting == taken else _due(cur, waiting))
    return found


def _due(cur: Cursor, stages: Sequence[str]) -> int:
    if not stages:
        return 0
    row = fetch_one(
        cur,
        "select count(distinct document_id) as n from (select document_id from work_items "
        "where state in ('pending', 'deferred') and stage = any(%s) limit %s) w",
        [list(stages), news.MOST_COUNTED * len(stages)],
    )
    return min(int(row["n"]), news.MOST_COUNTED)


def _mark(cur: Cursor, name: str, marks: Marks, facts: Facts, decision: Decision) -> None:
    if decision.is_done_looked_at and facts.latest > marks.done_to:
        notifications.mark_done(cur, name, facts.latest)
    if decision.are_failures_looked_at:
        notifications.mark_failures(cur, name, [*marks.seen, *facts.failed])
    if any(notification.event == "needs_you" for notification in decision.messages):
        notifications.mark_grouped(cur, name)
