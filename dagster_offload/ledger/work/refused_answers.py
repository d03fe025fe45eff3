"""Answers that were not valid records, as the model wrote them. They are stored for a person to read, and shown nowhere
else."""

from dataclasses import dataclass
from datetime import datetime

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import ClaimedItem

KEPT_PER_ITEM = 4  # two attempts, each with its repair question
LONGEST_ANSWER = 20_000  # characters


@dataclass(frozen=True)
class RefusedAnswer:
    """An answer that was refused; `code` is the reason in one word."""

    stage: str
    code: str
    answer: str
    at: datetime


def keep(cur: Cursor, item: ClaimedItem, code: str, answer: str) -> None:
    """Store an answer with its work item, and keep only the last few of them."""
    # The lock is needed because a scan may remove the work item now: then the foreign key would be violated.
    cur.execute(
        "insert into refused_answers (item_id, code, answer) "
        "select item_id, %s, %s from work_items where item_id = %s for key share",
        [code, str(answer)[:LONGEST_ANSWER], item.item_id],
    )
    cur.execute(
        "delete from refused_answers where item_id = %(item)s and refused_answer_id not in "
        "  (select refused_answer_id from refused_answers where item_id = %(item)s "
        "   order by refused_answer_id desc limit %(kept)s)",
        {"item": item.item_id, "kept": KEPT_PER_ITEM},
    )


def of_document(cur: Cursor, document: str) -> list[RefusedAnswer]:
    """The refused answers of a document's work items, oldest first."""
    cur.execute(
        "select i.stage, r.code, r.answer, r.at from refused_answers r join work_items i using (item_id) "
        "join documents d using (document_id) where d.key = %s order by r.refused_answer_id",
        [document],
    )
    return [RefusedAnswer(**row) for row in cur.fetchall()]
