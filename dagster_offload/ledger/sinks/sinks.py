"""The sinks that this ledger knows: which are in the pipeline file, which are paused, and which wait and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from dagster_offload.ledger.core import database
from dagster_offload.ledger.core.database import Cursor, fetch_one

CHANNEL_SUFFIX = "_sinks"  # notified when a record may have changed, or a person wants a sink to try again
# Notified with a sink's name, as other changes of the ledger are.
SINK_MESSAGE = "sink:"


@dataclass(frozen=True)
class SinkRow:
    """A sink with its counts of deliveries. `reason` is why the sink itself waits; `is_misconfigured`: for a changed setting.

    `refused` of those waiting were refused and wait each for their next try: the first at `refused_next`, for `refused_reason`.
    """

    name: str
    kind: str
    is_configured: bool
    paused_at: datetime | None
    not_before: datetime | None
    reason: str | None
    reason_since: datetime | None
    is_misconfigured: bool
    waits: int
    refusals: int
    waiting: int
    dead: int
    refused: int
    refused_reason: str | None
    refused_next: datetime | None

    @property
    def is_sent_to(self) -> bool:
        """Whether its records are sent: it is in the pipeline file, and not paused."""
        return self.is_configured and self.paused_at is None


def register(cur: Cursor, kinds: Mapping[str, str], existing: Mapping[str, bool]) -> None:
    """Store which sinks the pipeline file has, by name. Writes nothing if nothing changed.

    `existing`: whether a sink that is new or back looks at all documents. If not, it gets only what finishes from now on.
    """
    known = {row["name"]: row["kind"] for row in cur.execute("select name, kind from sinks where is_configured")}
    if known == dict(kinds):
        return
    added = kinds.keys() - known.keys() | {name for name in known if kinds.get(name, known[name]) != known[name]}
    if not all(existing[name] for name in added):
        # A transaction that notes a change under a lower number must not end later than the look at the highest number.
        cur.execute("lock table changed_records in share mode")
    cur.execute("update sinks set is_configured = false where name <> all(%s)", [list(kinds)])
    for name in added:
        cur.execute(
            "insert into sinks (name, kind, filled_to, changes_after, wants_after) values (%(name)s, %(kind)s, "
            "case when %(existing)s then 0 end, "
            "case when %(existing)s then 0 else (select coalesce(max(change_id), 0) from changed_records) end, "
            "case when not %(existing)s then clock_timestamp() end) "
            "on conflict (name) do update set "
            # A record that one which is back has already got is not sent again.
            "kind = excluded.kind, is_configured = true, filled_to = excluded.filled_to, removed_stages = null, "
            "changes_after = excluded.changes_after, wants_after = excluded.wants_after, "
            "not_before = null, reason = null, "
            "is_misconfigured = false, waits = 0, refusals = 0",
            {"name": name, "kind": kinds[name], "existing": existing[name]},
        )


def list_sinks(cur: Cursor) -> list[SinkRow]:
    """The sinks of the pipeline file, and those that were removed from it while records waited."""
    cur.execute(
        "select s.name, s.kind, s.is_configured, s.paused_at, s.not_before, s.reason, s.reason_since, "
        "  s.is_misconfigured, s.waits, s.refusals, "
        "  coalesce(n.waiting, 0) as waiting, coalesce(n.dead, 0) as dead, coalesce(r.refused, 0) as refused, "
        "  r.refused_reason, r.refused_next from sinks s left join ("
        "  select sink, count(*) filter (where state = 'pending') as waiting, count(*) filter (where state = 'dead') as dead "
        "  from deliveries where state <> 'sent' group by sink) n on n.sink = s.name left join ("
        "  select sink, count(*) as refused, (array_agg(reason order by not_before))[1] as refused_reason, "
        "  min(not_before) as refused_next "
        "  from deliveries where state = 'pending' and not_before is not null group by sink) r on r.sink = s.name "
        "where s.is_configured or n.sink is not null order by s.name"
    )
    return [SinkRow(**row) for row in cur.fetchall()]


def count_waiting_for_stages(cur: Cursor) -> int:
    """How many documents have an answer, and another stage that is not done.

    Their records are sent when all stages are done. Reads all items that are not done.
    """
    of_a_model = "i.stage in (select name from stages where upstream is not null)"
    row = fetch_one(
        cur,
        "select count(*) as n from documents d where d.is_present and d.document_id in ("
        f"  select i.document_id from work_items i where i.state not in ('done', 'gone') and {of_a_model}) and exists ("
        f"  select from work_items i where i.document_id = d.document_id and i.state = 'done' and {of_a_model})",
    )
    return int(row["n"])


def get(cur: Cursor, name: str) -> SinkRow | None:
    """The sink of this name; None if the ledger does not know it."""
    return next((row for row in list_sinks(cur) if row.name == name), None)


def reason_to_wait(cur: Cursor, name: str) -> tuple[str | None, bool]:
    """Why this sink waits with records, and whether it waits for a changed setting.

    `(None, False)` if it does not wait, is paused, or has no record that waits.
    """
    cur.execute(
        "select s.reason, s.is_misconfigured from sinks s where s.name = %s and s.paused_at is null "
        "and exists (select from deliveries n where n.sink = s.name and n.state = 'pending')",
        [name],
    )
    row = cur.fetchone()
    return (None, False) if row is None else (row["reason"], row["is_misconfigured"])


def pause(cur: Cursor, name: str) -> None:
    """Send nothing to this sink until `resume`. Records for it are kept."""
    cur.execute("update sinks set paused_at = coalesce(paused_at, clock_timestamp()) where name = %s", [name])
    note_change(cur, name)


def resume(cur: Cursor, name: str) -> None:
    """Send to this sink again, at once."""
    cur.execute("update sinks set paused_at = null where name = %s", [name])
    note_change(cur, name)
    try_now(cur, name)


def try_now(cur: Cursor, name: str) -> None:
    """End the wait of this sink, and of the records that it refused."""
    cur.execute("update deliveries set not_before = null where sink = %s and state = 'pending'", [name])
    end_wait(cur, name)


def end_wait(cur: Cursor, name: str) -> None:
    """End the wait of this sink. A record that it refused still waits for its own next try."""
    cur.execute("update sinks set not_before = null, waits = 0, refusals = 0 where name = %s", [name])
    notify(cur)


def end_wait_for_setting(cur: Cursor, name: str) -> None:
    """End the wait of this sink if it waits for a changed setting, and of the records that let others go first meanwhile.

    Only the next try can show whether the setting is right. These records still let others go first: the setting may be right
    and the fault theirs.
    """
    cur.execute(
        "with s as (update sinks set not_before = null where name = %s and is_misconfigured returning name) "
        "update deliveries n set not_before = clock_timestamp() from s "
        "where n.sink = s.name and n.state = 'pending' and n.attempts = 0 and n.not_before is not null",
        [name],
    )


def in_a_row(cur: Cursor, name: str) -> tuple[int, int]:
    """The waits and the refusals of this sink in a row."""
    row = fetch_one(cur, "select waits, refusals from sinks where name = %s", [name])
    return row["waits"], row["refusals"]


def clear_wait(cur: Cursor, name: str) -> None:
    """The sink took a record."""
    cur.execute(
        "update sinks set not_before = null, waits = 0, refusals = 0, reason = null, reason_since = null, "
        "is_misconfigured = false "
        "where name = %s and (waits > 0 or refusals > 0 or reason is not null)",
        [name],
    )
    if cur.rowcount:
        note_change(cur, name)


def store_wait(
    cur: Cursor,
    name: str,
    seconds: float | None,
    reason: str | None,
    waits: int,
    refusals: int,
    *,
    is_misconfigured: bool,
) -> None:
    """Store until when the sink waits and why; `seconds` None: it does not wait. `is_misconfigured`: for a changed setting."""
    cur.execute(
        "update sinks set not_before = clock_timestamp() + make_interval(secs => %(seconds)s), waits = %(waits)s, "
        "refusals = %(refusals)s, reason = %(reason)s, is_misconfigured = %(setting)s, "
        "reason_since = case when %(reason)s::text is null then null "
        "  when reason is not distinct from %(reason)s then reason_since else clock_timestamp() end where name = %(name)s",
        {
            "name": name,
            "seconds": seconds,
            "reason": reason,
            "waits": waits,
            "refusals": refusals,
            "setting": is_misconfigured,
        },
    )
    note_change(cur, name)


def note_change(cur: Cursor, name: str) -> None:
    """Tell those who show the state of sinks that this one's may have changed, when this transaction commits."""
    database.notify(cur, f"{SINK_MESSAGE}{name}")


def notify(cur: Cursor) -> None:
    """Wake the senders when this transaction commits."""
    cur.execute("select pg_notify('offload_' || current_schema() || %s, '')", [CHANNEL_SUFFIX])
