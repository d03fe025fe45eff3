"""What happens to a work item whose call brought no result: it is deferred, retried, or marked as failed.

A deferral costs no attempt. A document fault costs one; after three the work item fails. A document that the slot refuses
repeatedly runs alone, after the others. `suspects.py` handles calls that were cut.
"""

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import CallRecord, Claim, ClaimedItem, State
from dagster_offload.ledger.core.transitions import record_transition
from dagster_offload.ledger.events.outbox import withdraw_observations
from dagster_offload.ledger.slots.breaker import count_document_fault, open_breaker
from dagster_offload.ledger.slots.holds import STAGE_HELD
from dagster_offload.ledger.work.finish import lock_held, record_call

LONGEST_WAIT_SECONDS = 30 * 60.0
BACKOFF_SECONDS = (60.0, 600.0)  # after the first and the second attempt
ATTEMPTS_TO_FAIL = 3
# After this many refusals in a row a document runs last, so that it does not block the others.
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
    """Defer one work item until the slot is back, for at most 30 minutes. Costs no attempt. `call` is recorded if given.

    If the call failed while the document ran alone, only other slots take it before that.
    """
    if call is not None:
        record_call(cur, worker_id, claim, item, call)
    if lock_held(cur, claim, item) is None:
        return
    cur.execute(
        "update work_items set state = 'deferred', deferrals = deferrals + 1, reason = %s, deferred_slot = %s, "
        "  deferred_epoch = %s, not_before = clock_timestamp() + make_interval(secs => %s), "
        "  failed_alone = case when claimed_alone and %s then failed_alone || %s else failed_alone end, "
        "  changed_at = clock_timestamp() where item_id = %s",
        [
            reason,
            slot,
            epoch,
            min(wait_seconds, LONGEST_WAIT_SECONDS),
            call is not None,
            Jsonb({slot: epoch}),
            item.item_id,
        ],
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
    *,
    is_misconfigured: bool = False,
) -> None:
    """Open the slot's breaker and defer the work item of the call, in one transaction.

    A document that the slot refuses repeatedly runs alone, after the others. If it runs alone, and a slot that refused it
    answers others, the next closing of the breaker does not make it due: it waits for its own time.
    """
    open_breaker(cur, call.slot, call.epoch, reason, retry_after_seconds, is_misconfigured=is_misconfigured)
    wait = default_wait_seconds if retry_after_seconds is None else retry_after_seconds
    was_answered = _answered_since_claimed(cur, item)
    is_lone = claim.is_alone and _is_only_one_refused(cur, claim, item)
    defer(cur, worker_id, claim, item, call, reason, wait, call.slot, call.epoch + is_lone)
    if is_lone:
        run_alone_next(cur, claim, wait)
    elif item.deferrals + 1 >= REFUSALS_TO_RUN_ALONE and not was_answered and others_wait(cur, claim):
        run_alone_next(cur, claim)


def _answered_since_claimed(cur: Cursor, item: ClaimedItem) -> bool:
    """Whether a part of a long document was answered since the claim: then the slot became unavailable while the document
    was read, and does not refuse it."""
    row = fetch_one(
        cur,
        "select exists (select 1 from calls c join work_items i using (item_id) where i.item_id = %s "
        "  and c.outcome = 'ok' and c.ended_at > i.claimed_at) as is_so",
        [item.item_id],
    )
    return bool(row["is_so"])


def others_wait(cur: Cursor, claim: Claim) -> bool:
    """Whether other documents, which need not run alone, wait for a slot."""
    row = fetch_one(
        cur,
        "select exists (select 1 from work_items where state in ('pending', 'deferred') and not must_run_alone "
        "  and document_id <> %s and stage <> (select first_stage())) as is_so",
        [claim.document_id],
    )
    return bool(row["is_so"])


def _is_only_one_refused(cur: Cursor, claim: Claim, item: ClaimedItem) -> bool:
    """Whether one of the slots that refused this document has answered others since it first did."""
    row = fetch_one(
        cur,
        "select exists (select 1 from (select slot, min(ended_at) as at from calls where item_id = %(item)s "
        "  and outcome <> 'ok' group by slot) refused join calls other on other.slot = refused.slot "
        "  where other.outcome = 'ok' and other.document_id <> %(document)s and other.ended_at > refused.at) as is_so",
        {"document": claim.document_id, "item": item.item_id},
    )
    return bool(row["is_so"])


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
    """Count a document fault, which costs one attempt: it retries after 1 and 10 minutes, then fails (at once if
    `is_final`).

    A fault in document after document is that of the stage: the slot holds the stage (see `ledger/slots/holds.py`), and
    the attempts are given back. Returns the item's new state; `CLAIMED` if this claim no longer holds it.
    """
    if call is not None:
        record_call(cur, worker_id, claim, item, call)
    held = lock_held(cur, claim, item)
    if held is None:
        return State.CLAIMED
    attempts = held["attempts"] + 1  # not the claim's number: attempts may have been given back since
    state = State.FAILED if is_final or attempts >= ATTEMPTS_TO_FAIL else State.PENDING
    pause = BACKOFF_SECONDS[min(attempts, len(BACKOFF_SECONDS)) - 1]
    cur.execute(
        "update work_items set state = %s, attempts = %s, reason = %s, changed_at = clock_timestamp(), "
        "  not_before = case when %s then clock_timestamp() + make_interval(secs => %s) end where item_id = %s",
        [state, attempts, f"{code}: {message}", state is State.PENDING, pause, item.item_id],
    )
    record_transition(cur, claim.document_id, item.stage, State.CLAIMED, state, worker_id, f"{code}: {message}")
    if call is not None:
        of_hold = count_document_fault(cur, call.slot, item.stage, code, item.recipe, item.item_id)
        if of_hold is not None:
            _give_attempts_back(cur, of_hold.items, f"{STAGE_HELD}: {of_hold.code}")
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
    withdraw_observations(cur, item_ids)


def run_alone_next(cur: Cursor, claim: Claim, pause_seconds: float | None = None) -> None:
    """Make all LLM stages of the document run alone, after `pause_seconds` if given: all of them send the same text."""
    cur.execute(
        "update work_items set must_run_alone = true, not_before = case when %(pause)s::float8 is null then not_before "
        "  else greatest(not_before, clock_timestamp() + make_interval(secs => %(pause)s::float8)) end "
        "where document_id = %(document)s and stage <> first_stage() and state in ('pending', 'deferred', 'claimed')",
        {"pause": pause_seconds, "document": claim.document_id},
    )
