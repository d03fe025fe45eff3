"""What happens to a work item whose call brought no result: put off, tried again, failed, suspected, quarantined.

Deferrals cost no attempt. Document faults cost one; three fail the document. A document whose call alone is cut while
the slot answers a trial is a suspect and next runs alone; three suspicions quarantine it. Where nothing but cuts comes
of document after document, the slot is at fault, whatever it says to trials.
"""

from dagster_offload.ledger import Cursor, fetch_one
from dagster_offload.ledger.breaker import LONGEST_BACKOFF_SECONDS, count_document_fault, open_breaker
from dagster_offload.ledger.claims import release
from dagster_offload.ledger.records import CallRecord, Claim, ClaimedItem, State
from dagster_offload.ledger.results import lock_held, record_call
from dagster_offload.ledger.slots import locked
from dagster_offload.ledger.workers import record_transition
from dagster_offload.stages import EXTRACT

LONGEST_WAIT_SECONDS = 30 * 60.0
BACKOFF_SECONDS = (60.0, 600.0)  # after the first and the second attempt
ATTEMPTS_TO_FAIL = 3
SUSPICIONS_TO_QUARANTINE = 3
SUSPECT_PAUSE_SECONDS = 60.0
SECONDS_BETWEEN_SUSPICIONS = 600.0
# Cut in a row, no document answered between: then the slot cuts everything, and answers to trials do not clear it.
DOCUMENTS_CUT_TO_OPEN = 3
# A document that is refused and refused must not keep the others from their turn: from then on it comes last.
REFUSALS_TO_RUN_ALONE = 3


def defer(
    cur: Cursor,
    worker_id: int,
    claim: Claim,
    item: ClaimedItem,
    call: CallRecord | None,
    reason: str,
    wait_seconds: float,
    slot: str,
    epoch: int,
) -> None:
    """Put one touched work item off until the slot is back, at most 30 minutes, at no attempt."""
    if call is not None:
        record_call(cur, worker_id, claim, item, call)
    if lock_held(cur, claim, item) is None:
        return
    cur.execute(
        "update work_items set state = 'deferred', deferrals = deferrals + 1, reason = %s, deferred_slot = %s, "
        "  deferred_epoch = %s, not_before = clock_timestamp() + make_interval(secs => %s), worker_id = null, "
        "  token = null, claimed_at = null, changed_at = clock_timestamp() where item_id = %s",
        [reason, slot, epoch, min(wait_seconds, LONGEST_WAIT_SECONDS), item.item_id],
    )
    record_transition(cur, claim.document_id, item.stage, State.CLAIMED, State.DEFERRED, worker_id, reason)


def open_and_defer(
    cur: Cursor,
    worker_id: int,
    claim: Claim,
    item: ClaimedItem,
    call: CallRecord,
    reason: str,
    retry_after_seconds: float | None,
    default_wait_seconds: float,
) -> None:
    """The slot's breaker and the one work item that was touched, in one transaction.

    What the slot refuses again and again runs alone, after others that wait. Where it answers them and refuses this one, its
    next closing says nothing new about this one, which then waits for its own time.
    """
    open_breaker(cur, call.slot, call.epoch, reason, retry_after_seconds)
    wait = default_wait_seconds if retry_after_seconds is None else retry_after_seconds
    is_lone = claim.is_alone and _answers_others_meanwhile(cur, call.slot, claim, item)
    defer(cur, worker_id, claim, item, call, reason, wait, call.slot, call.epoch + is_lone)
    if item.deferrals + 1 >= REFUSALS_TO_RUN_ALONE and _others_wait(cur, claim):
        _run_alone_next(cur, claim)


def _others_wait(cur: Cursor, claim: Claim) -> bool:
    row = fetch_one(
        cur,
        "select exists (select 1 from work_items where state in ('pending', 'deferred') and not must_run_alone "
        "  and document_id <> %s and stage <> %s) as is_so",
        [claim.document_id, EXTRACT],
    )
    return bool(row["is_so"])


def _answers_others_meanwhile(cur: Cursor, slot: str, claim: Claim, item: ClaimedItem) -> bool:
    """Whether the slot answered other documents since it first refused this one."""
    row = fetch_one(
        cur,
        "select exists (select 1 from calls other where other.slot = %(slot)s and other.outcome = 'ok' "
        "  and other.document_id <> %(document)s and other.ended_at > "
        "  (select min(ended_at) from calls where item_id = %(item)s and slot = %(slot)s and outcome <> 'ok')) as is_so",
        {"slot": slot, "document": claim.document_id, "item": item.item_id},
    )
    return bool(row["is_so"])


def release_after_slot_fault(
    cur: Cursor, worker_id: int, claim: Claim, item: ClaimedItem, call: CallRecord, reason: str
) -> None:
    """The slot refused a trial too: the claim is released, no attempt is spent."""
    record_call(cur, worker_id, claim, item, call)
    release(cur, worker_id, claim, reason)


def fail(
    cur: Cursor,
    worker_id: int,
    claim: Claim,
    item: ClaimedItem,
    code: str,
    message: str,
    call: CallRecord | None,
    *,
    is_final: bool,
) -> State:
    """A document's own fault costs one attempt: back-off 1 and 10 minutes, then FAILED (at once where `is_final`).

    The same fault in five different documents in a row is the slot's: it becomes `misconfigured` and the attempts are
    given back. Returns the item's new state (its present one where the claim no longer holds it).
    """
    if call is not None:
        record_call(cur, worker_id, claim, item, call)
    held = lock_held(cur, claim, item)
    if held is None:
        return State.CLAIMED
    attempts = held["attempts"] + 1  # not the claim's: some may have been given back since
    state = State.FAILED if is_final or attempts >= ATTEMPTS_TO_FAIL else State.PENDING
    pause = BACKOFF_SECONDS[min(attempts, len(BACKOFF_SECONDS)) - 1]
    cur.execute(
        "update work_items set state = %s, attempts = %s, reason = %s, worker_id = null, token = null, "
        "  claimed_at = null, changed_at = clock_timestamp(), "
        "  not_before = case when %s then clock_timestamp() + make_interval(secs => %s) end where item_id = %s",
        [state, attempts, f"{code}: {message}", state is State.PENDING, pause, item.item_id],
    )
    record_transition(cur, claim.document_id, item.stage, State.CLAIMED, state, worker_id, f"{code}: {message}")
    if call is not None:
        give_back = count_document_fault(cur, call.slot, code, item.item_id)
        if give_back:
            _give_attempts_back(cur, give_back, f"every_document_refused: {code}")
            return State.PENDING
    return state


def _give_attempts_back(cur: Cursor, item_ids: list[int], reason: str) -> None:
    cur.execute(
        "update work_items w set attempts = greatest(w.attempts - g.n, 0), changed_at = clock_timestamp() "
        "from (select id, count(*) as n from unnest(%s::bigint[]) as id group by id) g where w.item_id = g.id",
        [item_ids],
    )
    cur.execute(
        "update work_items w set state = 'pending', not_before = null, reason = %s from work_items old "
        "where w.item_id = any(%s) and old.item_id = w.item_id and w.state in ('pending', 'failed') "
        "returning w.document_id, w.stage, old.state as from_state",
        [reason, item_ids],
    )
    for row in cur.fetchall():
        record_transition(cur, row["document_id"], row["stage"], row["from_state"], State.PENDING, None, reason)


def note_cut(cur: Cursor, slot: str, epoch: int, item: ClaimedItem, reason: str) -> bool:
    """A call was cut: open the breaker for a trial at once, and remember whose call it was.

    False where the call belongs to an epoch that is over: the slot was away meanwhile, so the cut says nothing about it.
    """
    is_current = open_breaker(cur, slot, epoch, reason, None, at_once=True)
    # A file edited or gone meanwhile took its work items along.
    cur.execute(
        "insert into cuts (slot, epoch, item_id) select %s, %s, item_id from work_items where item_id = %s",
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

    Suspicions count where another call ended well since the last one, or ten minutes went by; the third quarantines.
    Several cut at once convict nobody; one to whom that happens again runs alone, or one of them could cut the others'
    calls for ever. Nor do several cut one after the other: then the breaker opens again, trial or no trial.
    """
    if lock_held(cur, claim, item) is None:
        record_call(cur, worker_id, claim, item, call)
        return State.CLAIMED
    if _clear_where_everything_is_cut(cur, call.slot):
        words, epoch = f"every_document_cut: {reason}", locked(cur, call.slot).epoch
        open_breaker(cur, call.slot, epoch, words, None, pause_seconds=LONGEST_BACKOFF_SECONDS)
        defer(cur, worker_id, claim, item, call, words, LONGEST_WAIT_SECONDS, call.slot, epoch)
        _run_alone_next(cur, claim)
        return State.DEFERRED
    others = fetch_one(
        cur, "select count(distinct item_id) as n from cuts where slot = %s and epoch = %s", [call.slot, call.epoch]
    )
    if others["n"] > 1:
        defer(cur, worker_id, claim, item, call, reason, 0.0, call.slot, call.epoch)
        if _times_cut(cur, item.item_id) > 1:
            _run_alone_next(cur, claim)
        return State.DEFERRED
    suspicions, is_new = _add_suspicion(cur, call.slot, call.epoch, item.item_id)
    if suspicions < SUSPICIONS_TO_QUARANTINE:
        # Another document's turn first: the wait also keeps a slot that cuts everything from being hammered.
        pause = SUSPECT_PAUSE_SECONDS if is_new else SECONDS_BETWEEN_SUSPICIONS
        words = f"{reason}: runs alone next"
        defer(cur, worker_id, claim, item, call, words, pause, call.slot, call.epoch + 1)
        _run_alone_next(cur, claim)
        return State.DEFERRED
    record_call(cur, worker_id, claim, item, call)
    words = f"{reason} {suspicions} times while the slot answered others: look at the file, then `retry`"
    cur.execute(
        "update work_items set state = 'quarantined', reason = %s, worker_id = null, token = null, claimed_at = null, "
        "changed_at = clock_timestamp() where item_id = %s",
        [words, item.item_id],
    )
    record_transition(cur, claim.document_id, item.stage, State.CLAIMED, State.QUARANTINED, worker_id, words)
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


def _run_alone_next(cur: Cursor, claim: Claim) -> None:
    """Every stage of the document that asks the slot, because all of them send it the same text."""
    cur.execute(
        "update work_items set must_run_alone = true where document_id = %s and stage <> %s and state <> 'done'",
        [claim.document_id, EXTRACT],
    )


def _times_cut(cur: Cursor, item_id: int) -> int:
    row = fetch_one(cur, "select count(distinct (slot, epoch)) as n from cuts where item_id = %s", [item_id])
    return int(row["n"])


def _add_suspicion(cur: Cursor, slot: str, epoch: int, item_id: int) -> tuple[int, bool]:
    """Count this cut if it says something new; how many suspicions there are, and whether this is one."""
    cur.execute(
        "update cuts set is_suspicion = true where slot = %(slot)s and epoch = %(epoch)s and item_id = %(item)s and "
        "not exists (select 1 from cuts before where before.item_id = %(item)s and before.is_suspicion "
        "  and before.at > clock_timestamp() - make_interval(secs => %(apart)s) "
        "  and not exists (select 1 from calls c where c.slot = %(slot)s and c.outcome = 'ok' "
        "    and c.item_id is distinct from %(item)s and c.item_id is not null and c.ended_at > before.at))",
        {"slot": slot, "epoch": epoch, "item": item_id, "apart": SECONDS_BETWEEN_SUSPICIONS},
    )
    is_new = cur.rowcount > 0
    row = fetch_one(
        cur, "select count(distinct (slot, epoch)) as n from cuts where item_id = %s and is_suspicion", [item_id]
    )
    return int(row["n"]), is_new
