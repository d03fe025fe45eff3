"""Reports for people: counts by state, problems and their reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload import timing
from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import StageCounts, State
from dagster_offload.ledger.work.redo import OUTDATED
from dagster_offload.text.counts import counted
from dagster_offload.text.plain_text import escaped


def stage_counts(cur: Cursor, recipes: Mapping[str, str]) -> dict[str, StageCounts]:
    """Work items by stage and state; `outdated` = done with another recipe than today's."""
    found = {}
    for stage in [node.name for node in stages.graph(cur)]:
        cur.execute(
            f"select i.state, sum(i.n)::bigint as n, coalesce(sum(i.n) filter (where {OUTDATED}), 0)::bigint as outdated "
            "from item_counts i where i.stage = %(stage)s and i.state <> 'gone' group by i.state",
            {"stage": stage, "recipes": Jsonb(dict(recipes))},
        )
        rows = cur.fetchall()
        outdated = sum(row["outdated"] for row in rows)
        found[stage] = StageCounts(**{row["state"]: row["n"] for row in rows}, outdated=outdated)
    return found


@dataclass(frozen=True)
class Problem:
    """A failed or quarantined work item, with its reason."""

    document: str
    stage: str
    state: State
    reason: str | None
    attempts: int


def problems(cur: Cursor, limit: int = 50, stage: str | None = None) -> list[Problem]:
    """Failed and quarantined work items (of one stage, if given), oldest document first."""
    cur.execute(
        f"{_PROBLEMS} and (%(stage)s::text is null or i.stage = %(stage)s) order by i.item_id limit %(limit)s",
        {"stage": stage, "limit": limit},
    )
    return [_problem(row) for row in cur.fetchall()]


MOST_GROUPED = 10_000  # a status takes milliseconds, also in a ledger of which much has failed


@dataclass(frozen=True)
class ProblemGroup:
    """Failed or quarantined work of one stage with one reason. `code` is the word before the reason's colon.

    `reason` is the most frequent one with this code; `has_others`: there are others. `first` are the first documents.
    """

    stage: str
    state: State
    code: str
    reason: str | None
    has_others: bool
    count: int
    first: list[str]

    def line(self, longest: int | None = None) -> str:
        """`failed: a.pdf, extract: broken_file: ...`, or `failed: 5 documents (a.pdf, b.pdf, c.pdf and 2 more), extract: ...`.

        `longest`: how many characters of the reason.
        """
        named, more = ", ".join(map(escaped, self.first)), self.count - len(self.first)
        rest = f" and {more:,} more" if more else ""
        documents = named if self.count == 1 else f"{counted(self.count, 'document')} ({named}{rest})"
        others = "; others differ" if self.has_others else ""
        return f"{self.state}: {documents}, {self.stage}: {escaped((self.reason or 'no reason')[:longest])}{others}"


def problem_groups(cur: Cursor, named: int, most: int = MOST_GROUPED) -> list[ProblemGroup]:
    """The failed and quarantined work by stage, state and the reason's code, the oldest `most`; the largest group first."""
    items = f"select * from work_items i where {_IS_PROBLEM} order by i.item_id limit %(most)s"
    return _grouped(cur, items, named, {"most": most})


def problem_groups_of(cur: Cursor, transitions: Sequence[int], named: int) -> list[ProblemGroup]:
    """The work that failed by these transitions and is still failed, grouped as by `problem_groups`."""
    items = (
        "select distinct on (i.item_id) i.* from transitions t join work_items i on i.document_id = t.document_id "
        "and i.stage = t.stage and i.state = t.to_state where t.transition_id = any(%(transitions)s) order by i.item_id"
    )
    return _grouped(cur, items, named, {"transitions": list(transitions)})


def _grouped(cur: Cursor, items: str, named: int, values: Mapping[str, Any]) -> list[ProblemGroup]:
    cur.execute(
        # A quarantined document's reason is its history, which begins with no code.
        "with g as (select i.stage, i.state, coalesce(substring(i.reason from '^([^[:space:]:]+):'), '') as code, "
        "  mode() within group (order by i.reason) as reason, count(distinct i.reason) > 1 as has_others, count(*) as count, "
        "  (array_agg(i.document_id order by i.item_id))[1:%(named)s] as documents, min(i.item_id) as oldest "
        f"  from ({items}) i group by 1, 2, 3) "
        "select g.stage, g.state, g.code, g.reason, g.has_others, g.count, array(select d.key from documents d "
        "  where d.document_id = any(g.documents) order by array_position(g.documents, d.document_id)) as first "
        "from g order by g.count desc, g.oldest",
        {**values, "named": named},
    )
    return [ProblemGroup(**{**row, "state": State(row["state"])}) for row in cur.fetchall()]


def problems_of_run(cur: Cursor, run_id: str) -> list[Problem]:
    """The work items that failed or were quarantined in this Dagster run and still are, oldest document first.

    Files that a scan could not read belong to no worker, so they are found by the time of the run's first scan.
    """
    cur.execute(
        f"{_PROBLEMS} and (exists (select from outbox o where o.run_id = %(run)s and o.result_id is null "
        "  and o.document_id = i.document_id and o.stage = i.stage) or i.input_digest is null and i.changed_at >= "
        "  (select min(started_at) from workers where run_id = %(run)s and kind = 'scan')) order by i.item_id",
        {"run": run_id},
    )
    return [_problem(row) for row in cur.fetchall()]


def done_by_host(cur: Cursor, run_id: str, stage: str) -> dict[str, int]:
    """How many work items of `stage` the workers of this run have done, by host."""
    cur.execute(
        "select w.host, count(*) as n from transitions t join workers w using (worker_id) "
        "where w.run_id = %s and t.stage = %s and t.to_state = 'done' group by w.host order by w.host",
        [run_id, stage],
    )
    return {row["host"]: int(row["n"]) for row in cur.fetchall()}


# A condition on a work item `i`. Those of a removed stage are kept, and not retried.
_IS_PROBLEM = "i.state in ('failed', 'quarantined') and i.stage = any(array(select name from stages))"
_PROBLEMS = (
    "select d.key as document, i.stage, i.state, i.reason, i.attempts from work_items i "
    f"join documents d using (document_id) where {_IS_PROBLEM}"
)


def _problem(row: dict[str, Any]) -> Problem:
    return Problem(**{**row, "state": State(row["state"])})


def count_problems(cur: Cursor, stage: str) -> int:
    """How many documents are failed or quarantined in this stage."""
    row = fetch_one(
        cur,
        "select count(*) as n from work_items where stage = %s and state in ('failed', 'quarantined')",
        [stage],
    )
    return int(row["n"])


def problem_counts(cur: Cursor) -> dict[str, int]:
    """How many documents are failed and quarantined; without the states that no document has."""
    cur.execute(
        "select state, count(distinct document_id) as n from work_items where state in ('failed', 'quarantined') "
        "and stage = any(array(select name from stages)) group by state order by state"
    )
    return {row["state"]: row["n"] for row in cur.fetchall()}


def in_back_off(cur: Cursor) -> dict[str, int]:
    """By stage: how many work items are pending and wait for their next attempt. Stages without any are left out."""
    cur.execute(
        "select stage, count(*) as n from work_items "
        "where state = 'pending' and not_before is not null and not_before > clock_timestamp() "
        "and stage in (select name from stages) group by stage"
    )
    return {row["stage"]: row["n"] for row in cur.fetchall()}


@dataclass(frozen=True)
class Doubtful:
    """A result that may be wrong, with its marks (see `stages/answers/doubts.py`)."""

    document: str
    stage: str
    marks: list[str]


@dataclass(frozen=True)
class DoubtfulGroup:
    """The results of one stage with the same marks. `first` are the first documents."""

    stage: str
    marks: list[str]
    count: int
    first: list[str]


# Current results with marks, each once with the document it was made for.
_DOUBTFUL = (
    "select r.result_id, d.key as document, r.stage, r.value -> 'doubtful' as marks from results r "
    "join documents d on d.key = r.first_document and d.is_present "
    "join work_items i on i.document_id = d.document_id and i.stage = r.stage and i.result_id = r.result_id "
    "where r.value ? 'doubtful' and r.superseded_at is null"
)


def doubtful(cur: Cursor, limit: int = 50) -> list[Doubtful]:
    """Current results with marks, oldest first."""
    cur.execute(f"select document, stage, marks from ({_DOUBTFUL}) r order by result_id limit %s", [limit])
    return [Doubtful(**row) for row in cur.fetchall()]


def doubtful_groups(cur: Cursor, named: int, most: int = MOST_GROUPED) -> list[DoubtfulGroup]:
    """The current results with marks by stage and marks, the oldest `most`; the largest group first."""
    cur.execute(
        "select stage, marks, count(*) as count, (array_agg(document order by result_id))[1:%s] as first "
        f"from ({_DOUBTFUL} order by r.result_id limit %s) r group by stage, marks order by count(*) desc, min(result_id)",
        [named, most],
    )
    return [DoubtfulGroup(**row) for row in cur.fetchall()]


def live_kinds(cur: Cursor) -> list[str]:
    """The kinds of the workers that are alive by their heartbeat, besides `up`. Reads only: `live_workers` also reclaims the
    dead."""
    cur.execute(
        "select distinct kind from workers where ended_at is null and kind <> 'up' "
        "and heartbeat_at > clock_timestamp() - make_interval(secs => %s) order by kind",
        [timing.current().lease],
    )
    return [row["kind"] for row in cur.fetchall()]


@dataclass(frozen=True)
class InParts:
    """A long document that was begun: `done` of `total` parts are answered."""

    document: str
    stage: str
    state: State
    done: int
    total: int


def in_parts(cur: Cursor, limit: int = 50) -> list[InParts]:
    """Long documents that were begun and are not done, claimed ones first."""
    cur.execute(
        "select d.key as document, i.stage, i.state, i.parts_done as done, i.parts_total as total from work_items i "
        "join documents d using (document_id) where i.parts_total is not null "
        "and i.state in ('pending', 'claimed', 'deferred') order by i.state <> 'claimed', i.item_id limit %s",
        [limit],
    )
    return [InParts(**{**row, "state": State(row["state"])}) for row in cur.fetchall()]


def count_needs_ocr(cur: Cursor) -> int:
    """How many documents are images of text that need OCR."""
    row = fetch_one(
        cur,
        "select coalesce(sum(n), 0)::bigint as n from item_counts "
        "where stage = (select first_stage()) and state = 'done' and outcome = 'needs_ocr'",
    )
    return int(row["n"])


def unusable_names(cur: Cursor) -> dict[str, str]:
    """File names that cannot be document keys, each with the reason."""
    return {row["name"]: row["reason"] for row in cur.execute("select name, reason from unusable_names order by name")}
