"""The keys of documents, for finding one by a part of its name."""

from collections.abc import Iterator

from dagster_offload.ledger.core.database import Cursor, Ledger

PAGE = 10_000


def is_document(cur: Cursor, key: str) -> bool:
    """Whether the ledger has a document of this key, present or gone."""
    return cur.execute("select from documents where key = %s", [key]).rowcount > 0


def keys(ledger: Ledger, *, is_present: bool) -> Iterator[str]:
    """All keys of present documents, or of those that are gone, in order. Reads a page at a time."""
    last = ""
    while page := ledger.run(_page, last, is_present):
        yield from page
        last = page[-1]


def beginning_with(cur: Cursor, prefix: str, limit: int) -> list[str]:
    """The first keys of present documents that begin with `prefix`."""
    cur.execute(
        "select key from documents where is_present and starts_with(key, %s) order by key limit %s", [prefix, limit]
    )
    return [row["key"] for row in cur.fetchall()]


def _page(cur: Cursor, after: str, is_present: bool) -> list[str]:
    cur.execute(
        "select key from documents where key > %s and is_present = %s order by key limit %s", [after, is_present, PAGE]
    )
    return [row["key"] for row in cur.fetchall()]
