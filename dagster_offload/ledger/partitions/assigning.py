"""Which partition each document belongs to, by the rule in force. The rule itself is in `library/partition_keys.py`.

All processes follow the rule of the ledger. Only `put_in_force` changes it, and then `assign_next` (or, if each document becomes
a partition, `report_next`) must be called until it returns False.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.events import outbox
from dagster_offload.library.partition_keys import PER_DOCUMENT, By, PartitionRule

# Statements: one trigger per kind of change, because Postgres allows no other with the tables of changed rows.
_TRIGGERS = {
    "note_partition_inserts": "after insert on work_items referencing new table as changed",
    "note_partition_updates": "after update on work_items referencing old table as before new table as changed",
    "note_partition_deletes": "after delete on work_items referencing old table as before",
}
_PRESENT = "is_present and partition is not null"


@dataclass(frozen=True)
class RuleInForce:
    """The rule that the ledger follows. While it is not complete, some documents still follow the rule before it."""

    rule: PartitionRule
    is_complete: bool = True


@dataclass(frozen=True)
class Selected:
    """The documents present of chosen partitions, and the partitions that have none."""

    documents: list[str]
    empty: list[str]


def in_force(cur: Cursor) -> RuleInForce:
    """The rule in force."""
    row = cur.execute("select grouped_by, number, filled_to is null as is_complete from partition_rule").fetchone()
    if row is None:
        return RuleInForce(PER_DOCUMENT)
    return RuleInForce(_rule_of(row), row["is_complete"])


def _rule_of(row: Mapping[str, Any]) -> PartitionRule:
    return PartitionRule(By(row["grouped_by"]), row["number"])


def put_in_force(cur: Cursor, rule: PartitionRule) -> None:
    """Let all documents follow this rule from now on. The caller must keep events from being reported until they do."""
    cur.execute("lock table partition_rule in exclusive mode")
    # No result may be stored between the time below and the triggers. They need this lock anyway.
    cur.execute("lock table work_items in share row exclusive mode")
    # Events that were not reported before the first rule that groups documents count as later ones.
    cur.execute(
        "insert into partition_rule (grouped_by, number, filled_to, grouped_since) values (%(by)s, %(number)s, 0, "
        "  coalesce((select min(i.changed_at) from outbox o join work_items i using (document_id, stage) "
        "    where o.told_at is null), clock_timestamp())) "
        "on conflict (is_only) do update set grouped_by = excluded.grouped_by, number = excluded.number, filled_to = 0, "
        "  grouped_since = case when partition_rule.grouped_by = 'document' and partition_rule.filled_to is null "
        "    then excluded.grouped_since else partition_rule.grouped_since end",
        {"by": rule.by.value, "number": rule.number},
    )
    follow_changes(cur)
    # Both are about the rule before. The reporter looks at every partition that becomes one of Dagster's.
    cur.execute("delete from partition_changes")
    cur.execute("delete from dagster_partitions")


def follow_changes(cur: Cursor) -> None:
    """Create or enable the triggers that note changed partitions if the rule in force groups documents; else disable them."""
    is_wanted = in_force(cur).rule.is_grouped
    cur.execute(
        "select tgname::text as name, tgenabled <> 'D' as is_enabled from pg_trigger "
        "where tgrelid = 'work_items'::regclass and tgname = any(%s)",
        [list(_TRIGGERS)],
    )
    existing = {row["name"]: row["is_enabled"] for row in cur.fetchall()}
    for name, when in _TRIGGERS.items():
        if is_wanted and name not in existing:
            cur.execute(
                f"create trigger {name} {when} for each statement execute function note_partition_changes()".encode()
            )
        elif existing.get(name, False) != is_wanted:
            # Not `drop trigger`: it waits for every reader, such as a backup, and lets new ones wait behind it.
            cur.execute(f"alter table work_items {'enable' if is_wanted else 'disable'} trigger {name}".encode())


def locked_rule(cur: Cursor) -> PartitionRule:
    """The rule in force, which cannot change before this transaction ends. To be called before it writes documents."""
    row = cur.execute("select grouped_by, number from partition_rule for share").fetchone()
    return PER_DOCUMENT if row is None else _rule_of(row)


def assign(cur: Cursor, rule: PartitionRule, documents: Sequence[str]) -> None:
    """Give these documents their partitions by the locked rule, in the transaction that stores their files."""
    if not rule.is_grouped:
        return
    cur.execute(
        "select document_id, key, mtime_ns, partition from documents where key = any(%s) order by document_id",
        [list(documents)],
    )
    note_changes(cur, _move(cur, rule, cur.fetchall()))


def assign_next(cur: Cursor, most: int) -> bool:
    """Give the next documents their partitions, after `put_in_force`. Returns whether more remain.

    Notes no changes: the reporter looks at every partition once Dagster has its key.
    """
    row, found = _next_documents(cur, most)
    if row is None:
        return False
    _move(cur, _rule_of(row), found)
    return _advance(cur, found, most)


def report_next(cur: Cursor, most: int) -> bool:
    """Queue what the next documents did while they shared partitions, now that each is one. Returns whether more remain."""
    row, found = _next_documents(cur, most)
    if row is None:
        return False
    cur.execute(
        f"{outbox.QUEUE_DONE} and d.document_id = any(%s) and i.changed_at >= %s and not exists ("
        "  select from outbox o where o.document_id = i.document_id and o.result_id = i.result_id and o.told_at is null) "
        "order by i.item_id",
        [[each["document_id"] for each in found], row["grouped_since"]],
    )
    return _advance(cur, found, most)


def _next_documents(cur: Cursor, most: int) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The locked row of a rule that is not complete, with the next documents to follow it; None if it is complete."""
    row = cur.execute("select * from partition_rule where filled_to is not null for update").fetchone()
    if row is None:
        return None, []
    cur.execute(
        "select document_id, key, mtime_ns, partition from documents where document_id > %s order by document_id limit %s",
        [row["filled_to"], most],
    )
    return row, cur.fetchall()


def keys(cur: Cursor) -> list[str]:
    """The partitions that have documents, in the order of their names. Only if the rule in force groups documents."""
    # Not `distinct`: that would read the index once per document, and this reads it once per partition.
    cur.execute(
        "with recursive found as ("
        f"  (select partition from documents where {_PRESENT} order by partition limit 1) union all "
        f"  select (select d.partition from documents d where d.partition > f.partition and {_PRESENT} "
        "    order by d.partition limit 1) from found f where f.partition is not null) "
        'select partition from found where partition is not null order by partition collate "C"'
    )
    return [row["partition"] for row in cur.fetchall()]


def unknown_keys(cur: Cursor) -> list[str]:
    """The partitions that have documents and that Dagster lacks or may show wrongly: a command or an interrupted scan stored
    them, the rule was changed, or the ledger was restored."""
    known = {row["key"] for row in cur.execute("select key from dagster_partitions")}
    return [key for key in keys(cur) if key not in known]


def folders(cur: Cursor) -> list[str]:
    """The folders of the documents present, each once; `.` for the library itself."""
    cur.execute(
        "select distinct coalesce(nullif(substring(key from '^(.*)/'), ''), '.') as folder from documents where is_present"
    )
    return [row["folder"] for row in cur.fetchall()]


def documents_of(cur: Cursor, partitions: Sequence[str]) -> Selected:
    """The documents present of these partitions, if the rule in force groups documents."""
    cur.execute(
        "select key, partition from documents where partition = any(%s) and is_present order by document_id",
        [list(partitions)],
    )
    rows = cur.fetchall()
    found = {row["partition"] for row in rows}
    return Selected([row["key"] for row in rows], [key for key in partitions if key not in found])


def forget_reports(cur: Cursor, partitions: Sequence[str]) -> None:
    """Dagster no longer shows these partitions as materialized: what is done in them must be reported again."""
    cur.execute("delete from partition_reports where partition = any(%s)", [list(partitions)])
    note_changes(cur, partitions)


def set_dagster_keys(cur: Cursor, partitions: Sequence[str]) -> None:
    """Store which keys Dagster has. The reporter looks at those that are new."""
    cur.execute("delete from dagster_partitions where key <> all(%s)", [list(partitions)])
    cur.execute(
        "insert into dagster_partitions (key) select unnest(%s::text[]) on conflict do nothing returning key",
        [list(partitions)],
    )
    note_changes(cur, [row["key"] for row in cur.fetchall()])


def note_changes(cur: Cursor, partitions: Iterable[str]) -> None:
    """Let the reporter look at these partitions."""
    cur.execute("insert into partition_changes (partition) select unnest(%s::text[])", [sorted(partitions)])


def _move(cur: Cursor, rule: PartitionRule, documents: Sequence[dict[str, Any]]) -> set[str]:
    """Store the partitions of these documents. Returns those that lost or got one."""
    moved = {
        row["document_id"]: key
        for row in documents
        if (key := rule.key_of(row["key"], int(row["mtime_ns"]))) != row["partition"]
    }
    if not moved:
        return set()
    cur.execute(
        "update documents d set partition = m.partition from unnest(%s::bigint[], %s::text[]) as m (document_id, partition) "
        "where d.document_id = m.document_id",
        [list(moved), list(moved.values())],
    )
    before = {row["partition"] for row in documents if row["document_id"] in moved and row["partition"] is not None}
    return before.union(moved.values())


def _advance(cur: Cursor, found: Sequence[dict[str, Any]], most: int) -> bool:
    is_more = len(found) == most
    cur.execute("update partition_rule set filled_to = %s", [found[-1]["document_id"] if is_more else None])
    return is_more
