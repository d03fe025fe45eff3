"""Removes history that is older than the settings say: calls, changes of state, workers, scans, reported events.

Nothing that work depends on is removed. Each batch looks at the oldest rows only, so a batch that finds nothing old costs
little however large the table is. Batches are short transactions: they hold up no claim.
"""

import time
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor, Ledger

BATCH = 2_000
DAILY = "interval '1 day'"


@dataclass(frozen=True)
class Kept:
    """How much history is kept: days, and the number of calls and of changes of state."""

    days: int
    rows: int


@dataclass(frozen=True)
class _Table:
    """A table whose rows have increasing numbers. `is_old` is a condition; `cutoff` is the time before which rows are old."""

    name: str
    key: str
    is_old: str
    is_limited: bool = False  # by rows, too: for a year of a busy slot
    may_go: str = "true"  # without it, old rows that must stay would hide all later ones

    def purge(self, cur: Cursor, kept: Kept, batch: int) -> int:
        """Remove the old ones among the `batch` oldest rows. Returns how many."""
        is_old = self.is_old.format(cutoff=_CUTOFF)
        if self.is_limited:
            is_old = f"({is_old} or t.{self.key} <= (select max({self.key}) from {self.name}) - %(rows)s)"
        cur.execute(
            f"with oldest as materialized (select {self.key} from {self.name} where {self.may_go} "
            f"  order by {self.key} limit %(batch)s) "
            f"delete from {self.name} t using oldest where t.{self.key} = oldest.{self.key} and {is_old}",
            {"days": kept.days, "rows": kept.rows, "batch": batch},
        )
        return cur.rowcount


_CUTOFF = "clock_timestamp() - make_interval(days => %(days)s)"
TABLES = (
    _Table("calls", "call_id", "t.ended_at < {cutoff}", is_limited=True),
    _Table("transitions", "transition_id", "t.at < {cutoff}", is_limited=True),
    _Table("outbox", "event_id", "t.told_at < {cutoff}", may_go="told_at is not null"),
    _Table("refused_answers", "refused_answer_id", "t.at < {cutoff}"),
    _Table(
        "availability",
        "availability_id",
        # The newest one of a slot says how it is now. A slot that was removed has no such state.
        "t.since < {cutoff} and (not exists (select from slots s where s.name = t.slot) "
        "or exists (select from availability newer where newer.slot = t.slot and newer.since > t.since))",
    ),
    _Table("notifications", "notification_id", "t.created_at < {cutoff} and t.state <> 'pending'"),
    _Table("scans", "scan_id", "t.started_at < {cutoff}"),
    _Table(
        "workers",
        "worker_id",
        # A worker that ended has no claims, permits or trial. The rest refers to it in words only.
        "t.ended_at < {cutoff} and not exists (select from work_items i where i.worker_id = t.worker_id and i.state = 'claimed') "
        "and not exists (select from slots s where s.trial_worker = t.worker_id) "
        "and not exists (select from permits p where p.worker_id = t.worker_id) "
        "and not exists (select from permit_waiters p where p.worker_id = t.worker_id)",
    ),
)


def purge_history(ledger: Ledger, kept: Kept, seconds: float, batch: int = BATCH) -> bool:
    """Remove old history for at most about `seconds`. Returns whether nothing old is left."""
    deadline = time.monotonic() + seconds
    for table in TABLES:
        while ledger.run(table.purge, kept, batch):
            if time.monotonic() > deadline:
                return False
    return True


def is_due(cur: Cursor, name: str) -> bool:
    """Whether this kind of upkeep was not completed within the last day."""
    cur.execute(f"select from upkeep where name = %s and done_at > clock_timestamp() - {DAILY}", [name])
    return cur.rowcount == 0


def mark_done(cur: Cursor, name: str) -> None:
    """Record that this kind of upkeep is complete for a day."""
    cur.execute(
        "insert into upkeep (name) values (%s) on conflict (name) do update set done_at = clock_timestamp()", [name]
    )


def position(cur: Cursor, name: str) -> str | None:
    """Where the last call of this kind of upkeep ended; None if it was complete."""
    row = cur.execute("select reached from upkeep_positions where name = %s", [name]).fetchone()
    return None if row is None else row["reached"]


def set_position(cur: Cursor, name: str, reached: str | None) -> None:
    """Store where this kind of upkeep goes on. None: at the beginning."""
    if reached is None:
        cur.execute("delete from upkeep_positions where name = %s", [name])
    else:
        cur.execute(
            "insert into upkeep_positions (name, reached) values (%s, %s) "
            "on conflict (name) do update set reached = excluded.reached",
            [name, reached],
        )
