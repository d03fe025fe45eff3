"""The full history of one document, for `explain`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor, see_one_moment
from dagster_offload.ledger.core.pipelines import recipes_in_force, running_pipeline
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.work.claims import DUE
from dagster_offload.ledger.work.redo import OUTDATED
from dagster_offload.stages.graph import Outcome


@dataclass(frozen=True)
class ExplainedItem:
    """A work item of the document, with what its result says.

    `is_due`: its time has come, at some slot. `due_at`: the slots at which it has, of those that were named. `first_needs`: the
    stages of the document that are in work or must be done first. `same_in_work`: a document with the same content that is in
    work. `held_by` are the slots that hold its stage. `first_document` had the same content before: its result is used.
    `is_outdated`: it is done, with another recipe than today's.
    """

    stage: str
    state: State
    outcome: Outcome | None
    reason: str | None
    attempts: int
    deferrals: int
    reclaims: int
    not_before: datetime | None
    must_run_alone: bool
    changed_at: datetime
    parts_done: int | None
    parts_total: int | None
    served_model: str | None
    first_document: str | None
    extract_reason: str | None
    doubtful: list[str] | None
    is_due: bool
    due_at: list[str]
    first_needs: list[str]
    same_in_work: str | None
    held_by: str | None
    is_outdated: bool


@dataclass(frozen=True)
class Transition:
    """A change of a work item's state. The worker is None if no worker made it."""

    at: datetime
    stage: str
    from_state: str | None
    to_state: str
    worker_id: int | None
    worker_kind: str | None
    host: str | None
    reason: str | None


@dataclass(frozen=True)
class ExplainedCall:
    """A completion request about the document. `stage` is None for a trial; `part` is for a document that is read in parts."""

    ended_at: datetime
    stage: str | None
    slot: str
    epoch: int
    asked_model: str
    served_model: str | None
    model_evidence: str | None
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    seconds: float
    outcome: str
    part: str | None


@dataclass(frozen=True)
class Explanation:
    """One document: its work items in the order of their creation, and its transitions and calls, oldest first."""

    document: str
    is_present: bool
    digest: str | None
    items: list[ExplainedItem]
    transitions: list[Transition]
    calls: list[ExplainedCall]


def explain(
    cur: Cursor, document: str, slots: Sequence[str] = (), recipes: Mapping[str, str] | None = None
) -> Explanation | None:
    """The history of one document; None if the ledger has no such document. `slots`: those at which work may be due.

    `recipes`: today's, if no `up` runs. Without any, nothing is outdated.
    """
    see_one_moment(cur)
    row = cur.execute("select document_id, is_present, digest from documents where key = %s", [document]).fetchone()
    if row is None:
        return None
    found = row["document_id"]
    return Explanation(
        document,
        row["is_present"],
        row["digest"],
        _items(cur, found, slots, recipes_in_force(running_pipeline(cur), recipes or {})),
        _transitions(cur, found),
        _calls(cur, found),
    )


def _items(cur: Cursor, document_id: int, slots: Sequence[str], recipes: Mapping[str, str]) -> list[ExplainedItem]:
    cur.execute(
        "select i.stage, i.state, i.outcome, i.reason, i.attempts, i.deferrals, i.reclaims, i.not_before, "
        "i.must_run_alone, i.changed_at, i.parts_done, i.parts_total, r.served_model, r.first_document, "
        "case when i.stage = first_stage() then r.value->>'reason' end as extract_reason, r.value -> 'doubtful' as doubtful, "
        f"({DUE}) as is_due, array(select name from unnest(%(slots)s::text[]) as at (name) "
        "  where is_due(i, at.name, (select epochs()))) as due_at, "
        # The conditions of the view `free_items`.
        "array(select o.stage from work_items o where o.document_id = i.document_id and o.item_id <> i.item_id "
        "  and (o.token is not null or (o.state in ('pending', 'deferred') and exists (select from stages s "
        "    join stages n on n.name = s.upstream or s.condition ? n.name "
        "    where s.name = i.stage and n.name = o.stage and n.upstream is not null))) order by o.item_id) as first_needs, "
        "(select min(d.key) from work_items o join documents d using (document_id) where o.state = 'claimed' "
        "  and o.stage = i.stage and o.input_digest = i.input_digest and o.item_id <> i.item_id) as same_in_work, "
        "(select string_agg(f.slot, ' and ' order by f.slot) from stage_faults f "
        "  where f.stage = i.stage and f.held_since is not null) as held_by, "
        f"{OUTDATED} as is_outdated from work_items i "
        "left join results r using (result_id) where i.document_id = %(document)s order by i.item_id",
        {"document": document_id, "slots": list(slots), "recipes": Jsonb(dict(recipes))},
    )
    return [
        ExplainedItem(**row | {"state": State(row["state"]), "outcome": row["outcome"] and Outcome(row["outcome"])})
        for row in cur.fetchall()
    ]


def _transitions(cur: Cursor, document_id: int) -> list[Transition]:
    cur.execute(
        "select t.at, t.stage, t.from_state, t.to_state, t.worker_id, w.kind as worker_kind, w.host, t.reason "
        "from transitions t left join workers w using (worker_id) where t.document_id = %s order by t.transition_id",
        [document_id],
    )
    return [Transition(**row) for row in cur.fetchall()]


def _calls(cur: Cursor, document_id: int) -> list[ExplainedCall]:
    cur.execute(
        "select ended_at, stage, slot, epoch, asked_model, served_model, model_evidence, tokens_in, tokens_out, "
        "tokens_cached, seconds, outcome, part from calls where document_id = %s order by call_id",
        [document_id],
    )
    return [ExplainedCall(**row) for row in cur.fetchall()]
