"""The stages that this ledger records, in declared order. `open_ledger` supplies them; no code here knows a stage's name."""

from collections.abc import Sequence

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.stages.graph import StageNode


def graph(cur: Cursor) -> tuple[StageNode, ...]:
    """The stages in declared order."""
    cur.execute("select name, upstream from stages order by position")
    return tuple(StageNode(row["name"], row["upstream"]) for row in cur.fetchall())


def replace(cur: Cursor, nodes: Sequence[StageNode]) -> None:
    """Store the graph, upstreams first. Writes nothing if it is unchanged."""
    if graph(cur) == tuple(nodes):
        return
    cur.execute("delete from stages")
    for position, node in enumerate(nodes):
        cur.execute(
            "insert into stages (name, upstream, position) values (%s, %s, %s)", [node.name, node.upstream, position]
        )
