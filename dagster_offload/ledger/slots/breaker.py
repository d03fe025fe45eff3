"""The slot's circuit breaker: opened by a fault, closed by one trial, numbered by epochs.

Every fault of a slot belongs to the epoch its call began in. Closing raises the epoch, so an old call's failure cannot
open a newer one, and "the trial of this epoch answered" is simply "the epoch is over".
"""

from dataclasses import dataclass
from enum import StrEnum

from dagster_offload.ledger.core.database import Cursor, fetch_one, notify
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.slots.concurrency import begin_anew_after_wake
from dagster_offload.ledger.slots.slots import EVERY_DOCUMENT_REFUSED, SINCE_IT_CHANGED, locked

FIRST_BACKOFF_SECONDS = 15.0
LONGEST_BACKOFF_SECONDS = 45.0
# A misconfigured slot is asked again, too: what is wrong there may pass by itself, or be mended at the server.
FIRST_MISCONFIGURED_SECONDS = 60.0
LONGEST_MISCONFIGURED_SECONDS = 1800.0
BUSY_IN_A_ROW_TO_OPEN = 3
LONGEST_BUSY_SECONDS = 60.0
DOCUMENTS_TO_MISCONFIGURED = 5


def open_breaker(
    cur: Cursor,
    slot: str,
    epoch: int,
    reason: str,
    wait_seconds: float | None,
    *,
    at_once: bool = False,
    pause_seconds: float = FIRST_BACKOFF_SECONDS,
) -> bool:
    """Open the breaker for everybody; False where the call belongs to an epoch that is over.

    `wait_seconds` is the slot's own Retry-After; `pause_seconds` is until the next look where it named none. `at_once`
    makes a trial due now: for faults that may be a document's.
    """
    row = locked(cur, slot)
    if row.epoch != epoch:
        return False
    if row.breaker is not BreakerState.CLOSED:
        cur.execute(
            "update slots set refusal_wait_seconds = %s where name = %s and not %s", [wait_seconds, slot, at_once]
        )
        return True
    cur.execute(
        "update slots set breaker = 'open', reason = %(reason)s, reason_since = clock_timestamp(), "
        "  opened_at = clock_timestamp(), "
        "  retry_at = clock_timestamp() + make_interval(secs => %(pause)s), backoff_seconds = %(first)s, "
        "  refusal_wait_seconds = %(wait)s, was_red_since_opening = false, busy_in_a_row = 0 where name = %(slot)s",
        {
            "reason": reason,
            "pause": 0.0 if at_once else wait_seconds or pause_seconds,
            "first": FIRST_BACKOFF_SECONDS,
            "wait": wait_seconds,
            "slot": slot,
        },
    )
    notify(cur, f"breaker:{slot}")
    return True


def note_probe(cur: Cursor, slot: str, *, is_healthy: bool, reason: str) -> SlotRow:
    """Remember what a probe said while no work flows: red and then green counts as `retry_at` reached.

    The `reason` of a red one beside an open breaker is what keeps work from the slot now, so it is the slot's, unless
    that says the same and names a setting, too. A slot that refused every document answers trials, so nothing is noted.
    """
    row = locked(cur, slot)
    if row.breaker is BreakerState.CLOSED or (row.reason or "").startswith(EVERY_DOCUMENT_REFUSED):
        return row
    if row.breaker is BreakerState.MISCONFIGURED and not is_healthy:
        cur.execute("update slots set was_red_since_opening = true where name = %s", [slot])
    elif not is_healthy:
        cur.execute(
            f"update slots set was_red_since_opening = true, {SINCE_IT_CHANGED}, reason = %(reason)s "
            "where name = %(slot)s",
            {"reason": row.reason if (row.reason or "").startswith(f"{reason} (check ") else reason, "slot": slot},
        )
    elif row.was_red_since_opening:
        cur.execute(
            "update slots set was_red_since_opening = false, retry_at = clock_timestamp() where name = %s", [slot]
        )
    return locked(cur, slot)


class TrialTurn(StrEnum):
    """What a worker that wants to know whether the slot answers is to do."""

    YOURS = "yours"  # run the trial, then `end_trial`
    WAIT = "wait"  # somebody else's is running: look again when notified
    ANSWERED = "answered"  # the slot has answered since
    REFUSED = "refused"  # it was asked in this epoch and refused


def begin_trial(cur: Cursor, slot: str, worker_id: int, epoch: int) -> TrialTurn:
    """One trial at a time per slot, ledger-wide; every call that failed in the same epoch uses its verdict.

    A trial that was refused set `retry_at`: until then its verdict holds.
    """
    row = locked(cur, slot)
    if row.epoch > epoch:
        return TrialTurn.ANSWERED
    if row.is_trial_running:
        return TrialTurn.WAIT
    if not row.is_retry_due:
        return TrialTurn.REFUSED
    cur.execute("update slots set trial_worker = %s where name = %s", [worker_id, slot])
    return TrialTurn.YOURS


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended. `wait_seconds` is the refusal's Retry-After.

    `is_busy`: a 429. It asks for patience and says nothing about the error before it, which stays the slot's reason.
    """

    is_answered: bool
    reason: str
    is_misconfigured: bool = False
    wait_seconds: float | None = None
    is_busy: bool = False


def end_trial(cur: Cursor, slot: str, worker_id: int, epoch: int, end: TrialEnd) -> SlotRow:
    """Close the breaker and raise the epoch, or set the next look: Retry-After, else 15 s doubling to 45 s.

    A misconfigured slot is asked again after 1 minute, doubling to 30.
    """
    row = locked(cur, slot)
    abandon_trial(cur, slot, worker_id)  # it is over; what it said is below
    if row.epoch == epoch and end.is_answered:
        begin_anew_after_wake(cur, slot)
        cur.execute(
            "update slots set breaker = 'closed', epoch = epoch + 1, reason = null, reason_since = null, opened_at = null, "
            "retry_at = null, backoff_seconds = %s, was_red_since_opening = false, busy_in_a_row = 0 where name = %s",
            [FIRST_BACKOFF_SECONDS, slot],
        )
    elif row.epoch == epoch:
        cur.execute(
            f"update slots set breaker = %(state)s, {SINCE_IT_CHANGED}, reason = %(reason)s, "
            "  opened_at = coalesce(opened_at, clock_timestamp()), refusal_wait_seconds = %(wait)s, "
            "  retry_at = clock_timestamp() + make_interval(secs => "
            "    coalesce(%(wait)s, greatest(%(first)s, least(backoff_seconds, %(longest)s)))), "
            "  backoff_seconds = least(greatest(%(first)s, backoff_seconds) * 2, %(longest)s), "
            "  was_red_since_opening = false where name = %(slot)s",
            {
                "state": BreakerState.MISCONFIGURED if end.is_misconfigured else BreakerState.OPEN,
                "first": FIRST_MISCONFIGURED_SECONDS if end.is_misconfigured else FIRST_BACKOFF_SECONDS,
                "reason": row.reason if end.is_busy and row.reason else end.reason,
                "wait": end.wait_seconds,
                "longest": LONGEST_MISCONFIGURED_SECONDS if end.is_misconfigured else LONGEST_BACKOFF_SECONDS,
                "slot": slot,
            },
        )
    return locked(cur, slot)


def abandon_trial(cur: Cursor, slot: str, worker_id: int) -> None:
    """No trial of this worker's any more, and no verdict: the next may be made at once."""
    cur.execute("update slots set trial_worker = null where name = %s and trial_worker = %s", [slot, worker_id])
    notify(cur, f"breaker:{slot}")


def count_busy(cur: Cursor, slot: str, epoch: int, wait_seconds: float | None) -> bool:
    """A 429: back-pressure, not absence. False where the call is to wait and be tried again.

    True where it opened the breaker (three in a row, or a wait over 60 s), or belongs to an epoch that is over.
    """
    row = cur.execute(
        "update slots set busy_in_a_row = busy_in_a_row + 1 where name = %s and epoch = %s returning busy_in_a_row",
        [slot, epoch],
    ).fetchone()
    if row is None:
        return True
    if row["busy_in_a_row"] < BUSY_IN_A_ROW_TO_OPEN and (wait_seconds or 0) <= LONGEST_BUSY_SECONDS:
        return False
    open_breaker(cur, slot, epoch, "busy", wait_seconds)
    return True


def note_success(cur: Cursor, slot: str) -> None:
    """A call ended well: the rows of 429s and of equal faults are over. Writes only where there was one."""
    cur.execute("select note_success(array[%s])", [slot])


def count_document_fault(cur: Cursor, slot: str, code: str, item_id: int) -> list[int]:
    """Five different documents in a row with the same fault and no success between: the slot is at fault.

    Over epochs, because the trial before each of them was answered, which raised the epoch.
    Returns the work items whose attempts are to be given back (one entry per attempt), or nothing.
    """
    words = f"{EVERY_DOCUMENT_REFUSED}: {code}"
    seen = locked(cur, slot)
    if seen.breaker is BreakerState.MISCONFIGURED and seen.reason == words:
        return [item_id]  # its call was open beside those of the five
    row = fetch_one(
        cur,
        "update slots set fault_items = case when fault_code = %(code)s then fault_items || %(item)s::bigint "
        "  else array[%(item)s::bigint] end, fault_code = %(code)s where name = %(slot)s "
        "returning fault_items",
        {"code": code, "item": item_id, "slot": slot},
    )
    items: list[int] = row["fault_items"]
    documents = fetch_one(
        cur, "select count(distinct document_id) as n from work_items where item_id = any(%s)", [items]
    )
    if documents["n"] < DOCUMENTS_TO_MISCONFIGURED:
        return []
    cur.execute(
        f"update slots set breaker = 'misconfigured', {SINCE_IT_CHANGED}, reason = %(reason)s, "
        "opened_at = coalesce(opened_at, clock_timestamp()), "
        "retry_at = null, fault_code = null, fault_items = '{}' where name = %(slot)s",
        {"reason": words, "slot": slot},
    )
    notify(cur, f"breaker:{slot}")
    return items
