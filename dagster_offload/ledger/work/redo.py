"""Commands that only a person gives: retry failed work, and redo outdated work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.core.transitions import record_transition

# A condition on a work item `i`: it was done with another recipe than today's. Items that needed no call (an empty file) do
# not match: a redo would make no call either.
OUTDATED = (
    "i.stage = %(stage)s and i.state = 'done' and i.recipe <> %(recipe)s "
    "and (i.stage = (select first_stage()) or i.outcome = 'ok')"
)

_UNREAD = "part_sizes = null, parts_done = 0, parts_total = null"

RETRYABLE = (State.FAILED, State.QUARANTINED)


def retry(
    cur: Cursor,
    stages: Sequence[str],
    states: Sequence[State] = RETRYABLE,
    documents: Sequence[str] | None = None,
) -> list[tuple[str, str]]:
    """Set failed or quarantined work to pending with all its attempts; returns (document, stage) pairs."""
    cur.execute(
        "update work_items w set state = 'pending', attempts = 0, reclaims = 0, lone_deaths = 0, reason = 'retry', "
        "  not_before = null, must_run_alone = w.state = 'quarantined', changed_at = clock_timestamp(), "
        # If no part was answered, the document is sent whole: the slot's context may be larger by now.
        "  part_sizes = case when w.parts_done > 0 then w.part_sizes end "
        "from work_items old join documents d on d.document_id = old.document_id "
        "where old.item_id = w.item_id and w.stage = any(%(stages)s) and w.state = any(%(states)s) "
        "  and w.input_digest is not null and (%(documents)s::text[] is null or d.key = any(%(documents)s)) "
        "returning w.item_id, w.document_id, w.stage, d.key, old.state as from_state",
        {"stages": list(stages), "states": list(states), "documents": None if documents is None else list(documents)},
    )
    rows = cur.fetchall()
    cur.execute("delete from cuts where item_id = any(%s)", [[row["item_id"] for row in rows]])
    for row in rows:
        record_transition(cur, row["document_id"], row["stage"], row["from_state"], State.PENDING, None, "retry")
    return [(row["key"], row["stage"]) for row in rows]


@dataclass(frozen=True)
class RedoEstimate:
    """What a redo of a stage would cost. `hours` is None if no call of that stage was ever timed."""

    stage: str
    documents: int
    hours: float | None


def estimate_redo(cur: Cursor, recipes: Mapping[str, str]) -> list[RedoEstimate]:
    """Per stage, the number of documents whose result is outdated, and the hours their calls took last time."""
    estimates = []
    for stage, recipe in recipes.items():
        row = fetch_one(
            cur,
            "select count(*) as documents, sum(coalesce(r.seconds, mean.seconds)) / 3600 as hours from work_items i "
            "join results r using (result_id), (select avg(seconds) as seconds from results where stage = %(stage)s) mean "
            f"where {OUTDATED}",
            {"stage": stage, "recipe": recipe},
        )
        if row["documents"]:
            estimates.append(RedoEstimate(stage, row["documents"], row["hours"]))
    return estimates


def redo_outdated(cur: Cursor, recipes: Mapping[str, str]) -> int:
    """Set outdated work to pending; the old result stays current until the new one is stored. Returns how many items."""
    count = 0
    for stage, recipe in recipes.items():
        cur.execute(
            "update work_items i set state = 'pending', attempts = 0, reason = 'redo: the recipe changed', "
            f"not_before = null, {_UNREAD}, changed_at = clock_timestamp() where {OUTDATED} returning document_id",
            {"stage": stage, "recipe": recipe},
        )
        for row in cur.fetchall():
            record_transition(
                cur, row["document_id"], stage, State.DONE, State.PENDING, None, "redo: the recipe changed"
            )
            count += 1
    return count


def redo(cur: Cursor, stages: Sequence[str], documents: Sequence[str]) -> list[tuple[str, str]]:
    """Redo these documents although they are done. The new result replaces the current one of its key. Work that needed
    no call, because there is no text or the stage does not apply, stays done. Returns (document, stage) pairs."""
    cur.execute(
        "update work_items w set state = 'pending', attempts = 0, reason = 'redo', is_redo = true, not_before = null, "
        f"  {_UNREAD}, changed_at = clock_timestamp() from documents d "
        "where d.document_id = w.document_id and d.key = any(%s) and w.stage = any(%s) and w.state = 'done' "
        "  and (w.stage = (select first_stage()) or w.outcome = 'ok') "
        "returning w.document_id, w.stage, w.input_digest, d.key",
        [list(documents), list(stages)],
    )
    rows = cur.fetchall()
    for row in rows:
        # Otherwise stored answers to its parts would be reused.
        cur.execute(
            "delete from part_answers where stage = %s and input_digest = %s", [row["stage"], row["input_digest"]]
        )
        record_transition(cur, row["document_id"], row["stage"], State.DONE, State.PENDING, None, "redo")
    return [(row["key"], row["stage"]) for row in rows]


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
    return len(rows)
