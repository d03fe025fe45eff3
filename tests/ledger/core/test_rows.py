"""What a slot's row shows to people."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.support.ledger import AWAKE


def test_a_reason_has_its_time_and_its_date_unless_it_is_of_today() -> None:
    now = datetime.now(UTC)
    today = replace(AWAKE, reason="upstream_cold", reason_since=now)
    assert today.reason_text == f"upstream_cold since {now.astimezone():%H:%M}"
    earlier = now - timedelta(days=3)
    assert (
        replace(today, reason_since=earlier).reason_text == f"upstream_cold since {earlier.astimezone():%a %d %b %H:%M}"
    )
