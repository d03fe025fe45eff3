"""Stores each page as soon as OCR has read it: a 300-page document that is stopped at page 299 needs only one more page."""

from collections.abc import Sequence

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import Claim, ClaimedItem


def known(cur: Cursor, input_digests: Sequence[str], languages: str) -> dict[str, dict[int, str]]:
    """The texts of the pages of these files that were read in these languages, by input digest and page number."""
    cur.execute(
        "select input_digest, page, text from ocr_pages where input_digest = any(%s) and languages = %s",
        [list(input_digests), languages],
    )
    pages: dict[str, dict[int, str]] = {}
    for row in cur.fetchall():
        pages.setdefault(row["input_digest"], {})[row["page"]] = row["text"]
    return pages


def begin(cur: Cursor, claim: Claim, item: ClaimedItem, page: int, of: int) -> None:
    """Store that a page is being read as the item's progress, if this claim still holds the item."""
    _show_progress(cur, claim, item, page - 1, of)


def keep(cur: Cursor, claim: Claim, item: ClaimedItem, languages: str, page: int, of: int, text: str) -> None:
    """Store a page's text in any case, because the work is done. Update the item's progress if this claim still holds it."""
    cur.execute(
        "insert into ocr_pages (input_digest, languages, page, text) values (%s, %s, %s, %s) on conflict do nothing",
        [item.input_digest, languages, page, text],
    )
    _show_progress(cur, claim, item, page, of)


def forget(cur: Cursor, item: ClaimedItem) -> None:
    """Delete the file's pages and reset the item's progress: its whole text is stored."""
    cur.execute("delete from ocr_pages where input_digest = %s", [item.input_digest])
    cur.execute("update work_items set parts_done = 0, parts_total = null where item_id = %s", [item.item_id])


def forget_unwanted(cur: Cursor) -> None:
    """Delete the pages of files that belong to no document any more."""
    cur.execute(
        "delete from ocr_pages p where not exists "
        "(select from documents d where d.is_present and d.digest = p.input_digest)"
    )


def _show_progress(cur: Cursor, claim: Claim, item: ClaimedItem, done: int, total: int) -> None:
    cur.execute(
        "update work_items set parts_done = %s, parts_total = %s "
        "where item_id = %s and state = 'claimed' and token = %s",
        [done, total, item.item_id, claim.token],
    )
