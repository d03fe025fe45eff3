"""Suspects: documents that may be the cause of a slot's failure.

A call failed, and either its answer was cut or the slot refused the trial after it. One such failure does not show
whether the document or the slot is at fault. So the document goes behind the others and is next tried alone. Three
suspicions quarantine it, if the slot answered in between. `decide` holds the rules; the rest reads and writes.
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

SUSPICIONS_TO_QUARANTINE = 3
# A slot that drops every tenth call would else, by chance, drop one of a thousand documents three times running.
SUSPICIONS_WHERE_CALLS_DROP = 6
SUSPECT_PAUSE_SECONDS = 60.0
SECONDS_BETWEEN_SUSPICIONS = 600.0
# So many documents failed one after the other and none was answered in between: the slot fails them all.
DOCUMENTS_IN_A_ROW_TO_OPEN = 3
# More documents than this that fail at the same moment first get another try side by side: one by one takes too long.
MOST_TO_RUN_ALONE_AT_ONCE = 8


@dataclass(frozen=True)
class Facts:
    """What the ledger knows once a call has failed and the trial after it has ended. The failure itself is counted."""

    is_slot_answering: bool  # the trial was answered
    ran_alone: bool
    failed_at_once: int  # documents that failed in the same epoch of the slot
    failed_in_a_row: (
        int  # documents that failed for the first time, in different epochs, since the slot last answered any
    )
    times_failed: int  # epochs in which this document failed
    suspicions: int  # failures alone that count, since the document was last answered; this one is not among them
    is_news: bool  # the slot answered another document since the last suspicion, or ten minutes have passed
    others_answered: bool  # the slot answered another document since this one first failed
    others_wait: bool  # another document waits for the slot
    drops_calls: bool  # the slot failed other documents meanwhile that it answered later


class Verdict(Enum):
    SLOT = auto()  # the slot fails every document
    UNDECIDED = auto()  # one of several that failed at once, or the first failure of a slot that then went away
    SUSPECT = auto()
    POISON = auto()


@dataclass(frozen=True)
class Decision:
    """What becomes of a document. `pause_seconds`: its own wait, whatever the slot does; None = until the slot is back."""

    verdict: Verdict
    runs_alone: bool = True
    pause_seconds: float | None = None


def decide(facts: Facts) -> Decision:
    """Whose failure it was, as far as anyone can tell."""
    if facts.failed_in_a_row >= DOCUMENTS_IN_A_ROW_TO_OPEN:
        return Decision(Verdict.SLOT)
    if facts.failed_at_once > 1:
        is_few = facts.failed_at_once <= MOST_TO_RUN_ALONE_AT_ONCE
        return Decision(Verdict.UNDECIDED, runs_alone=is_few or facts.times_failed > 1)
    if not (facts.is_slot_answering or facts.ran_alone):
        return Decision(Verdict.UNDECIDED)  # the slot may have gone away by itself
    suspicions = facts.suspicions + facts.is_news
    limit = SUSPICIONS_WHERE_CALLS_DROP if facts.drops_calls else SUSPICIONS_TO_QUARANTINE
    if suspicions >= limit and (facts.is_slot_answering or facts.others_answered):
        return Decision(Verdict.POISON)
    # Another document's turn first. If none waits, the next failure says something new only after a while.
    is_turn_of_others = facts.is_news and facts.others_wait
    return Decision(
        Verdict.SUSPECT, pause_seconds=SUSPECT_PAUSE_SECONDS if is_turn_of_others else SECONDS_BETWEEN_SUSPICIONS
    )


def note_cut(
    cur: Cursor, slot: str, epoch: int, item: ClaimedItem, reason: str, slot_reason: str | None = None
) -> bool:
    """A call was cut: open the breaker for a trial at once, and remember whose call it was.

    `slot_reason`: what the slot's row shows, with the document's name. False where the call belongs to an epoch that is
    over: the slot was away meanwhile, so the cut says nothing about it.
    """
    is_current = open_breaker(cur, slot, epoch, slot_reason or reason, None, at_once=True)
    _note(cur, slot, epoch, item, reason)
    return is_current


def suspect(cur: Cursor, worker_id: int, claim: Claim, item: ClaimedItem, call: CallRecord, reason: str) -> State:
    """After the trial: put the document behind the others, or quarantine it. Returns the work item's new state.

    A trial that was answered has closed the breaker and so ended the call's epoch.
    """
    slot = locked(cur, call.slot)  # before the failures, as `note_cut` does beside us
    if lock_held(cur, claim, item) is None:
        record_call(cur, worker_id, claim, item, call)
        return State.CLAIMED
    _note(cur, call.slot, call.epoch, item, reason)
    _note_trial(cur, call.slot, call.epoch, item)
    facts = _facts(cur, claim, call, slot)
    decision = decide(facts)
    if decision.verdict in {Verdict.SUSPECT, Verdict.POISON} and facts.is_news:
        _count_suspicion(cur, call, item)
    if decision.verdict is Verdict.POISON:
        record_call(cur, worker_id, claim, item, call)
        _quarantine(cur, worker_id, claim, item)
        return State.QUARANTINED
    words, due_after = reason, call.epoch
    if decision.verdict is Verdict.SLOT:
        _clear_suspicions_in_a_row(cur, call.slot)
        due_after = slot.epoch
        if facts.is_slot_answering:
            words = f"every_document_cut: {reason}"
            open_breaker(cur, call.slot, slot.epoch, words, None, pause_seconds=LONGEST_BACKOFF_SECONDS)
    if decision.verdict is Verdict.SUSPECT:
        words = f"{reason}: runs alone next"
    if decision.pause_seconds is not None:
        due_after = call.epoch + 1  # the slot's next closing says nothing new about this document
    wait = LONGEST_WAIT_SECONDS if decision.pause_seconds is None else decision.pause_seconds
    defer(cur, worker_id, claim, item, call, words, wait, call.slot, due_after)
    if decision.runs_alone:
        run_alone_next(cur, claim, decision.pause_seconds)
    return State.DEFERRED


def _note(cur: Cursor, slot: str, epoch: int, item: ClaimedItem, reason: str) -> None:
    """Remember a failure, once. Several at once make none of their documents a suspect."""
    # A file edited meanwhile took its work items along. Locked, because a scan may be at it at this moment.
    cur.execute(
        "insert into cuts (slot, epoch, item_id, reason) "
        "select %(slot)s, %(epoch)s, item_id, %(reason)s from work_items where item_id = %(item)s and not exists "
        "  (select 1 from cuts where slot = %(slot)s and epoch = %(epoch)s and item_id = %(item)s) for key share",
        {"slot": slot, "epoch": epoch, "item": item.item_id, "reason": reason},
    )
    # Also where the first of them was noted a moment earlier.
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
    """SQL: when a slot last answered a call about a document; `document` is an expression. By indexes, not a scan."""
    return (
        "coalesce((select max(a.ended_at) from work_items u join calls a using (item_id) "
        f"where u.document_id = {document} and a.outcome = 'ok'), '-infinity')"
    )


def _facts(cur: Cursor, claim: Claim, call: CallRecord, slot: SlotRow) -> Facts:
    """Suspicions are the document's, not the stage's: all its stages send the same text."""
    row = fetch_one(
        cur,
        "with ours as (select c.* from cuts c join work_items w using (item_id) where w.document_id = %(document)s), "
        f"answered as (select {_last_answered('%(document)s')} as at), "
        "since as (select ours.* from ours, answered where ours.at > answered.at), "
        "last as (select coalesce(max(ended_at), '-infinity') as ok from calls "
        "  where slot = %(slot)s and outcome = 'ok' and item_id is not null), "
        # A document that failed before the last answer, too, is an old suspect: it shows nothing about the slot.
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
        "    and c.document_id <> %(document)s and c.ended_at > before.at)) as is_news, "
        "exists (select 1 from calls c where c.slot = %(slot)s and c.outcome = 'ok' and c.document_id <> %(document)s "
        "  and c.ended_at > (select min(at) from since)) as others_answered, "
        "exists (select 1 from work_items where state in ('pending', 'deferred') and document_id <> %(document)s "
        "  and stage <> first_stage()) as others_wait, "
        # Not beside it: then this document may have been the cause.
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
    """The slot fails every document: none of those that failed since it last answered is a suspect."""
    cur.execute(
        "update cuts set is_suspicion = false where slot = %(slot)s and at > (select coalesce(max(ended_at), '-infinity') "
        "  from calls where slot = %(slot)s and outcome = 'ok' and item_id is not null)",
        {"slot": slot},
    )


def _quarantine(cur: Cursor, worker_id: int, claim: Claim, item: ClaimedItem) -> None:
    """Its other stages too, unless the slot has answered one of them: else each would be tried three times more."""
    words = _all_that_was_seen(cur, claim)
    cur.execute(
        "update work_items w set state = 'quarantined', reason = %(words)s, "
        "  not_before = null, changed_at = clock_timestamp() from work_items old "
        "where old.item_id = w.item_id and (w.item_id = %(item)s or (w.document_id = %(document)s "
        "  and w.stage <> first_stage() "
        "  and (w.state in ('pending', 'deferred') or w.token = %(token)s) "
        "  and not exists (select 1 from calls c where c.document_id = %(document)s and c.outcome = 'ok'))) "
        "returning w.stage, old.state as from_state",
        {
            "words": words,
            "item": item.item_id,
            "document": claim.document_id,
            "token": claim.token,
        },
    )
    for row in cur.fetchall():
        record_transition(cur, claim.document_id, row["stage"], row["from_state"], State.QUARANTINED, worker_id, words)


def _all_that_was_seen(cur: Cursor, claim: Claim) -> str:
    """`3 times HTTP 404 (trial: HTTP 429)`: every failure since the document was last answered, and what to do."""
    cur.execute(
        "select split_part(c.reason, ' (check ', 1) as reason, split_part(c.trial, ' (check ', 1) as trial, count(*) as n "
        "from cuts c join work_items w using (item_id) where w.document_id = %(document)s and c.reason is not null "
        f"  and c.at > {_last_answered('%(document)s')} group by 1, 2 order by min(c.at)",
        {"document": claim.document_id},
    )
    seen = []
    for row in cur.fetchall():
        trial = "answered" if row["trial"] == "ok" else row["trial"] or "none"
        seen.append(f"{row['n']} times {row['reason']} (trial: {trial})")
    return f"{', '.join(seen)}, while the slot answered others: look at the file, then `retry`"
