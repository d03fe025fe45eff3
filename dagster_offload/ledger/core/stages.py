"""The stages that this ledger records. `open_ledger` supplies them; no code here knows a stage's name."""

import json
from collections.abc import Mapping, Sequence

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.stages.graph import StageGraph, StageNode

# A batch of `fill` takes a fraction of a second.
DOCUMENTS_A_BATCH = 250


def graph(cur: Cursor) -> StageGraph:
    """The stages, each after those it needs."""
    cur.execute("select name, upstream, condition from stages order by position")
    return StageGraph(tuple(StageNode(**row) for row in cur.fetchall()))


def replace(cur: Cursor, wanted: StageGraph) -> None:
    """Store the graph. Writes nothing if it is unchanged. The items and results of a stage that is left out are kept.

    The documents get their items for a stage that is new, or that needs other stages than before, from `fill`.
    """
    cur.execute("select name, upstream, condition, filled_to from stages")
    before = {row["name"]: row for row in cur.fetchall()}
    if graph(cur) == wanted:
        return
    # Wait for transactions that have read the stages before: `fill` would not see the items that they are finishing.
    cur.execute("lock table stages in access exclusive mode")
    cur.execute("delete from stages")
    for position, node in enumerate(wanted):
        old = before.get(node.name)
        is_same = old is not None and (old["upstream"], old["condition"]) == (node.upstream, node.condition)
        # A new ledger has no documents, and the stage that reads the file gets its items from the scan.
        needs_fill = bool(before) and node.upstream is not None
        filled_to = old["filled_to"] if old is not None and is_same else (0 if needs_fill else None)
        cur.execute(
            "insert into stages (name, upstream, condition, position, filled_to) values (%s, %s, %s::jsonb, %s, %s)",
            [
                node.name,
                node.upstream,
                None if node.condition is None else json.dumps(node.condition),
                position,
                filled_to,
            ],
        )
    cur.execute("select note_changed_stages(%s)", [sorted(before.keys() - set(wanted.names))])
    # A stage that is back may lack items that its partitions had when it was removed. There are none without groups.
    cur.execute("insert into partition_changes (partition) select key from dagster_partitions")


def are_incomplete(cur: Cursor) -> bool:
    """Whether documents may lack work items because a stage was added: `fill` has not ended."""
    cur.execute("select from stages where filled_to is not null")
    return cur.rowcount > 0


def fill_documents(cur: Cursor, keys: Sequence[str], recipes: Mapping[str, str]) -> None:
    """Create the items that these documents lack because a stage was added."""
    cur.execute(
        "select start_items(array(select document_id from documents where key = any(%(keys)s)), array_agg(name), null, "
        "%(recipes)s::jsonb) from stages where filled_to is not null having count(*) > 0",
        {"keys": list(keys), "recipes": json.dumps(dict(recipes))},
    )


def fill(cur: Cursor, recipes: Mapping[str, str]) -> bool:
    """Create the items that some documents lack because a stage was added, in one batch. Returns whether more remain."""
    if not are_incomplete(cur):
        return False
    row = fetch_one(cur, "select fill_items(%s, %s::jsonb) as more", [DOCUMENTS_A_BATCH, json.dumps(dict(recipes))])
    return bool(row["more"])
