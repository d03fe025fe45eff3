"""Find the document that a person means by a path, its key, a part of its name, its folder, or another case.

One match is taken, and the command shows which. Several are listed. Without a match, the error names the nearest documents.
"""

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.options import document_key, no_such_document
from dagster_offload.text.lists import listed

if TYPE_CHECKING:
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.settings import Settings

LISTED = 10
NEAREST = 3
MOST_COMPARED = 20_000  # names and words of them; comparing so many takes about a second
_WORD = re.compile(r"[^\W_]+")


def find_document(settings: "Settings", ledger: "Ledger", typed: str) -> str:
    """The key of the document that `typed` means. Raises `Refusal` if there is none, or more than one.

    A key or path that is in the ledger is never taken for a part of another name. A document whose file is gone is found
    if no present one matches.
    """
    from dagster_offload.ledger.reports import names, status

    if not typed.strip():
        raise Refusal("the name of the document is empty; in a script, its variable may not be set")
    key = document_key(settings.library, typed)
    if ledger.run(names.is_document, key):
        return key
    unusable = ledger.run(status.unusable_names)
    if key in unusable:
        raise Refusal(f"no such document: {no_such_document(key, unusable)}")
    present = match(key, names.keys(ledger, is_present=True))
    gone = Matches() if present.found else match(key, names.keys(ledger, is_present=False))
    return choose(typed, key, Matches(present.found or gone.found, present.nearest or gone.nearest))


def find_documents(settings: "Settings", ledger: "Ledger", typed: Iterable[str]) -> list[str]:
    """The keys of these documents. Raises `Refusal` as `find_document` does."""
    return [find_document(settings, ledger, document) for document in typed]


def choose(typed: str, key: str, matches: "Matches") -> str:
    """The only match, after a line on standard error that names it. Raises `Refusal` if there is none, or more than one."""
    from dagster_offload.cli.formatting import say

    if len(matches.found) == 1:
        say(f"document: {matches.found[0]}", err=True)
        return matches.found[0]
    if matches.found:
        more = f" and {len(matches.found) - LISTED} more" if len(matches.found) > LISTED else ""
        names = ", ".join(matches.found[:LISTED])
        raise Refusal(f"{len(matches.found)} documents match {typed!r}: {names}{more}. Type more of the name")
    if matches.nearest:
        raise Refusal(f"no such document: {key}. Did you mean {listed(matches.nearest, 'or')}?")
    raise Refusal(f"no such document: {no_such_document(key, {})}")


@dataclass
class Matches:
    """The keys that match best, and the keys with the nearest names."""

    found: list[str] = field(default_factory=list)
    nearest: list[str] = field(default_factory=list)


def match(typed: str, keys: Iterable[str]) -> Matches:
    """Match `typed` with `keys`, in any case: the whole key, else the file's name, else a folder, else a part of the key."""
    wanted = typed.strip("/").casefold()
    if not wanted:
        return Matches()
    words = max(len(_WORD.findall(wanted)), 1)
    by_rank: dict[int, list[str]] = {}
    similar: dict[str, str] = {}
    for key in keys:
        folded = key.casefold()
        rank = _rank(wanted, folded)
        if rank is not None:
            by_rank.setdefault(rank, []).append(key)
        elif not by_rank and len(similar) < MOST_COMPARED:
            for name in (folded, os.path.basename(folded), *_parts(folded, words)):
                if abs(len(name) - len(wanted)) <= max(2, len(wanted) // 3):
                    similar.setdefault(name, key)
    if by_rank:
        return Matches(found=sorted(by_rank[min(by_rank)]))
    close = difflib.get_close_matches(wanted, similar, n=NEAREST)
    return Matches(nearest=list(dict.fromkeys(similar[name] for name in close)))


def _parts(folded: str, words: int) -> Iterator[str]:
    """Every run of so many words of a key, with what is between them: `table_04` is one of two words."""
    found = list(_WORD.finditer(folded))
    for first, last in zip(found, found[words - 1 :], strict=False):
        yield folded[first.start() : last.end()]


def _rank(wanted: str, folded: str) -> int | None:
    """How well a key matches, 0 is best; None if it does not."""
    name = folded.rpartition("/")[2]
    if wanted == folded:
        return 0
    if wanted in (name, name.rpartition(".")[0]):
        return 1
    if f"/{wanted}/" in f"/{folded}":
        return 2
    return 3 if wanted in folded else None
