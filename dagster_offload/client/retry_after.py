"""How long a server asks to wait: the header `Retry-After`."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from dagster_offload import timing

MAX_RETRY_AFTER_SECONDS = 6 * 3600.0


def retry_after_seconds(response: httpx.Response, now: datetime | None = None) -> float | None:
    """The seconds to wait that the server requested, clamped to 5 s to 6 h; None without a readable `Retry-After`.

    `Retry-After` is a number of seconds or an HTTP date (RFC 9110, 10.2.3). A date is compared with the server's own `Date`: this
    machine's clock may be hours late after a sleep. If a server and its proxy both send the header, httpx joins the two; the
    first number counts.
    """
    value = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(value.partition(",")[0])
    except ValueError:
        if (until := _date_in(value)) is None:
            return None
        now = now or _date_in(response.headers.get("date", "")) or datetime.now(UTC)
        seconds = (until - now).total_seconds()
    if seconds != seconds:  # the header is "nan"
        return None
    return min(max(seconds, timing.current().shortest_retry_after), MAX_RETRY_AFTER_SECONDS)


def _date_in(header: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(header)
    except (ValueError, OverflowError):  # not a date, or one out of range
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
