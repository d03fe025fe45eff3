"""What was last reported to Dagster about a subject that is not one document. Only a change is reported again."""

import hashlib
import json
from typing import Any

from dagster_offload.ledger.core.database import Cursor


def digest(value: Any) -> str:
    """A hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def is_reported(cur: Cursor, subject: str, value: str) -> bool:
    """Whether this value was the last one reported, within the last day."""
    cur.execute(
        "select from told where subject = %s and value = %s and told_at > clock_timestamp() - interval '1 day'",
        [subject, value],
    )
    return cur.rowcount == 1


def is_due(cur: Cursor, subject: str, value: str, least_seconds: float) -> bool:
    """Whether the value differs from the last one reported, and that report is at least so many seconds old."""
    cur.execute(
        "select from told where subject = %s and (value = %s or told_at > clock_timestamp() - make_interval(secs => %s))",
        [subject, value, least_seconds],
    )
    return cur.rowcount == 0


def mark_reported(cur: Cursor, subject: str, value: str) -> None:
    """Record that this value has been reported."""
    cur.execute(
        "insert into told (subject, value) values (%s, %s) on conflict (subject) "
        "do update set value = excluded.value, told_at = clock_timestamp()",
        [subject, value],
    )
