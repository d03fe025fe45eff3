"""Stores which dialect each slot's server understands, for the next process. See `dagster_offload.slot.dialects`.

The findings expire when the slot's settings change, and after a day, because servers are upgraded. After a wake, JSON
modes that failed are tried again.
"""

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.dialects import Findings, after_a_wake

VALID_DAYS = 1

_LATELY = (
    "select name, dialects -> 'findings' as findings, (dialects ->> 'epoch')::bigint is distinct from epoch as is_after_wake "
    "from slots where dialects ->> 'fingerprint' = fingerprint "
    f"and dialects_at > clock_timestamp() - make_interval(days => {VALID_DAYS})"
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
    return after_a_wake(findings) if row["is_after_wake"] else findings


def remember(cur: Cursor, slot: SlotConfig, findings: Findings) -> None:
    """Store these findings in place of the old ones, unless others than the registered settings gave them (`stage try`)."""
    cur.execute(
        "update slots set dialects = jsonb_build_object('fingerprint', %s::text, 'epoch', epoch, 'findings', %s::jsonb), "
        "dialects_at = clock_timestamp() where name = %s and fingerprint = %s",
        [slot.fingerprint, Jsonb(findings), slot.name, slot.fingerprint],
    )
