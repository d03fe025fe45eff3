"""Long documents that no stage has begun: about how many parts they have. Those that were begun are in `status.in_parts`."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.stages.catalog import PARTS_PER_MERGE, Splitting
from dagster_offload.text.tokens import estimated_tokens

SAMPLE_CHARACTERS = 100_000  # the tokens of a text are estimated from its beginning
MOST_READ = 20  # texts; of the others the size is known to a factor of two, by their priority
BYTES_PER_TOKEN = 3  # prose of any script, as `estimated_tokens` counts it


@dataclass(frozen=True)
class LongAhead:
    """A long document that no stage has begun: about how many parts it has, and the slot's hours for them.

    `hours` is None if the slot's speed is not known.
    """

    document: str
    stage: str
    parts: int
    hours: float | None


@dataclass(frozen=True)
class CallsAhead:
    """How many long documents a stage has not begun, and about how many calls they take."""

    documents: int = 0
    calls: float = 0.0


NONE = CallsAhead()


@dataclass(frozen=True)
class _Next:
    document: str
    stage: str
    priority: int
    parts: int


def list_next(
    cur: Cursor, splitting: Splitting, seconds_per_part: float | None, limit: int = MOST_READ
) -> list[LongAhead]:
    """The documents that will be read in more than one part, in the order of their turn."""
    return [
        LongAhead(
            each.document,
            each.stage,
            each.parts,
            None if seconds_per_part is None else _calls(each.parts) * seconds_per_part / 3600,
        )
        for each in _next(cur, splitting, limit)
        if each.parts > 1
    ]


def ahead(cur: Cursor, splitting: Splitting) -> dict[str, CallsAhead]:
    """By stage, all documents that will be read in more than one part. Only the texts whose turn is next are read."""
    cur.execute(
        f"select stage, priority, count(*) as n from ({_BEHIND_OTHERS}) i group by stage, priority",
        {"stages": list(splitting.stages)},
    )
    not_read = Counter({(row["stage"], row["priority"]): int(row["n"]) for row in cur.fetchall()})
    found: dict[str, CallsAhead] = {}

    def add(stage: str, documents: int, parts: int) -> None:
        if parts > 1:
            before = found.get(stage, NONE)
            found[stage] = CallsAhead(before.documents + documents, before.calls + documents * _calls(parts))

    for each in _next(cur, splitting, MOST_READ):
        not_read[each.stage, each.priority] -= 1
        add(each.stage, 1, each.parts)
    for (stage, priority), documents in not_read.items():
        add(stage, documents, _parts(_usual_bytes(-priority) / BYTES_PER_TOKEN, splitting))
    return found


def _next(cur: Cursor, splitting: Splitting, limit: int) -> Iterator[_Next]:
    cur.execute(
        "select d.key as document, i.stage, i.priority, left(r.text, %(sample)s) as sample, "
        # Unlike the number of characters, this is known without reading the text.
        "octet_length(r.text) as bytes "
        f"from ({_BEHIND_OTHERS}) i join documents d using (document_id) "
        "join work_items x on x.document_id = i.document_id and x.stage = first_stage() "
        "join results r on r.result_id = x.result_id "
        "order by i.priority desc, i.document_id limit %(limit)s",
        {"sample": SAMPLE_CHARACTERS, "stages": list(splitting.stages), "limit": limit},
    )
    for row in cur.fetchall():
        sample = row["sample"]
        tokens = estimated_tokens(sample) * row["bytes"] / max(len(sample.encode()), 1)
        yield _Next(row["document"], row["stage"], row["priority"], _parts(tokens, splitting))


# Items of long texts: their priority is below that of others. Each half has an index that does not hold the others.
_BEHIND_OTHERS = (
    "select * from work_items where stage = any(%(stages)s) and state in ('pending', 'deferred') "
    "and must_run_alone in (false, true) and priority < 0 and parts_total is null "
    "union all select * from work_items where stage = any(%(stages)s) and state = 'claimed' "
    "and priority < 0 and parts_total is null"
)


def _parts(tokens: float, splitting: Splitting) -> int:
    return math.ceil(tokens / splitting.part_tokens)


def _calls(parts: int) -> float:
    """The calls for a document of so many parts: one a part, and the merges."""
    return parts + parts / PARTS_PER_MERGE


def _usual_bytes(steps: int) -> float:
    """A text that goes so many steps behind has between half of this power of two and all of it: see `turns_behind`."""
    return 0.75 * 65_536 * float(2**steps)
