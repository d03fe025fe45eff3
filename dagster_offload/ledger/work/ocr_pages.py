"""Stores each page as soon as OCR has read it: a 300-page document that is stopped at page 299 needs only one more page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import Claim, ClaimedItem
from dagster_offload.ledger.work import claims

# A document that needs OCR goes this far behind the others.
OCR_BEHIND = 1_000
# A rate is a mean over about the last 50 pages: with each page, the pages before it count 2 % less.
_OLDER_PAGES_COUNT = 0.98


class Turn(Enum):
    """When a document that needs OCR is read."""

    NOW = auto()
    LATER = auto()  # its claim was released
    LOST = auto()  # the claim no longer holds it


@dataclass(frozen=True)
class ReadPage:
    """A page that OCR has read, in `seconds` of one of `lanes` lanes."""

    number: int
    text: str = field(repr=False)
    languages: str
    seconds: float
    lanes: int


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


def put_behind(cur: Cursor, worker_id: int, claim: Claim, item: ClaimedItem, known: int, wanted: int) -> Turn:
    """Decide when a document whose `wanted` pages need OCR is read; `known` pages were read before.

    The first time, its claim is released and it goes behind all documents that need no OCR. When it is claimed again, it
    is its turn.
    """
    held = cur.execute(
        "select parts_total from work_items where item_id = %s and state = 'claimed' and token = %s for update",
        [item.item_id, claim.token],
    ).fetchone()
    if held is None:
        return Turn.LOST
    is_first_time = held["parts_total"] is None
    cur.execute(
        "update work_items set parts_done = %s, parts_total = %s, priority = least(priority, %s) where item_id = %s",
        [known, known + wanted, -OCR_BEHIND, item.item_id],
    )
    if not is_first_time:
        return Turn.NOW
    claims.release(cur, worker_id, claim, f"waits for OCR of {wanted} pages")
    return Turn.LATER


def count_without_ocr(cur: Cursor, documents: Sequence[str] | None, most: int) -> int:
    """How many documents (of `documents`, else all) are due for extraction that are not known to need OCR, up to `most`."""
    row = fetch_one(
        cur,
        "select count(*) as n from (select from free_items i where i.stage = first_stage() and not i.must_run_alone "
        "and (i.item).parts_total is null and is_due(i.item, null, (select epochs())) "
        "and (%(keys)s::text[] is null or i.document_id in (select document_id from documents where key = any(%(keys)s))) "
        "limit %(most)s) counted",
        {"keys": None if documents is None else list(documents), "most": max(most, 0)},
    )
    return int(row["n"])


def keep(cur: Cursor, worker_id: int, claim: Claim, item: ClaimedItem, page: ReadPage) -> tuple[int, int, float]:
    """Store a page's text in any case, because the work is done, and the item's progress if this claim still holds it.

    Returns how many of the document's pages are read, how many need OCR, and the pages a minute that this host reads.
    """
    cur.execute(
        "insert into ocr_pages (input_digest, languages, page, text) values (%s, %s, %s, %s) on conflict do nothing",
        [item.input_digest, page.languages, page.number, page.text],
    )
    read = fetch_one(
        cur,
        "select count(*) as done, greatest(count(*), (select parts_total from work_items where item_id = %s)) as total "
        "from ocr_pages where input_digest = %s and languages = %s",
        [item.item_id, item.input_digest, page.languages],
    )
    # A book takes hours. Deaths before a page was read show nothing about the next page.
    cur.execute(
        "update work_items set parts_done = %s, reclaims = 0, lone_deaths = 0, must_run_alone = false "
        "where item_id = %s and state = 'claimed' and token = %s",
        [read["done"], item.item_id, claim.token],
    )
    row = fetch_one(
        cur,
        "insert into ocr_rates as r (host, pages, seconds, lanes, measured_at) "
        "select host, 1, %(seconds)s, %(lanes)s, clock_timestamp() from workers where worker_id = %(worker)s "
        "on conflict (host) do update set pages = r.pages * %(keep)s + 1, seconds = r.seconds * %(keep)s + excluded.seconds, "
        "  lanes = excluded.lanes, measured_at = excluded.measured_at "
        "returning 60 * lanes * pages / greatest(seconds, 0.001) as rate",
        {"seconds": page.seconds, "lanes": page.lanes, "worker": worker_id, "keep": _OLDER_PAGES_COUNT},
    )
    return read["done"], read["total"], float(row["rate"])


@dataclass(frozen=True)
class PagesLeft:
    """What OCR has still to read. `pages_per_minute`: as last measured, None = no page was read yet."""

    documents: int
    pages: int
    pages_per_minute: float | None

    @property
    def hours(self) -> float | None:
        """How long it takes if nothing else is extracted."""
        return None if self.pages_per_minute is None else self.pages / self.pages_per_minute / 60


def left(cur: Cursor) -> PagesLeft:
    """The pages that OCR has still to read, of the documents that are known to need it."""
    row = fetch_one(
        cur,
        "select count(*) as documents, coalesce(sum(parts_total - parts_done), 0) as pages, "
        "(select 60 * lanes * pages / greatest(seconds, 0.001) from ocr_rates order by measured_at desc limit 1) as rate "
        "from work_items where stage = first_stage() and parts_total is not null and state in ('pending', 'claimed', 'deferred')",
    )
    return PagesLeft(row["documents"], int(row["pages"]), row["rate"])


def forget(cur: Cursor, item: ClaimedItem) -> None:
    """Delete the file's pages and reset the item's progress: its whole text is stored."""
    cur.execute("delete from ocr_pages where input_digest = %s", [item.input_digest])
    cur.execute("update work_items set parts_done = 0, parts_total = null where item_id = %s", [item.item_id])


def forget_unwanted(cur: Cursor) -> None:
    """Delete the pages of files that no longer belong to a document."""
    cur.execute(
        "delete from ocr_pages p where not exists "
        "(select from documents d where d.is_present and d.digest = p.input_digest)"
    )
