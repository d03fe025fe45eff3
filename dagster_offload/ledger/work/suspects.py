"""Poison documents: whose fault it is that a call was cut.

A document whose call alone is cut while the slot answers a trial is a suspect and next runs alone; three suspicions
quarantine it. Where nothing but cuts comes of document after document, the slot is at fault, whatever it says to trials.
"""

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import CallRecord, Claim, ClaimedItem, State
from dagster_offload.ledger.core.transitions import record_transition
from dagster_offload.ledger.slots.breaker import LONGEST_BACKOFF_SECONDS, open_breaker
from dagster_offload.ledger.slots.slots import locked
from dagster_offload.ledger.work.deferrals import LONGEST_WAIT_SECONDS, defer, others_wait, run_alone_next
from dagster_offload.ledger.work.finish import lock_held, record_call
from dagster_offload.stages.graph import EXTRACT

SUSPICIONS_TO_QUARANTINE = 3
# A slot that drops every tenth call would else, by chance, drop one of a thousand documents three times running.
SUSPICIONS_WHERE_CALLS_DROP = 6
SUSPECT_PAUSE_SECONDS = 60.0
SECONDS_BETWEEN_SUSPICIONS = 600.0
# Cut in a row, no document answered between: then the slot cuts everything, and answers to trials do not clear it.
DOCUMENTS_CUT_TO_OPEN = 3


def note_cut(cur: Cursor, slot: str, epoch: int, item: ClaimedItem, reason: str) -> bool:
    """A call was cut: open the breaker for a trial at once, and remember whose call it was.

    False where the call belongs to an epoch that is over: the slot was away meanwhile, so the cut says nothing about it.
    """
    is_current = open_breaker(cur, slot, epoch, reason, None, at_once=True)
    # A file edited meanwhile took its work items along. Locked, because a scan may be at it at this moment.
    cur.execute(
        "insert into cuts (slot, epoch, item_id) "
        "select %s, %s, item_id from work_items where item_id = %s for key share",
        [slot, epoch, item.item_id],
    )
    # Several cut at once convict nobody, also where one of them was told a moment earlier.
    cur.execute(
        "update cuts set is_suspicion = false where slot = %(slot)s and epoch = %(epoch)s and "
        "(select count(distinct item_id) from cuts where slot = %(slot)s and epoch = %(epoch)s) > 1",
        {"slot": slot, "epoch": epoch},
    )
    return is_current


def suspect(cur: Cursor, worker_id: int, claim: Claim, item: ClaimedItem, call: CallRecord, reason: str) -> State:
    """The trial after a cut was answered: the only document cut in that epoch is a suspect and next runs alone.

    Suspicions are the document's, since it was last answered: all its stages send the same text. They count where
    another document's call ended well since the last one, or ten minutes went by; the third quarantines, at a slot that
    drops calls by itself the sixth. Several cut at once convict nobody; one to whom that happens again runs alone, or
    one of them could cut the others' calls for ever. Nor do several cut one after the other: then the breaker opens
    again, trial or no trial.
    """
    locked(cur, call.slot)  # before the cuts, as `note_cut` does beside us
    if lock_held(cur, claim, item) is None:
        record_call(cur, worker_id, claim, item, call)
        return State.CLAIMED
    if _clear_where_everything_is_cut(cur, call.slot):
        words, epoch = f"every_document_cut: {reason}", locked(cur, call.slot).epoch
        open_breaker(cur, call.slot, epoch, words, None, pause_seconds=LONGEST_BACKOFF_SECONDS)
        defer(cur, worker_id, claim, item, call, words, LONGEST_WAIT_SECONDS, call.slot, epoch)
        run_alone_next(cur, claim)
        return State.DEFERRED
    others = fetch_one(
        cur, "select count(distinct item_id) as n from cuts where slot = %s and epoch = %s", [call.slot, call.epoch]
    )
    if others["n"] > 1:
        defer(cur, worker_id, claim, item, call, reason, 0.0, call.slot, call.epoch)
        if _times_cut(cur, claim.document_id) > 1:
            run_alone_next(cur, claim)
        return State.DEFERRED
    suspicions, is_new = _add_suspicion(cur, call.slot, call.epoch, claim, item)
    if suspicions < (SUSPICIONS_WHERE_CALLS_DROP if _drops_calls(cur, call.slot, claim) else SUSPICIONS_TO_QUARANTINE):
        # Another document's turn first; where none waits, only time makes the next cut say something new.
        is_turn_of_others = is_new and others_wait(cur, claim)
        pause = SUSPECT_PAUSE_SECONDS if is_turn_of_others else SECONDS_BETWEEN_SUSPICIONS
        words = f"{reason}: runs alone next"
        defer(cur, worker_id, claim, item, call, words, pause, call.slot, call.epoch + 1)
        run_alone_next(cur, claim, pause)
        return State.DEFERRED
    record_call(cur, worker_id, claim, item, call)
    words = f"{reason} {suspicions} times while the slot answered others: look at the file, then `retry`"
    # Its other stages with it, unless the slot has answered one of them: else each would be tried three times more.
    cur.execute(
        "update work_items w set state = 'quarantined', reason = %(words)s, worker_id = null, token = null, "
        "  claimed_at = null, not_before = null, changed_at = clock_timestamp() from work_items old "
        "where old.item_id = w.item_id and (w.item_id = %(item)s or (w.document_id = %(document)s "
        "  and w.stage <> %(extract)s and (w.state in ('pending', 'deferred') or w.token = %(token)s) "
        "  and not exists (select 1 from calls c where c.document_id = %(document)s and c.outcome = 'ok'))) "
        "returning w.stage, old.state as from_state",
        {
            "words": words,
            "item": item.item_id,
            "document": claim.document_id,
            "extract": EXTRACT,
            "token": claim.token,
        },
    )
    for row in cur.fetchall():
        record_transition(cur, claim.document_id, row["stage"], row["from_state"], State.QUARANTINED, worker_id, words)
    return State.QUARANTINED


def _clear_where_everything_is_cut(cur: Cursor, slot: str) -> bool:
    """Whether documents were cut one after the other and none was answered between; if so, none of them is a suspect.

    Over epochs, because the trial after each was answered; a burst in one epoch may be a server that was restarted.
    """
    cur.execute(
        "with last as (select coalesce(max(ended_at), '-infinity') as ok from calls "
        "  where slot = %(slot)s and outcome = 'ok' and item_id is not null), "
        "row as (select cut_id, item_id, epoch from cuts, last where slot = %(slot)s and at > last.ok) "
        "update cuts set is_suspicion = false where cut_id in (select cut_id from row) and "
        "(select least(count(distinct item_id), count(distinct epoch)) from row) >= %(n)s",
        {"slot": slot, "n": DOCUMENTS_CUT_TO_OPEN},
    )
    return cur.rowcount > 0


def _drops_calls(cur: Cursor, slot: str, claim: Claim) -> bool:
    """Whether, since this document was first cut, the slot cut others too that it answered later, not beside it."""
    row = fetch_one(
        cur,
        "with ours as (select c.epoch, c.at from cuts c join work_items w using (item_id) "
        "  where c.slot = %(slot)s and w.document_id = %(document)s) "
        "select exists (select 1 from cuts c join work_items w using (item_id) where c.slot = %(slot)s "
        "  and w.document_id <> %(document)s and c.at > (select min(at) from ours) "
        "  and c.epoch not in (select epoch from ours) "
        "  and exists (select 1 from calls a where a.item_id = c.item_id and a.outcome = 'ok' and a.ended_at > c.at)) "
        "  as is_so",
        {"slot": slot, "document": claim.document_id},
    )
    return bool(row["is_so"])


def _add_suspicion(cur: Cursor, slot: str, epoch: int, claim: Claim, item: ClaimedItem) -> tuple[int, bool]:
    """Count this cut if it says something new; how many suspicions the document has, and whether this is one."""
    cur.execute(
        "update cuts set is_suspicion = true where slot = %(slot)s and epoch = %(epoch)s and item_id = %(item)s and "
        "not exists (select 1 from cuts before join work_items w on w.item_id = before.item_id "
        "  where w.document_id = %(document)s and before.is_suspicion "
        "  and before.at > clock_timestamp() - make_interval(secs => %(apart)s) "
        "  and not exists (select 1 from calls c where c.slot = %(slot)s and c.outcome = 'ok' "
        "    and c.document_id <> %(document)s and c.ended_at > before.at))",
        {
            "slot": slot,
            "epoch": epoch,
            "item": item.item_id,
            "document": claim.document_id,
            "apart": SECONDS_BETWEEN_SUSPICIONS,
        },
    )
    is_new = cur.rowcount > 0
    row = fetch_one(
        cur,
        "select count(distinct (slot, epoch)) as n from cuts join work_items using (item_id) "
        "where document_id = %(document)s and is_suspicion and at > coalesce("
        "  (select max(ended_at) from calls where document_id = %(document)s and outcome = 'ok'), '-infinity')",
        {"document": claim.document_id},
    )
    return int(row["n"]), is_new


def _times_cut(cur: Cursor, document_id: int) -> int:
    row = fetch_one(
        cur,
        "select count(distinct (slot, epoch)) as n from cuts join work_items using (item_id) where document_id = %s",
        [document_id],
    )
    return int(row["n"])
