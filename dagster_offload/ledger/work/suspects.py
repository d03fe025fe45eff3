"""Suspects: documents that may be the cause of a slot's failure.

A document becomes a suspect if its answer was cut, or if its call failed and the slot refused the trial after it. One such
failure does not show whether the document or the slot is at fault. So the document runs after the others, and alone. Three
suspicions quarantine it if the slot answered in between. `decide` holds the rules; the other functions read and write.
"""

from dataclasses import dataclass
from enum import Enum, auto

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import CallRecord, Claim, ClaimedItem, SlotRow, State
from dagster_offload.ledger.core.transitions import record_transition
from dagster_offload.ledger.slots.breaker import LONGEST_BACKOFF_SECONDS, open_breaker
from dagster_offload.ledger.slots.slots import locked
from dagster_offload.ledger.work.deferrals import LONGEST_WAIT_SECONDS, defer, run_alone_next
from dagster_offload.ledger.work.finish import lock_held, record_call
from dagster_offload.text.counts import counted

SUSPICIONS_TO_QUARANTINE = 3
# Otherwise a slot that drops every tenth call would by chance drop one document in a thousand three times in a row.
SUSPICIONS_WHERE_CALLS_DROP = 6
SUSPECT_PAUSE_SECONDS = 60.0
SECONDS_BETWEEN_SUSPICIONS = 600.0
# If this many documents fail in a row and none is answered in between, the slot fails every document.
DOCUMENTS_IN_A_ROW_TO_OPEN = 3
# If more documents than this fail at once, they are first retried together: one by one would take too long.
MOST_TO_RUN_ALONE_AT_ONCE = 8


@dataclass(frozen=True)
class Facts:
    """What the ledger knows after a call failed and the trial after it ended. The counts include this failure."""

    is_slot_answering: bool  # the trial was answered
    ran_alone: bool
    failed_at_once: int  # documents that failed in the same epoch of the slot
    failed_in_a_row: int  # documents that first failed, in different epochs, since the slot last answered any
    times_failed: int  # epochs in which this document failed
    suspicions: int  # suspicions since the document was last answered, without this one
    is_new_evidence: bool  # the slot answered another document since the last suspicion, or ten minutes have passed
    others_answered: bool  # the slot answered another document since this one first failed
    others_wait: bool  # another document waits for the slot
    drops_calls: bool  # meanwhile the slot failed other documents and answered them later


class Verdict(Enum):
    """The assumed cause of a failure."""

    SLOT = auto()  # the slot fails every document
    UNDECIDED = auto()  # several documents failed at once, or the slot became unavailable after the failure
    SUSPECT = auto()  # the document may be the cause
    POISON = auto()  # the document is the cause: quarantine it


@dataclass(frozen=True)
class Decision:
    """What happens to a document. `pause_seconds`: a wait that does not depend on the slot; None = until it is back."""

    verdict: Verdict
    runs_alone: bool = True
    pause_seconds: float | None = None


def decide(facts: Facts) -> Decision:
    """Decide the likely cause of a failure, and how the document is retried."""
    if facts.failed_in_a_row >= DOCUMENTS_IN_A_ROW_TO_OPEN:
        return Decision(Verdict.SLOT)
    if facts.failed_at_once > 1:
        is_few = facts.failed_at_once <= MOST_TO_RUN_ALONE_AT_ONCE
        return Decision(Verdict.UNDECIDED, runs_alone=is_few or facts.times_failed > 1)
    if not (facts.is_slot_answering or facts.ran_alone):
        return Decision(Verdict.UNDECIDED)  # the slot may have become unavailable by itself
    suspicions = facts.suspicions + facts.is_new_evidence
    limit = SUSPICIONS_WHERE_CALLS_DROP if facts.drops_calls else SUSPICIONS_TO_QUARANTINE
    if suspicions >= limit and (facts.is_slot_answering or facts.others_answered):
        return Decision(Verdict.POISON)
    # Other documents run first. If none waits, another failure is new evidence only after some time.
    is_turn_of_others = facts.is_new_evidence and facts.others_wait
    return Decision(
        Verdict.SUSPECT, pause_seconds=SUSPECT_PAUSE_SECONDS if is_turn_of_others else SECONDS_BETWEEN_SUSPICIONS
    )


def note_cut(
    cur: Cursor, slot: str, epoch: int, item: ClaimedItem, reason: str, slot_reason: str | None = None
) -> bool:
    """Record that a call was cut: open the breaker for an immediate trial, and store the work item of the call.

    `slot_reason`: the reason that the slot's row shows, with the document's name. False if the call belongs to an epoch that
    is over: the slot was unavailable meanwhile, so the cut shows nothing about the slot now.
    """
    is_current = open_breaker(cur, slot, epoch, slot_reason or reason, None, at_once=True)
    _note(cur, slot, epoch, item, reason)
    return is_current


def suspect(cur: Cursor, worker_id: int, claim: Claim, item: ClaimedItem, call: CallRecord, reason: str) -> State:
    """After the trial, defer the document behind the others or quarantine it. Returns the work item's new state. Raises
    `SlotForgotten`.

    A trial that was answered has closed the breaker and so ended the call's epoch.
    """
    slot = locked(cur, call.slot)  # before the rows of `cuts`: `note_cut` locks in the same order
    if lock_held(cur, claim, item) is None:
        record_call(cur, worker_id, claim, item, call)
        return State.CLAIMED
    _note(cur, call.slot, call.epoch, item, reason)
    _note_trial(cur, call.slot, call.epoch, item)
    facts = _facts(cur, claim, call, slot)
    decision = decide(facts)
    if decision.verdict in {Verdict.SUSPECT, Verdict.POISON} and facts.is_new_evidence:
        _count_suspicion(cur, call, item)
    if decision.verdict is Verdict.POISON:
        record_call(cur, worker_id, claim, item, call)
        _quarantine(cur, worker_id, claim, item)
        return State.QUARANTINED
    shown_reason, due_after = reason, call.epoch
    if decision.verdict is Verdict.SLOT:
        _clear_suspicions_in_a_row(cur, call.slot)
        due_after = slot.epoch
        if facts.is_slot_answering:
            shown_reason = f"every_document_cut: {reason}"
            open_breaker(cur, call.slot, slot.epoch, shown_reason, None, pause_seconds=LONGEST_BACKOFF_SECONDS)
    if decision.verdict is Verdict.SUSPECT:
        shown_reason = f"{reason}: runs alone next"
    if decision.pause_seconds is not None:
        due_after = call.epoch + 1  # the next closing of the breaker shows nothing new about this document
    wait = LONGEST_WAIT_SECONDS if decision.pause_seconds is None else decision.pause_seconds
    defer(cur, worker_id, claim, item, call, shown_reason, wait, call.slot, due_after)
    if decision.runs_alone:
        run_alone_next(cur, claim, decision.pause_seconds)
    return State.DEFERRED


def _note(cur: Cursor, slot: str, epoch: int, item: ClaimedItem, reason: str) -> None:
    """Record a failure once. If several documents fail at once, none of them becomes a suspect."""
    # If the file was edited meanwhile, its work items are gone. The lock keeps a concurrent scan from removing them now.
    cur.execute(
        "insert into cuts (slot, epoch, item_id, reason) "
        "select %(slot)s, %(epoch)s, item_id, %(reason)s from work_items where item_id = %(item)s and not exists "
        "  (select 1 from cuts where slot = %(slot)s and epoch = %(epoch)s and item_id = %(item)s) for key share",
        {"slot": slot, "epoch": epoch, "item": item.item_id, "reason": reason},
    )
    # This also clears a failure that was recorded a moment earlier.
    cur.execute(
        "update cuts set is_suspicion = false where slot = %(slot)s and epoch = %(epoch)s and "
        "(select count(distinct item_id) from cuts where slot = %(slot)s and epoch = %(epoch)s) > 1",
        {"slot": slot, "epoch": epoch},
    )


def _note_trial(cur: Cursor, slot: str, epoch: int, item: ClaimedItem) -> None:
    cur.execute(
        "update cuts set trial = (select c.outcome from calls c where c.slot = %(slot)s and c.epoch = %(epoch)s "
        "  and c.item_id is null order by c.call_id desc limit 1) "
        "where slot = %(slot)s and epoch = %(epoch)s and item_id = %(item)s",
        {"slot": slot, "epoch": epoch, "item": item.item_id},
    )


def _last_answered(document: str) -> str:
    """SQL for the time when a slot last answered a call for a document. `document` is an SQL expression. Uses indexes."""
    return (
        "coalesce((select max(a.ended_at) from work_items u join calls a using (item_id) "
        f"where u.document_id = {document} and a.outcome = 'ok'), '-infinity')"
    )


def _facts(cur: Cursor, claim: Claim, call: CallRecord, slot: SlotRow) -> Facts:
    """Read the facts. Suspicions belong to the document, not to a stage: all its stages send the same text."""
    row = fetch_one(
        cur,
        "with ours as (select c.* from cuts c join work_items w using (item_id) where w.document_id = %(document)s), "
        f"answered as (select {_last_answered('%(document)s')} as at), "
        "since as (select ours.* from ours, answered where ours.at > answered.at), "
        "last as (select coalesce(max(ended_at), '-infinity') as ok from calls "
        "  where slot = %(slot)s and outcome = 'ok' and item_id is not null), "
        # A document that also failed before the last answer is an old suspect: it shows nothing about the slot.
        "row as (select c.item_id, c.epoch from last, cuts c join work_items w using (item_id) "
        "  where c.slot = %(slot)s and c.at > last.ok and not exists ("
        "    select 1 from cuts old join work_items v using (item_id) where v.document_id = w.document_id "
        "    and old.slot = %(slot)s and old.at <= last.ok and old.at > "
        f"    {_last_answered('w.document_id')})) "
        "select "
        "(select count(distinct item_id) from cuts where slot = %(slot)s and epoch = %(epoch)s) as failed_at_once, "
        "(select least(count(distinct item_id), count(distinct epoch)) from row) as failed_in_a_row, "
        "(select count(distinct (slot, epoch)) from ours) as times_failed, "
        "(select count(distinct (slot, epoch)) from since where is_suspicion) as suspicions, "
        "not exists (select 1 from ours before where is_suspicion "
        "  and before.at > clock_timestamp() - make_interval(secs => %(apart)s) "
        "  and not exists (select 1 from calls c where c.slot = %(slot)s and c.outcome = 'ok' "
        "    and c.document_id <> %(document)s and c.ended_at > before.at)) as is_new_evidence, "
        "exists (select 1 from calls c where c.slot = %(slot)s and c.outcome = 'ok' and c.document_id <> %(document)s "
        "  and c.ended_at > (select min(at) from since)) as others_answered, "
        "exists (select 1 from work_items where state in ('pending', 'deferred') and document_id <> %(document)s "
        "  and stage <> first_stage()) as others_wait, "
        # Not in the same epoch: then this document may have been the cause.
        "exists (select 1 from cuts c join work_items w using (item_id) where c.slot = %(slot)s "
        "  and w.document_id <> %(document)s and c.at > (select min(at) from ours where slot = %(slot)s) "
        "  and c.epoch not in (select epoch from ours where slot = %(slot)s) "
        "  and exists (select 1 from calls a where a.item_id = c.item_id and a.outcome = 'ok' and a.ended_at > c.at)) "
        "  as drops_calls",
        {
            "slot": call.slot,
            "epoch": call.epoch,
            "document": claim.document_id,
            "apart": SECONDS_BETWEEN_SUSPICIONS,
        },
    )
    return Facts(is_slot_answering=slot.epoch > call.epoch, ran_alone=claim.is_alone, **row)


def _count_suspicion(cur: Cursor, call: CallRecord, item: ClaimedItem) -> None:
    cur.execute(
        "update cuts set is_suspicion = true where slot = %s and epoch = %s and item_id = %s",
        [call.slot, call.epoch, item.item_id],
    )


def _clear_suspicions_in_a_row(cur: Cursor, slot: str) -> None:
    """Clear the suspicions since the slot last answered: it fails every document, so none of them is a suspect."""
    cur.execute(
        "update cuts set is_suspicion = false where slot = %(slot)s and at > (select coalesce(max(ended_at), '-infinity') "
        "  from calls where slot = %(slot)s and outcome = 'ok' and item_id is not null)",
        {"slot": slot},
    )


def _quarantine(cur: Cursor, worker_id: int, claim: Claim, item: ClaimedItem) -> None:
    """Quarantine the item, and the document's other LLM stages unless the slot has answered one of them: otherwise each
    would be tried three more times."""
    reason = _failure_history(cur, claim)
    cur.execute(
        "update work_items w set state = 'quarantined', reason = %(reason)s, "
        "  not_before = null, changed_at = clock_timestamp() from work_items old "
        "where old.item_id = w.item_id and (w.item_id = %(item)s or (w.document_id = %(document)s "
        "  and w.stage <> first_stage() "
        "  and (w.state in ('pending', 'deferred') or w.token = %(token)s) "
        "  and not exists (select 1 from calls c where c.document_id = %(document)s and c.outcome = 'ok'))) "
        "returning w.stage, old.state as from_state",
        {
            "reason": reason,
            "item": item.item_id,
            "document": claim.document_id,
            "token": claim.token,
        },
    )
    for row in cur.fetchall():
        record_transition(cur, claim.document_id, row["stage"], row["from_state"], State.QUARANTINED, worker_id, reason)


def _failure_history(cur: Cursor, claim: Claim) -> str:
    """All failures since the document was last answered, such as `3 times HTTP 404 (trial: HTTP 429)`, and the next step."""
    cur.execute(
        # Without the setting to check, and with the server's words behind it.
        r"select regexp_replace(c.reason, ' \(check [^)]*\)', '') as reason, "
        r"  regexp_replace(c.trial, ' \(check [^)]*\)', '') as trial, count(*) as n "
        "from cuts c join work_items w using (item_id) where w.document_id = %(document)s and c.reason is not null "
        f"  and c.at > {_last_answered('%(document)s')} group by 1, 2 order by min(c.at)",
        {"document": claim.document_id},
    )
    failures = []
    for row in cur.fetchall():
        trial = "answered" if row["trial"] == "ok" else row["trial"] or "none"
        failures.append(f"{counted(row['n'], 'time')} {row['reason']} (trial: {trial})")
    return f"{', '.join(failures)}, while the slot answered others: check the file, then `retry`"
