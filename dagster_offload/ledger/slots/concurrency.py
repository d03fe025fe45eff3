"""Automatic concurrency for all workers of the ledger together. The slot's row stores the state, and any worker that holds
permits can change it.

The throughput is measured from `calls` of all workers, so several drains share one measurement.
"""

from dataclasses import asdict
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor, fetch_one, notify
from dagster_offload.ledger.core.rows import IS_ANSWERED, BreakerState, SlotRow
from dagster_offload.ledger.core.workers import FREED_MESSAGE
from dagster_offload.ledger.slots.auto_concurrency import ConcurrencyState, Phase, Window, next_concurrency
from dagster_offload.ledger.slots.slots import WANTED_MESSAGE, get, locked
from dagster_offload.slot.config import MAX_CONCURRENCY

IDLE_FOR_A_NEW_STAY = "30 minutes"  # longer than any one call
BUSY = "http_429"  # the outcome of a call that the slot refused because it is busy

# The unit of work, which makes calls of different documents comparable. A server writes one token in about the time in
# which it reads sixteen (27 B on a laptop: 12 and 200 per second), and reads a document once for two stages. If more
# documents are in flight than fit its prompt cache, it reads documents again; that takes time but counts as no work. If a
# server reports no tokens, or zero, each call counts as one.
_WORK = "coalesce(nullif(tokens_out + tokens_in / 32.0, 0), 1)"


def steer(cur: Cursor, slot: str, longest_seconds: float) -> SlotRow:
    """Update the concurrency from the slot's recent calls if it is `auto`; returns the slot's row. `longest_seconds` is the
    longest mean duration of a call.

    Cheap enough to run once a second. Safe with several workers: the first that sees enough calls decides.
    """
    row = get(cur, slot)
    if row is not None and not (row.is_auto and row.breaker is BreakerState.CLOSED):
        return row
    row = locked(cur, slot)
    stored = _stored_state(cur, slot)
    if stored is None:
        return _store(cur, row, ConcurrencyState())
    widest = min(MAX_CONCURRENCY, row.prompt_cache_size or MAX_CONCURRENCY)
    following = next_concurrency(stored, _measure(cur, slot, stored), widest=widest, longest_seconds=longest_seconds)
    return row if following is None else _store(cur, row, following)


def _stored_state(cur: Cursor, slot: str) -> ConcurrencyState | None:
    """The stored state; None if there is none, or if the slot was idle for so long that its machine may have slept
    unnoticed."""
    row = fetch_one(
        cur,
        "select concurrency_memory as memory, concurrency_since < clock_timestamp() - %(idle)s::interval and not exists ("
        "  select 1 from calls where slot = %(slot)s and ended_at > clock_timestamp() - %(idle)s::interval) as is_stale "
        "from slots where name = %(slot)s",
        {"slot": slot, "idle": IDLE_FOR_A_NEW_STAY},
    )
    if row["memory"] is None or row["is_stale"]:
        return None
    return ConcurrencyState(**{**row["memory"], "phase": Phase(row["memory"]["phase"])})


def restart_after_wake(cur: Cursor, slot: str) -> None:
    """Start again at 1 after the slot was unavailable: its server may have changed, or its owner may be using it.

    A breaker that opened only for an immediate trial, because a document may have caused the fault, does not count.
    """
    cur.execute(
        "update slots set permits = 1, concurrency_memory = null where name = %s and is_auto "
        "and retry_at > opened_at + interval '1 second'",
        [slot],
    )


def _measure(cur: Cursor, slot: str, state: ConcurrencyState) -> Window:
    """Measure the slot. The window starts when the last change of concurrency has settled. It ends at the latest time at
    which all calls that began have also ended, because open calls are not recorded. Trials do not count."""
    row = fetch_one(
        cur,
        "with began as (select c.*, c.ended_at - make_interval(secs => c.seconds) as begun_at, s.concurrency_since, "
        "    s.concurrency_since + make_interval(secs => %(settling)s) as t0, "
        "    least(clock_timestamp() - make_interval(secs => %(expected)s), max(c.ended_at) over ()) as t1 "
        "  from slots s join calls c on c.slot = s.name and c.ended_at > s.concurrency_since "
        "  where s.name = %(slot)s and c.item_id is not null), "
        "answered as (select *, extract(epoch from least(ended_at, t1) - greatest(begun_at, t0))::double precision "
        "    / greatest(seconds, 0.001) as inside from began "
        f"  where ended_at > t0 and begun_at < t1 and outcome <> %(busy)s and {IS_ANSWERED}) "
        f"select coalesce(sum(inside), 0) as calls, coalesce(sum(inside * {_WORK}), 0)::double precision as work, "
        "  coalesce(extract(epoch from max(t1) - max(t0)), 0)::double precision as seconds, "
        "  coalesce(avg(seconds), 0) as call_seconds, "
        "  (select count(*) from began where outcome = %(busy)s and begun_at >= concurrency_since) as refused, "
        "  (select count(*) from permits where slot = %(slot)s) as held from answered",
        {"slot": slot, "busy": BUSY, "settling": state.settling_seconds, "expected": state.expected_seconds},
    )
    return Window(**row)


def _store(cur: Cursor, row: SlotRow, state: ConcurrencyState) -> SlotRow:
    """Store the state for all workers, and notify them if the concurrency changed."""
    cur.execute(
        "update slots set permits = %(permits)s, concurrency_memory = %(memory)s, concurrency_since = clock_timestamp(), "
        "  concurrency_found = coalesce(%(found)s, concurrency_found) where name = %(slot)s",
        {
            "permits": state.concurrency,
            "memory": Jsonb(asdict(state)),
            "found": Jsonb(found) if (found := _shown_values(state)) else None,
            "slot": row.name,
        },
    )
    if state.concurrency != row.permits:
        # A lower value concerns holders of permits; a higher one concerns workers that wait for permits or open lanes.
        notify(cur, f"{WANTED_MESSAGE}{row.name}" if state.concurrency < row.permits else FREED_MESSAGE)
    return locked(cur, row.name)


def _shown_values(state: ConcurrencyState) -> dict[str, Any] | None:
    """The values shown to people; `speed_up` compares work per second with one call at a time."""
    if not state.is_found or not state.known_concurrency:
        return None
    return {
        "concurrency": state.known_concurrency,
        "call_seconds": round(state.known_seconds, 2),
        "speed_up": round(state.known_rate / state.lone_rate, 2) if state.lone_rate else None,
    }
