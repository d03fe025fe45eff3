"""The values that the records of a stage have in its canonical fields."""

from collections.abc import Sequence

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.stages.answers.canonical import LONGEST_VALUE, MOST_VALUES

RESULTS_LOOKED_AT = 2_000  # the newest: a bound for the cost, whatever the size of the ledger


def used_values(cur: Cursor, stage: str, fields: Sequence[str]) -> dict[str, list[str]]:
    """For each field the values of the newest records, the newest first. Values that no quote supports are left out."""
    found = {}
    for field in fields:
        cur.execute(
            "select value from (select r.value ->> %(field)s as value, r.result_id from ("
            "  select value, result_id from results where stage = %(stage)s and superseded_at is null and outcome = 'ok' "
            "  order by result_id desc limit %(results)s) r "
            "  where not coalesce(r.value -> 'unsupported' ? %(field)s, false)) used "
            "where length(value) between 1 and %(longest)s group by value order by max(result_id) desc limit %(most)s",
            {
                "stage": stage,
                "field": field,
                "results": RESULTS_LOOKED_AT,
                "longest": LONGEST_VALUE,
                "most": MOST_VALUES,
            },
        )
        found[field] = [row["value"] for row in cur.fetchall()]
    return found
