"""The extracted texts of documents."""

from collections.abc import Sequence

from dagster_offload.ledger.core.database import Cursor, fetch_one

_TEXTS = (
    "from documents d join work_items i using (document_id) join results r using (result_id) "
    "where d.is_present and i.stage = (select first_stage()) and i.state = 'done' and i.outcome = 'ok'"
)


def ids_with_text(cur: Cursor) -> list[int]:
    """The ids of the documents present that have a text, oldest first."""
    cur.execute(f"select d.document_id {_TEXTS} order by d.document_id")
    return [row["document_id"] for row in cur.fetchall()]


def text_of(cur: Cursor, document_id: int) -> tuple[str, str]:
    """The key and the text of a document that has one."""
    row = fetch_one(cur, f"select d.key, r.text {_TEXTS} and d.document_id = %s", [document_id])
    return row["key"], row["text"]


def texts_of(cur: Cursor, keys: Sequence[str]) -> dict[str, str]:
    """The texts of these documents, by key, without those that have none."""
    cur.execute(f"select d.key, r.text {_TEXTS} and d.key = any(%s)", [list(keys)])
    return {row["key"]: row["text"] for row in cur.fetchall()}
