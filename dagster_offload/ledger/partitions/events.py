"""What Dagster must be shown of partitions with several documents: the facts, and what was reported last.

The outbox has a row for each result and each document that waits or failed; `partition_changes` has the partitions in which a
document was added, removed, finished or restarted. The reporter reads both, and reports about partitions.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import State

# A page that was being computed while a partition was withdrawn stores the state before that in Dagster's cache. By then, it has
# done so.
CHECK_AFTER_SECONDS = 15.0
NAMED = 3  # how many documents an event names


@dataclass(frozen=True)
class Row:
    """A row of the outbox that is not yet reported. `state` is None for a result."""

    event_id: int
    document: str
    partition: str | None
    stage: str
    run_id: str | None
    state: State | None
    reason: str | None


@dataclass(frozen=True)
class Pending:
    """What is not yet reported: rows of the outbox, and changed partitions with the ids of their notes.

    `was_withdrawn`: some of them were withdrawn a while ago.
    """

    rows: list[Row]
    changed: Mapping[str, list[int]]
    was_withdrawn: bool


@dataclass(frozen=True)
class Facts:
    """One stage of one partition: what is true now, and what Dagster was shown last (`version` None: nothing)."""

    partition: str
    stage: str
    is_known: bool  # Dagster has the partition
    is_complete: bool  # it has documents, and all of them are done
    version: str | None
    run_id: str | None


@dataclass(frozen=True)
class Contents:
    """The results of all documents of a partition for one stage, in numbers. `version` is a hash of their outputs."""

    documents: int
    version: str
    outdated: int  # made with another recipe than today's
    reused: int
    corrected: int  # documents with a correction of a person
    outcomes: Mapping[str, int]
    models: Mapping[str, int]  # documents by the model that answered
    tokens_in: int | None
    tokens_out: int | None
    seconds: float | None
    newest: list[str]  # the documents that were done last


def pending(cur: Cursor, stages: Sequence[str], most_rows: int, most_partitions: int) -> Pending:
    """The oldest rows and changes that are not yet reported. The caller must hold the flusher's lock."""
    cur.execute(
        "select o.event_id, d.key as document, d.partition, o.stage, o.run_id, o.state, o.reason "
        "from outbox o join documents d using (document_id) "
        "where o.told_at is null and o.stage = any(%s) order by o.event_id limit %s",
        [list(stages), most_rows],
    )
    rows = [Row(**{**row, "state": row["state"] and State(row["state"])}) for row in cur.fetchall()]
    cur.execute(
        "select partition, array_agg(change_id) as ids, bool_or(check_at is not null) as was_withdrawn "
        f"from partition_changes where {_IS_DUE} "
        # A process that lacks a stage leaves them to one that has it.
        "and not exists (select from stages where name <> all(%s)) group by partition order by min(change_id) limit %s",
        [list(stages), most_partitions],
    )
    changes = cur.fetchall()
    return Pending(
        rows, {row["partition"]: row["ids"] for row in changes}, any(row["was_withdrawn"] for row in changes)
    )


_IS_DUE = "coalesce(check_at <= clock_timestamp(), true)"


def is_any_change(cur: Cursor) -> bool:
    """Whether a change of a partition is not yet reported. Does not count them."""
    return bool(fetch_one(cur, f"select exists (select from partition_changes where {_IS_DUE}) as is_so")["is_so"])


def count_changes(cur: Cursor) -> int:
    """How many changes of partitions are not yet reported. The table is empty if each document is a partition."""
    return int(fetch_one(cur, f"select count(*) as n from partition_changes where {_IS_DUE}")["n"])


def facts(cur: Cursor, pairs: Sequence[tuple[str, str]]) -> list[Facts]:
    """The facts of these stages (second) of these partitions (first), in their order."""
    cur.execute(
        "select p.partition, p.stage, k.key is not null as is_known, "
        "  has_documents.yes is not null and unfinished.document_id is null as is_complete, r.version, r.run_id "
        "from unnest(%s::text[], %s::text[]) with ordinality as p (partition, stage, place) "
        "left join dagster_partitions k on k.key = p.partition "
        "left join partition_reports r on r.partition = p.partition and r.stage = p.stage "
        "left join lateral (select true as yes from documents d where d.partition = p.partition and d.is_present limit 1) "
        "  has_documents on true "
        # From the end: documents are taken in the order of their ids, so that those that are not done are there.
        "left join lateral (select d.document_id from documents d "
        "  left join work_items i on i.document_id = d.document_id and i.stage = p.stage "
        "  where d.partition = p.partition and d.is_present and i.state is distinct from 'done' "
        "  order by d.document_id desc limit 1) unfinished on true "
        "order by p.place",
        [[partition for partition, _ in pairs], [stage for _, stage in pairs]],
    )
    return [Facts(**row) for row in cur.fetchall()]


def contents(cur: Cursor, partition: str, stage: str, recipe: str | None) -> Contents:
    """The results of the documents present of a partition that are done for a stage. `recipe` is that of today."""
    row = fetch_one(
        cur,
        "with done as materialized ("
        "  select d.key, d.document_id, r.output_digest, r.recipe, r.outcome, r.first_document, r.served_model, r.tokens_in, "
        "    r.tokens_out, r.seconds, i.changed_at, corrections.fields from documents d "
        "  join work_items i on i.document_id = d.document_id and i.stage = %(stage)s and i.state = 'done' "
        "  join results r on r.result_id = i.result_id "
        "  left join lateral (select string_agg(c.field || ' ' || c.value, ' ' order by c.field) as fields "
        "    from corrections c where c.digest = d.digest and c.stage = %(stage)s and r.outcome <> 'not_applicable') "
        "    corrections on true "
        "  where d.partition = %(partition)s and d.is_present) "
        "select count(*) as documents, "
        "  encode(sha256(convert_to(string_agg(concat_ws(' ', key, output_digest, fields), E'\\n' order by document_id), "
        "    'UTF8')), 'hex') as version, "
        "  count(*) filter (where recipe is distinct from %(recipe)s) as outdated, "
        "  count(*) filter (where first_document <> key) as reused, count(fields) as corrected, "
        "  (select json_object_agg(outcome, n) from (select outcome, count(*) as n from done group by 1) o) as outcomes, "
        "  (select json_object_agg(served_model, n) from (select served_model, count(*) as n from done "
        "    where served_model is not null group by 1 order by 2 desc limit %(named)s) m) as models, "
        "  sum(tokens_in) as tokens_in, sum(tokens_out) as tokens_out, sum(seconds) as seconds, "
        "  array(select key from done order by changed_at desc, document_id limit %(named)s) as newest "
        "from done",
        {"partition": partition, "stage": stage, "recipe": recipe, "named": NAMED},
    )
    return Contents(**{**row, "outcomes": row["outcomes"] or {}, "models": row["models"] or {}})


def mark_reported(
    cur: Cursor,
    reported: Collection[tuple[str, str, str, str | None]],
    withdrawn: Sequence[tuple[str, str]],
    changes: Sequence[int],
) -> None:
    """Store what Dagster shows by now (partition, stage, version, run; each partition and stage once), and what it no longer
    shows. Remove the notes of these changes. What was withdrawn is looked at again `CHECK_AFTER_SECONDS` later."""
    cur.execute(
        "delete from partition_reports r using unnest(%s::text[], %s::text[]) as w (partition, stage) "
        "where (r.partition, r.stage) = (w.partition, w.stage)",
        [[partition for partition, _ in withdrawn], [stage for _, stage in withdrawn]],
    )
    cur.execute(
        "insert into partition_reports (partition, stage, version, run_id) "
        "select * from unnest(%s::text[], %s::text[], %s::text[], %s::text[]) "
        "on conflict (partition, stage) do update set version = excluded.version, run_id = excluded.run_id",
        [[each[column] for each in reported] for column in range(4)],
    )
    cur.execute("delete from partition_changes where change_id = any(%s)", [list(changes)])
    cur.execute(
        "insert into partition_changes (partition, check_at) "
        "select distinct partition, clock_timestamp() + make_interval(secs => %s) from unnest(%s::text[]) as w (partition)",
        [CHECK_AFTER_SECONDS, [partition for partition, _ in withdrawn]],
    )


@dataclass(frozen=True)
class Answerer:
    """Who made a result: the slot, the model with the kind of evidence for it (None without a call), and the outcome."""

    slot: str | None
    served_model: str | None
    model_evidence: str | None
    outcome: str


def models_of(cur: Cursor, partition: str, stage: str) -> list[Answerer]:
    """Who made the results of a partition, each combination once."""
    cur.execute(
        "select distinct r.slot, r.served_model, r.model_evidence, r.outcome from documents d "
        "join work_items i on i.document_id = d.document_id and i.stage = %s and i.state = 'done' "
        "join results r using (result_id) where d.partition = %s and d.is_present order by 1, 2, 3, 4",
        [stage, partition],
    )
    return [Answerer(**row) for row in cur.fetchall()]


def models_of_documents(cur: Cursor, documents: Sequence[str], stage: str) -> dict[str, Answerer]:
    """Who made the stage's result, by document. Documents without a result are left out."""
    cur.execute(
        "select d.key, r.slot, r.served_model, r.model_evidence, r.outcome from documents d "
        "join work_items i on i.document_id = d.document_id and i.stage = %s and i.state = 'done' "
        "join results r using (result_id) where d.key = any(%s) and d.is_present",
        [stage, list(documents)],
    )
    return {row.pop("key"): Answerer(**row) for row in cur.fetchall()}
