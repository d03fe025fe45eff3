"""What happens now: documents in work, next attempts with their times, a failed scan, and sensors that a person turned off."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.postgres import DAGSTER_SCHEMA

SENSORS = ("drain_sensor", "library_sensor")
# After a failed scan, for example one that refused to forget documents, the wait before another for the same reason.
SAME_FAILURE_SECONDS = 600.0
FAILED_SCAN_MESSAGE = "a scan failed"  # a notification

# A call is slow if it takes longer than this, and twice as long as any of the last calls.
SHORTEST_SLOW_SECONDS = 60.0
LAST_CALLS = 100


@dataclass(frozen=True)
class InWork:
    """A document that a worker holds. `worker` is the worker's kind.

    `unanswered_seconds`: how long its call has been open, at most; None while its text is extracted. By the clock of Postgres, as
    `since`. `longest_call`: of the last calls that slots answered, in seconds; None without any.
    """

    document: str
    stages: list[str]
    worker: str
    since: datetime
    unanswered_seconds: float | None
    longest_call: float | None

    @property
    def is_slow(self) -> bool:
        """Whether its call has been open for far longer than usual."""
        if self.unanswered_seconds is None or self.longest_call is None:
            return False
        return self.unanswered_seconds > max(SHORTEST_SLOW_SECONDS, 2 * self.longest_call)


def in_work(cur: Cursor, limit: int) -> list[InWork]:
    """The documents that workers hold, the longest first."""
    cur.execute(
        "select held.document, held.stages, held.worker, held.since, "
        "  case when held.stages <> array[first_stage()] then extract(epoch from clock_timestamp() - greatest("
        "  held.since, (select max(c.ended_at) from calls c where c.document_id = held.document_id)))::float8 end "
        "  as unanswered_seconds, "
        "  (select max(seconds) from (select seconds from calls where outcome = 'ok' and item_id is not null "
        "    order by ended_at desc limit %(calls)s) last) as longest_call "
        "from (select d.document_id, d.key as document, array_agg(i.stage order by i.item_id) as stages, "
        "    min(w.kind) as worker, min(i.claimed_at) as since from work_items i join documents d using (document_id) "
        "  join workers w on w.worker_id = i.worker_id where i.state = 'claimed' "
        "  group by d.document_id, d.key order by since, d.key limit %(limit)s) held order by held.since, held.document",
        {"limit": limit, "calls": LAST_CALLS},
    )
    return [InWork(**row) for row in cur.fetchall()]


@dataclass(frozen=True)
class NextAttempt:
    """A work item that waits for its next attempt after a fault of its document."""

    document: str
    stage: str
    attempts: int
    at: datetime
    reason: str | None


def next_attempts(cur: Cursor, limit: int) -> list[NextAttempt]:
    """The work items that wait for their next attempt, the earliest first."""
    cur.execute(
        "select d.key as document, i.stage, i.attempts, i.not_before as at, i.reason from work_items i "
        "join documents d using (document_id) join stages s on s.name = i.stage "
        "where i.state = 'pending' and i.not_before > clock_timestamp() "
        "order by i.not_before, i.item_id limit %s",
        [limit],
    )
    return [NextAttempt(**row) for row in cur.fetchall()]


def not_applicable(cur: Cursor) -> dict[str, int]:
    """By stage with a condition: how many documents do not meet it. They are a part of those that are done."""
    cur.execute(
        "select stage, sum(n)::bigint as n from item_counts where stage = any(array(select name from stages "
        "  where condition is not null)) and state = 'done' and outcome = 'not_applicable' "
        "group by stage having sum(n) > 0"
    )
    return {row["stage"]: row["n"] for row in cur.fetchall()}


def has_scanned(cur: Cursor) -> bool:
    """Whether a scan of the library has ended. If not, the counts are not yet those of the library."""
    return cur.execute("select from scans where ended_at is not null limit 1").rowcount > 0


@dataclass(frozen=True)
class FailedScan:
    """A run of the job `scan` that failed. If files still differ, `up` launches another one by `next_by` at the latest.

    `reason`: in the words of the error that ended it; None if another exception did, or if it never began.
    """

    run_id: str
    failed_at: datetime
    next_by: datetime
    reason: str | None

    @property
    def why(self) -> str:
        """The reason, or where to look for it."""
        return self.reason or f"see the log of run {self.run_id[:8]} in Dagster's UI"


def failed_scan(cur: Cursor) -> FailedScan | None:
    """The newest scan, if it has failed and `up` waits before the next one.

    Only commands and processes that do not import Dagster use this.
    """
    if (table := _table_of_dagster(cur, "runs")) is None:
        return None
    cur.execute(
        "select run_id, failed_at, failed_at + %(wait)s as next_by, "
        "  (select event::json #>> '{dagster_event,event_specific_data,user_failure_data,description}' "
        f"    from {DAGSTER_SCHEMA}.event_logs e where e.run_id = newest.run_id "
        "    and e.dagster_event_type = 'STEP_FAILURE' order by e.id desc limit 1) as reason from ("
        f"  select run_id, status, update_timestamp at time zone 'UTC' as failed_at from {table} "
        "  where pipeline_name = 'scan' order by id desc limit 1) newest "
        "where status = 'FAILURE' and clock_timestamp() < failed_at + %(wait)s",
        {"wait": timedelta(seconds=SAME_FAILURE_SECONDS)},
    )
    row = cur.fetchone()
    return None if row is None else FailedScan(**row)


def stopped_sensors(cur: Cursor) -> list[str]:
    """The sensors that a person turned off in Dagster's UI. Dagster stores that in a table of its own.

    Only commands that do not import Dagster use this.
    """
    if (table := _table_of_dagster(cur, "instigators")) is None:
        return []
    cur.execute(f"select instigator_body from {table} where status = 'STOPPED'")
    bodies = [row["instigator_body"] for row in cur.fetchall()]
    return [name for name in SENSORS if any(f'"{name}"' in body for body in bodies)]


def _table_of_dagster(cur: Cursor, name: str) -> str | None:
    """A table of Dagster; None if Dagster has not run here yet."""
    table = f"{DAGSTER_SCHEMA}.{name}"
    return None if fetch_one(cur, "select to_regclass(%s) as found", [table])["found"] is None else table
