"""N found by trying, for all workers of the ledger together: the slot's row remembers, whoever holds permits steers.

What a width brought is read from `calls`, whichever worker made them, so that several drains steer as one.
"""

from dataclasses import asdict
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor, fetch_one, notify
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.slots.auto_concurrency import ConcurrencyState, Phase, Window, next_concurrency
from dagster_offload.ledger.slots.slots import get, locked
from dagster_offload.slot.config import MAX_CONCURRENCY

IDLE_FOR_A_NEW_STAY = "30 minutes"  # longer than any one call
BUSY = "http_429"  # the outcome of a call that was told to wait

# Work, so that calls of unlike documents compare: a server writes one token in about the time it reads sixteen (27 B on
# a laptop: 12 and 200 a second), and reads a document once for two stages. What it reads again, because more documents
# are in flight than it keeps, takes its time and is no work. Where a server counts nothing, or says zero, a call is a call.
_WORK = "coalesce(nullif(tokens_out + tokens_in / 32.0, 0), 1)"


def steer(cur: Cursor, slot: str, longest_seconds: float) -> SlotRow:
    """The slot's row after what its calls say of its width, where that is found by trying; else as it is.

    Cheap enough for once a second. Safe beside other workers' steering: the first to see enough calls decides.
    """
    row = get(cur, slot)
    if row is not None and not (row.is_auto and row.breaker is BreakerState.CLOSED):
        return row
    row = locked(cur, slot)
    memory = _memory(cur, slot)
    if memory is None:
        return _remember(cur, row, ConcurrencyState())
    widest = min(MAX_CONCURRENCY, row.places or MAX_CONCURRENCY)
    following = next_concurrency(memory, _seen(cur, slot, memory), widest=widest, longest_seconds=longest_seconds)
    return row if following is None else _remember(cur, row, following)


def _memory(cur: Cursor, slot: str) -> ConcurrencyState | None:
    """What was found so far in this stay of the slot; None where nothing was, or it was idle for so long that its
    machine may have slept meanwhile without anybody asking."""
    row = fetch_one(
        cur,
        "select width_memory as memory, width_since < clock_timestamp() - %(idle)s::interval and not exists ("
        "  select 1 from calls where slot = %(slot)s and ended_at > clock_timestamp() - %(idle)s::interval) as is_stale "
        "from slots where name = %(slot)s",
        {"slot": slot, "idle": IDLE_FOR_A_NEW_STAY},
    )
    if row["memory"] is None or row["is_stale"]:
        return None
    return ConcurrencyState(**{**row["memory"], "phase": Phase(row["memory"]["phase"])})


def begin_anew_after_wake(cur: Cursor, slot: str) -> None:
    """A slot that was away begins at 1 again: its server may be another, or its owner at work.

    A breaker that was open for one trial at once, because a fault may have been a document's, was no absence.
    """
    cur.execute(
        "update slots set permits = 1, width_memory = null where name = %s and is_auto "
        "and retry_at > opened_at + interval '1 second'",
        [slot],
    )


def _seen(cur: Cursor, slot: str, width: ConcurrencyState) -> Window:
    """What the slot did from when a change had settled until so long ago that the calls begun then have ended: before
    that, calls still open are not known. Trials are no work."""
    row = fetch_one(
        cur,
        "with began as (select c.*, c.ended_at - make_interval(secs => c.seconds) as begun_at, s.width_since, "
        "    s.width_since + make_interval(secs => %(settling)s) as t0, "
        "    least(clock_timestamp() - make_interval(secs => %(expected)s), max(c.ended_at) over ()) as t1 "
        "  from slots s join calls c on c.slot = s.name and c.ended_at > s.width_since "
        "  where s.name = %(slot)s and c.item_id is not null), "
        "answered as (select *, extract(epoch from least(ended_at, t1) - greatest(begun_at, t0))::double precision "
        "    / greatest(seconds, 0.001) as inside from began "
        "  where ended_at > t0 and begun_at < t1 and outcome <> %(busy)s and (outcome = 'ok' or tokens_out is not null)) "
        f"select coalesce(sum(inside), 0) as calls, coalesce(sum(inside * {_WORK}), 0)::double precision as work, "
        "  coalesce(extract(epoch from max(t1) - max(t0)), 0)::double precision as seconds, "
        "  coalesce(avg(seconds), 0) as call_seconds, "
        "  (select count(*) from began where outcome = %(busy)s and begun_at >= width_since) as refused, "
        "  (select count(*) from permits where slot = %(slot)s) as held from answered",
        {"slot": slot, "busy": BUSY, "settling": width.settling_seconds, "expected": width.expected_seconds},
    )
    return Window(**row)


def _remember(cur: Cursor, row: SlotRow, width: ConcurrencyState) -> SlotRow:
    """Write the width down for all workers, and tell them where it changed."""
    cur.execute(
        "update slots set permits = %(permits)s, width_memory = %(memory)s, width_since = clock_timestamp(), "
        "  width_found = coalesce(%(found)s, width_found) where name = %(slot)s",
        {
            "permits": width.width,
            "memory": Jsonb(asdict(width)),
            "found": Jsonb(found) if (found := _found(width)) else None,
            "slot": row.name,
        },
    )
    if width.width != row.permits:
        # Holders have to look after a narrowing only; whoever waits for a permit, or opens lanes, after a widening.
        notify(cur, f"wanted:{row.name}" if width.width < row.permits else "freed")
    return locked(cur, row.name)


def _found(width: ConcurrencyState) -> dict[str, Any] | None:
    """What people are shown: `speed_up` is work per second against one call at a time."""
    if not width.is_found or not width.known_concurrency:
        return None
    return {
        "width": width.known_concurrency,
        "call_seconds": round(width.known_seconds, 2),
        "speed_up": round(width.known_rate / width.lone_rate, 2) if width.lone_rate else None,
    }
