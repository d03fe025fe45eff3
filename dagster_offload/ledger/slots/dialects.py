"""Stores which dialect each slot's server understands, for the next process. See `dagster_offload.slot.dialects`.

The findings expire when the slot's settings change, and after a day, because servers are upgraded. After a wake, JSON
modes that failed are tried again. An hour after they were stored, a JSON mode that was obeyed before is asked for again.
"""

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.dialects import Findings, after_a_wake, after_an_hour

VALID_DAYS = 1

_IS_VALID = (
    "dialects ->> 'fingerprint' = fingerprint "
    f"and dialects_at > clock_timestamp() - make_interval(days => {VALID_DAYS})"
)
_LATELY = (
    "select name, dialects -> 'findings' as findings, (dialects ->> 'epoch')::bigint is distinct from epoch as is_after_wake, "
    "(dialects ->> 'stored_at')::timestamptz < clock_timestamp() - make_interval(hours => 1) as is_an_hour_old "
    f"from slots where {_IS_VALID}"
)


def recall(cur: Cursor, slot: SlotConfig) -> Findings:
    """The recent findings about the server behind these settings; empty if there are none."""
    row = cur.execute(
        f"{_LATELY} and name = %s and dialects ->> 'fingerprint' = %s".encode(), [slot.name, slot.fingerprint]
    ).fetchone()
    return {} if row is None else _findings(row)


def recall_all(cur: Cursor) -> dict[str, Findings]:
    """The recent findings of every slot in this ledger, by name."""
    return {row["name"]: _findings(row) for row in cur.execute(_LATELY.encode()).fetchall()}


def _findings(row: Mapping[str, Any]) -> Findings:
    findings = row["findings"] if isinstance(row["findings"], Mapping) else {}
    if row["is_after_wake"]:
        return after_a_wake(findings)
    return after_an_hour(findings) if row["is_an_hour_old"] else findings


def remember(cur: Cursor, slot: SlotConfig, findings: Findings) -> None:
    """Store these findings in place of the old ones, unless others than the registered settings gave them (`stage try`).

    The day after which all of them expire begins with the first.
    """
    cur.execute(
        "update slots set dialects = jsonb_build_object('fingerprint', fingerprint, 'epoch', epoch, 'findings', %s::jsonb, "
        f"'stored_at', clock_timestamp()), dialects_at = case when {_IS_VALID} then dialects_at else clock_timestamp() end "
        "where name = %s and fingerprint = %s".encode(),
        [Jsonb(findings), slot.name, slot.fingerprint],
    )


def forget(cur: Cursor, name: str) -> None:
    """Forget the findings about a slot's server."""
    cur.execute("update slots set dialects = '{}', dialects_at = null where name = %s", [name])
