"""The slot's circuit breaker. A fault opens it, and one successful trial closes it.

Every fault of a slot belongs to the epoch in which its call began. Closing the breaker raises the epoch, so the failure of
an old call cannot open it again. A trial of an epoch was answered if the epoch is over.
"""

import time
from dataclasses import dataclass
from enum import StrEnum

from dagster_offload.ledger.core.database import Cursor, notify
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.slots import holds
from dagster_offload.ledger.slots.concurrency import restart_after_wake
from dagster_offload.ledger.slots.slots import BREAKER_MESSAGE, SINCE_IT_CHANGED, lock, locked

FIRST_BACKOFF_SECONDS = 15.0
LONGEST_BACKOFF_SECONDS = 45.0
# A misconfigured slot gets trials too: the cause may pass by itself, or be fixed at the server.
FIRST_MISCONFIGURED_SECONDS = 60.0
LONGEST_MISCONFIGURED_SECONDS = 1800.0
BUSY_IN_A_ROW_TO_OPEN = 3
LONGEST_BUSY_SECONDS = 60.0


def open_breaker(
    cur: Cursor,
    slot: str,
    epoch: int,
    reason: str,
    wait_seconds: float | None,
    *,
    at_once: bool = False,
    pause_seconds: float = FIRST_BACKOFF_SECONDS,
    is_misconfigured: bool = False,
) -> bool:
    """Open the breaker for all workers; False if the call belongs to an epoch that is over.

    `wait_seconds` is the slot's Retry-After; without one the next trial is due after `pause_seconds`. `at_once` makes a
    trial due now: for faults that a document may have caused. `is_misconfigured`: a person must correct what no trial shows,
    such as an empty account. The next trial would be answered, so it is due only after the longest pause.
    """
    row = locked(cur, slot)
    if row.epoch != epoch:
        return False
    if row.breaker is not BreakerState.CLOSED:
        cur.execute(
            "update slots set refusal_wait_seconds = %s where name = %s and not %s", [wait_seconds, slot, at_once]
        )
        return True
    if is_misconfigured:
        pause_seconds = max(wait_seconds or 0.0, LONGEST_MISCONFIGURED_SECONDS)
    elif wait_seconds:
        pause_seconds = wait_seconds
    cur.execute(
        "update slots set breaker = %(state)s, reason = %(reason)s, reason_since = clock_timestamp(), "
        "  opened_at = clock_timestamp(), "
        "  retry_at = clock_timestamp() + make_interval(secs => %(pause)s), backoff_seconds = %(first)s, "
        "  refusal_wait_seconds = %(wait)s, was_red_since_opening = false, busy_in_a_row = 0 where name = %(slot)s",
        {
            "reason": reason,
            "state": BreakerState.MISCONFIGURED if is_misconfigured else BreakerState.OPEN,
            "pause": 0.0 if at_once else pause_seconds,
            "first": FIRST_BACKOFF_SECONDS,
            "wait": wait_seconds,
            "slot": slot,
        },
    )
    notify(cur, f"{BREAKER_MESSAGE}{slot}")
    return True


def note_probe(cur: Cursor, slot: str, *, is_healthy: bool, reason: str) -> SlotRow:
    """Store the result of a probe while the breaker is not closed. A healthy probe after an unhealthy one makes a trial
    due now.

    The `reason` of an unhealthy probe replaces the reason of an open breaker, because it explains why no work is sent now.
    The old reason stays if it says the same and also names a setting.
    """
    row = locked(cur, slot)
    if row.breaker is BreakerState.CLOSED:
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
    """What a worker must do to learn whether the slot answers."""

    YOURS = "yours"  # run the trial, then call `end_trial`
    WAIT = "wait"  # another worker runs the trial: check again when notified
    ANSWERED = "answered"  # the slot has answered since
    REFUSED = "refused"  # the slot refused the trial of this epoch, or this worker must not run it


def begin_trial(cur: Cursor, slot: str, worker_id: int, epoch: int, fingerprint: str) -> TrialTurn:
    """Start a trial if one is due. One trial at a time runs per slot and ledger; all calls that failed in the same epoch
    use its result.

    A refused trial sets `retry_at`: its result holds until then. `fingerprint`: of the worker's settings of the slot. If
    others were registered since, the trial is left to a worker that has them.
    """
    row = locked(cur, slot)
    if row.epoch > epoch:
        return TrialTurn.ANSWERED
    if row.is_trial_running:
        return TrialTurn.WAIT
    if not row.is_retry_due or fingerprint != row.fingerprint:
        return TrialTurn.REFUSED
    cur.execute("update slots set trial_worker = %s where name = %s", [worker_id, slot])
    return TrialTurn.YOURS


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended. `wait_seconds` is the refusal's Retry-After.

    `is_busy`: a 429. It says nothing about the error before it, which stays the slot's reason.
    """

    is_answered: bool
    reason: str
    is_misconfigured: bool = False
    wait_seconds: float | None = None
    is_busy: bool = False


def end_trial(cur: Cursor, slot: str, worker_id: int, epoch: int, end: TrialEnd, url: str) -> SlotRow:
    """Close the breaker and raise the epoch, or schedule the next trial: after Retry-After, else after 15 s, doubled up to
    45 s.

    The next trial of a misconfigured slot is due after 1 minute, doubled up to 30. `url`: that of the trial, without user and
    password; another may have been registered since.
    """
    row = locked(cur, slot)
    abandon_trial(cur, slot, worker_id)  # the trial is over; its result is stored below
    if row.epoch == epoch and end.is_answered:
        restart_after_wake(cur, slot)
        cur.execute(
            "update slots set breaker = 'closed', epoch = epoch + 1, reason = null, reason_since = null, opened_at = null, "
            "retry_at = null, backoff_seconds = %s, was_red_since_opening = false, busy_in_a_row = 0, answered_url = %s "
            "where name = %s",
            [FIRST_BACKOFF_SECONDS, url, slot],
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
    """End this worker's trial without a result: the next trial may start at once."""
    cur.execute("update slots set trial_worker = null where name = %s and trial_worker = %s", [slot, worker_id])
    notify(cur, f"{BREAKER_MESSAGE}{slot}")


def count_busy(cur: Cursor, slot: str, epoch: int, reason: str, wait_seconds: float | None, sent_at: float) -> bool:
    """Count a 429: the slot is available but busy, for this `reason`. False if the call should wait and retry.

    True if the 429 opened the breaker (three in a row, or a wait over 60 s) or belongs to an epoch that is over. `sent_at`: when
    the call was sent, on the monotonic clock. One that was open when a 429 was last counted is not counted: calls that are
    refused together, of any workers, show only that they are too many.
    """
    lock(cur, slot)  # before the clocks are read
    cur.execute(
        "update slots set busy_in_a_row = busy_in_a_row + 1, busy_counted_at = clock_timestamp() "
        "where name = %s and epoch = %s and (busy_counted_at between clock_timestamp() - make_interval(secs => %s) "
        "  and clock_timestamp()) is not true",
        [slot, epoch, time.monotonic() - sent_at],
    )
    row = cur.execute("select busy_in_a_row from slots where name = %s and epoch = %s", [slot, epoch]).fetchone()
    if row is None:
        return True
    if row["busy_in_a_row"] < BUSY_IN_A_ROW_TO_OPEN and (wait_seconds or 0) <= LONGEST_BUSY_SECONDS:
        return False
    open_breaker(cur, slot, epoch, reason, wait_seconds)
    return True


def note_success(cur: Cursor, slot: str, stage: str, url: str) -> None:
    """After a successful call: reset the counts of the slot's consecutive 429s and of the stage's faults in a row there, and
    store that the slot has answered at this URL. Writes only what changes."""
    cur.execute("select note_success(array[%s], array[%s], array[%s])", [slot, stage, url])


def count_document_fault(
    cur: Cursor, slot: str, stage: str, code: str, recipe: str, item_id: int
) -> holds.FaultsOfHold | None:
    """Count a document fault. After enough different documents in a row that fail, and no success of the stage in between, the
    slot holds the stage: see `holds.py`.

    The count spans epochs: the trial before each of these calls was answered and raised the epoch.
    Returns the faults whose attempts must be given back; None if the fault is the document's.
    """
    locked(cur, slot)
    found = holds.add_fault(cur, slot, stage, code, recipe, item_id)
    if found.held_for is not None:
        return holds.FaultsOfHold([item_id], found.held_for)  # its call was open when the hold began
    faults = holds.faults_to_hold_for(cur, slot, stage, recipe, found)
    if faults is not None:
        holds.hold(cur, slot, stage, faults)
        notify(cur, f"{BREAKER_MESSAGE}{slot}")
    return faults
