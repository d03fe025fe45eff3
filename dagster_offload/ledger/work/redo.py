"""Commands that only a person gives: retry failed work, end the wait for a next attempt, and redo outdated work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dagster_offload.ledger.core import identity
from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.core.transitions import record_transition
from dagster_offload.stages.catalog import PARTS_PER_MERGE

# Conditions on a work item `i`. Work that needed no call, because there is no text or the stage does not apply, does not match:
# a redo would make no call either.
_WORKED = "i.state = 'done' and (i.stage = (select first_stage()) or i.outcome = 'ok')"
_REPEATABLE = f"i.stage = %(stage)s and {_WORKED}"
# Done with another recipe than today's. A stage without one here is not of the pipeline.
OUTDATED = f"coalesce({_WORKED} and i.recipe <> %(recipes)s::jsonb ->> i.stage, false)"

_UNREAD = "part_sizes = null, parts_done = 0, parts_total = null"

RETRYABLE = (State.FAILED, State.QUARANTINED)

# A condition on a work item `w`: it waits for its next attempt, after a fault.
_WAITS = "w.state = 'pending' and w.not_before > clock_timestamp()"

# The code of the reason of a work item `w`: `no_json` of `no_json: the answer holds no complete JSON object`.
_CODE = "split_part(w.reason, ':', 1)"

# A condition on a work item `w` and its document `d`.
_SELECTED = (
    "w.stage = any(%(stages)s) and (%(documents)s::text[] is null or d.key = any(%(documents)s)) "
    f"and (%(reason)s::text is null or {_CODE} = %(reason)s)"
)


def try_again(
    cur: Cursor, stages: Sequence[str], documents: Sequence[str] | None = None, reason: str | None = None
) -> list[tuple[str, str]]:
    """`retry` what failed or is quarantined, and `end_waits`; returns (document, stage) pairs."""
    retried = retry(cur, stages, documents=documents, reason=reason)
    return retried + end_waits(cur, stages, documents, reason)


def retry(
    cur: Cursor,
    stages: Sequence[str],
    states: Sequence[State] = RETRYABLE,
    documents: Sequence[str] | None = None,
    reason: str | None = None,
) -> list[tuple[str, str]]:
    """Set failed or quarantined work to pending with all its attempts; returns (document, stage) pairs.

    `reason` limits it to work that failed for this reason: the code before the colon, such as `no_json`.
    """
    cur.execute(
        "update work_items w set state = 'pending', attempts = 0, reclaims = 0, lone_deaths = 0, reason = 'retry', "
        "  not_before = null, must_run_alone = w.state = 'quarantined', changed_at = clock_timestamp(), "
        # If no part was answered, the document is sent whole: the slot's context may be larger by now.
        "  part_sizes = case when w.parts_done > 0 then w.part_sizes end "
        "from work_items old join documents d on d.document_id = old.document_id "
        f"where old.item_id = w.item_id and {_SELECTED} and w.state = any(%(states)s) and w.input_digest is not null "
        "returning w.item_id, w.document_id, w.stage, d.key, old.state as from_state",
        {
            "stages": list(stages),
            "states": list(states),
            "documents": None if documents is None else list(documents),
            "reason": reason,
        },
    )
    rows = sorted(cur.fetchall(), key=lambda row: int(row["item_id"]))
    cur.execute("delete from cuts where item_id = any(%s)", [[row["item_id"] for row in rows]])
    for row in rows:
        record_transition(cur, row["document_id"], row["stage"], row["from_state"], State.PENDING, None, "retry")
    identity.refuse_moved(cur)  # after the writes, which wait for a move that is under way
    return [(row["key"], row["stage"]) for row in rows]


def end_waits(
    cur: Cursor, stages: Sequence[str], documents: Sequence[str] | None = None, reason: str | None = None
) -> list[tuple[str, str]]:
    """Let work that waits for its next attempt have it now, with all its attempts; returns (document, stage) pairs.

    `reason`: see `retry`. Nothing else changes: a document that must run alone still does, and its suspicions count.
    """
    cur.execute(
        "update work_items w set attempts = 0, not_before = null, changed_at = clock_timestamp() from documents d "
        f"where d.document_id = w.document_id and {_SELECTED} and {_WAITS} returning w.item_id, d.key, w.stage",
        {"stages": list(stages), "documents": None if documents is None else list(documents), "reason": reason},
    )
    rows = sorted(cur.fetchall(), key=lambda row: int(row["item_id"]))
    identity.refuse_moved(cur)  # after the writes, which wait for a move that is under way
    return [(row["key"], row["stage"]) for row in rows]


def reasons(cur: Cursor) -> dict[str, int]:
    """The reasons why work is failed or quarantined or waits for its next attempt, as codes such as `no_json`, with how often
    each occurs."""
    cur.execute(
        f"select {_CODE} as code, count(*) as n from work_items w join stages s on s.name = w.stage "
        f"where (w.state = any(%s) or {_WAITS}) and w.reason is not null group by 1 order by 2 desc, 1",
        [list(RETRYABLE)],
    )
    return {row["code"]: row["n"] for row in cur.fetchall()}


@dataclass(frozen=True)
class Redo:
    """The done work that a person wants to redo.

    `recipes`: the recipes of today, by stage; only these stages are redone. `documents`: ids of documents; None = all.
    `only_outdated`: only answers with another recipe, and a stored answer with today's recipe is used again without a call.
    `before`: only what was answered before this time; None = whenever.
    """

    recipes: Mapping[str, str]
    documents: Sequence[int] | None = None
    only_outdated: bool = False
    before: datetime | None = None

    def parameters(self, stage: str) -> dict[str, Any]:
        """The parameters of `_CHOSEN`."""
        documents = None if self.documents is None else list(self.documents)
        return {
            "stage": stage,
            "recipe": self.recipes[stage],
            "documents": documents,
            "outdated": self.only_outdated,
            "before": self.before,
        }


# A condition on a work item `i`, with the parameters of a `Redo`.
_CHOSEN = (
    f"{_REPEATABLE} and (not %(outdated)s or i.recipe <> %(recipe)s) "
    "and (%(documents)s::bigint[] is null or i.document_id = any(%(documents)s)) "
    "and (%(before)s::timestamptz is null "
    "or (select r.created_at from results r where r.result_id = i.result_id) < %(before)s)"
)
# A condition on a chosen item: a stored answer makes its call unnecessary.
_IS_ANSWERED = (
    "%(outdated)s and (select n.result_id from results n where n.stage = i.stage and n.input_digest = i.input_digest "
    "and n.recipe = %(recipe)s and n.superseded_at is null) is not null"
)


# Of a result `r`: one call, or for a long document one a part and one a merge. The result knows its parts also if a copy of the
# document was read.
_PARTS = "nullif((r.value ->> 'parts_read')::integer, 1)"
_CALLS = f"coalesce({_PARTS} + ceil({_PARTS} / {PARTS_PER_MERGE})::integer, 1)"


@dataclass(frozen=True)
class RedoEstimate:
    """What a redo of a stage would cost.

    `calls` is how many calls the documents need that are sent to the slot: one for each, and for a long one as many as its
    parts and their merges. The others have a stored answer, or the same text as another one. The stage that reads the file
    needs none. `tokens` are those read and written. `tokens` and `hours` are None if the stage never reported any.
    """

    stage: str
    documents: int
    calls: int
    tokens: int | None
    hours: float | None


def estimate(cur: Cursor, redo: Redo) -> list[RedoEstimate]:
    """Per stage with any work to redo: documents, calls, and the tokens and hours that they took last time."""
    found = []
    for stage in redo.recipes:
        row = fetch_one(
            cur,
            f"with chosen as (select i.item_id, i.input_digest, i.result_id, {_IS_ANSWERED} as is_answered "
            f"  from work_items i where {_CHOSEN}), "
            # Only what is outdated is answered once for all documents with the same text.
            "asked as (select distinct on (case when %(outdated)s then c.input_digest else c.item_id::text end) "
            f"  {_CALLS} as calls, r.tokens_in + r.tokens_out as tokens, r.seconds "
            "  from chosen c join results r using (result_id) "
            "  where not c.is_answered "
            "  order by case when %(outdated)s then c.input_digest else c.item_id::text end, r.result_id desc), "
            "mean as (select avg(tokens_in + tokens_out) as tokens, avg(seconds) as seconds from results "
            "  where stage = %(stage)s) "
            "select (select count(*) from chosen) as documents, "
            "  case when %(stage)s = first_stage() then 0 else coalesce(sum(asked.calls), 0)::integer end as calls, "
            "  sum(case when asked.calls > 0 then coalesce(asked.tokens, mean.tokens) end)::bigint as tokens, "
            "  sum(case when asked.calls > 0 then coalesce(asked.seconds, mean.seconds) end) / 3600 as hours "
            "from mean left join asked on true",
            redo.parameters(stage),
        )
        if row["documents"]:
            found.append(RedoEstimate(stage, row["documents"], row["calls"], row["tokens"], row["hours"]))
    return found


def redo(cur: Cursor, chosen: Redo) -> int:
    """Set the chosen work to pending. The old result stays current until the new one is stored. Returns how many items."""
    count = 0
    reason = "redo: the recipe changed" if chosen.only_outdated else "redo"
    for stage in chosen.recipes:
        row = fetch_one(
            cur,
            "with moved as (update work_items i set state = 'pending', attempts = 0, reason = %(reason)s, "
            f"    is_redo = not %(outdated)s, not_before = null, {_UNREAD}, changed_at = clock_timestamp() "
            f"  where {_CHOSEN} returning i.document_id, i.input_digest), "
            # Otherwise stored answers to parts would be reused.
            "forgotten as (delete from part_answers p using moved where not %(outdated)s and p.stage = %(stage)s "
            "  and p.input_digest = moved.input_digest), "
            "recorded as (insert into transitions (document_id, stage, from_state, to_state, reason) "
            "  select document_id, %(stage)s, 'done', 'pending', %(reason)s from moved) "
            "select count(*) as moved from moved",
            chosen.parameters(stage) | {"reason": reason},
        )
        count += row["moved"]
    identity.refuse_moved(cur)  # after the writes, which wait for a move that is under way
    return count


# A condition on an extraction `i` and its result `r`: images of text were not read, or were read in other languages.
_TO_BE_READ = (
    "i.stage = (select first_stage()) and i.state = 'done' and i.result_id = r.result_id and (r.value ? 'pages_to_ocr' "
    "or (i.outcome = 'needs_ocr' and not coalesce(r.value ? 'ocr_languages', false)) "
    "or r.value->>'ocr_languages' <> %(languages)s)"
)


@dataclass(frozen=True)
class OcrEstimate:
    """How many documents and pages need OCR, as far as the extractor reported."""

    documents: int
    pages: int


def estimate_ocr(cur: Cursor, languages: str) -> OcrEstimate:
    """Count the documents with images of text that were not read in these languages."""
    row = fetch_one(
        cur,
        "select count(*) as documents, "
        "coalesce(sum(coalesce(r.value->>'pages_to_ocr', r.value->>'ocr_pages', '1')::integer), 0) as pages "
        f"from work_items i, results r where {_TO_BE_READ}",
        {"languages": languages},
    )
    return OcrEstimate(row["documents"], row["pages"])


def redo_ocr(cur: Cursor, languages: str) -> int:
    """Extract these documents again. Later stages run again if the text changes. Returns how many documents."""
    cur.execute(
        "update work_items i set state = 'pending', attempts = 0, reason = 'redo: OCR', is_redo = true, "
        f"  not_before = null, {_UNREAD}, changed_at = clock_timestamp() from results r where {_TO_BE_READ} "
        "returning i.document_id, i.stage",
        {"languages": languages},
    )
    rows = cur.fetchall()
    for row in rows:
        record_transition(cur, row["document_id"], row["stage"], State.DONE, State.PENDING, None, "redo: OCR")
    identity.refuse_moved(cur)  # after the writes, which wait for a move that is under way
    return len(rows)
