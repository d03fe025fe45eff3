"""What each slot's server was found to understand, from one process to the next. See `dagster_offload.slot.dialects`.

It is forgotten when the slot's settings change, and after a day: servers are upgraded.
"""

from collections.abc import Mapping

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.dialects import Findings

VALID_DAYS = 1


def recall(cur: Cursor, slot: SlotConfig) -> Findings:
    """What was found out lately about the server behind these settings; empty where nothing is known."""
    row = cur.execute(
        "select dialects -> 'findings' as findings from slots where name = %s and dialects ->> 'fingerprint' = %s "
        "and dialects_at > clock_timestamp() - make_interval(days => %s)",
        [slot.name, slot.fingerprint, VALID_DAYS],
    ).fetchone()
    return row["findings"] if row is not None and isinstance(row["findings"], Mapping) else {}


def remember(cur: Cursor, slot: SlotConfig, findings: Findings) -> None:
    """Write down what was found out just now, in place of what stood there."""
    cur.execute(
        "update slots set dialects = %s, dialects_at = clock_timestamp() where name = %s",
        [Jsonb({"fingerprint": slot.fingerprint, "findings": findings}), slot.name],
    )
