"""What each slot's server was found to understand, from one process to the next. See `dagster_offload.slot.dialects`.

It is forgotten when the slot's settings change, and after a day: servers are upgraded. After a wake, ways of asking for
JSON that came to nothing get another chance.
"""

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.dialects import Findings, after_a_wake

VALID_DAYS = 1

_LATELY = (
    "select name, dialects -> 'findings' as findings, (dialects ->> 'epoch')::bigint is distinct from epoch as was_away "
    "from slots where dialects ->> 'fingerprint' = fingerprint "
    f"and dialects_at > clock_timestamp() - make_interval(days => {VALID_DAYS})"
)


def recall(cur: Cursor, slot: SlotConfig) -> Findings:
    """What was found out lately about the server behind these settings; empty where nothing is known."""
    row = cur.execute(
        f"{_LATELY} and name = %s and dialects ->> 'fingerprint' = %s".encode(), [slot.name, slot.fingerprint]
    ).fetchone()
    return {} if row is None else _findings(row)


def recall_all(cur: Cursor) -> dict[str, Findings]:
    """The same of every slot that this ledger has seen, by name."""
    return {row["name"]: _findings(row) for row in cur.execute(_LATELY.encode()).fetchall()}


def _findings(row: Mapping[str, Any]) -> Findings:
    found = row["findings"] if isinstance(row["findings"], Mapping) else {}
    return after_a_wake(found) if row["was_away"] else found


def remember(cur: Cursor, slot: SlotConfig, findings: Findings) -> None:
    """Write down what was found out just now, in place of what stood there."""
    cur.execute(
        "update slots set dialects = jsonb_build_object('fingerprint', %s::text, 'epoch', epoch, 'findings', %s::jsonb), "
        "dialects_at = clock_timestamp() where name = %s",
        [slot.fingerprint, Jsonb(findings), slot.name],
    )
