"""Totals over the life of the ledger: deferrals, drains, and the models that served results."""

from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor, fetch_one


@dataclass(frozen=True)
class Totals:
    """Numbers of deferrals and drains, and the names of the models that served results, since the ledger was created."""

    deferrals: int
    drains: int
    served_models: tuple[str, ...]


def totals(cur: Cursor) -> Totals:
    """Read the totals."""
    row = fetch_one(
        cur,
        "select (select coalesce(sum(deferrals), 0) from work_items) as deferrals, "
        "(select count(*) from workers where kind = 'drain') as drains, "
        "array(select distinct served_model from results where served_model is not null order by 1) as served_models",
    )
    return Totals(int(row["deferrals"]), row["drains"], tuple(row["served_models"]))
