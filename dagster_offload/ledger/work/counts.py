"""Counts of work items that are kept while items change (`sql/counts.sql`), and totals over the life of the ledger."""

from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor, fetch_one


def count_documents(cur: Cursor) -> int:
    """The documents that are present: each has an item of the stage that reads the file."""
    row = fetch_one(
        cur,
        "select coalesce(sum(n), 0)::bigint as n from item_counts where stage = (select first_stage()) and state <> 'gone'",
    )
    return int(row["n"])


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
