"""Pauses of slots, the minutes that calls used, and the wakes of a slot's machine."""

from datetime import UTC, datetime, timedelta

from dagster_offload.ledger.core.database import Cursor, fetch_one, notify
from dagster_offload.ledger.slots.slots import lock
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.rest import Pause, Rest, beginning_of_day, rest_of
from dagster_offload.slot.waking import Wake, describe_wakes, is_wake_due
from dagster_offload.slot.waking import is_awaited as is_awaited_after

# Notified with a slot's name when it is paused or resumed.
PAUSE_MESSAGE = "pause:"
# Longer ago, a wake explains nothing, and no limit counts it.
KEPT = timedelta(days=30)
# The problem that is stored for a wake until it ends.
_NOT_ENDED = "it did not end"
# How long a wake may take beyond the time limit of its program.
_ENDED_LATE = timedelta(seconds=15)
UNDER_WAY = "a wake is under way"


def pause(cur: Cursor, slot: str, until: datetime | None) -> None:
    """Send nothing more to a slot, until a time or until `resume`. Replaces an earlier pause, and keeps its beginning."""
    cur.execute(
        "insert into pauses (slot, until) values (%s, %s) on conflict (slot) do update set until = excluded.until, "
        "since = case when pauses.until <= clock_timestamp() then excluded.since else pauses.since end",
        [slot, until],
    )
    notify(cur, f"{PAUSE_MESSAGE}{slot}")


def resume(cur: Cursor, slot: str) -> bool:
    """End the pause of a slot; False if it was not paused."""
    cur.execute(
        "delete from pauses where slot = %s returning coalesce(until > clock_timestamp(), true) as is_so", [slot]
    )
    row = cur.fetchone()
    notify(cur, f"{PAUSE_MESSAGE}{slot}")
    return row is not None and bool(row["is_so"])


def pause_of(cur: Cursor, slot: str) -> Pause | None:
    """The pause of a slot that is in force."""
    return pauses(cur).get(slot)


def pauses(cur: Cursor) -> dict[str, Pause]:
    """The pauses that are in force, by slot."""
    cur.execute("select slot, since, until from pauses where coalesce(until > clock_timestamp(), true)")
    return {row["slot"]: Pause(row["since"], row["until"]) for row in cur.fetchall()}


def read_rest(cur: Cursor, slot: SlotConfig) -> Rest | None:
    """Whether and why a slot rests now."""
    now = datetime.now(UTC)
    used = 0.0 if slot.minutes_a_day is None else _used_seconds(cur, slot.name, beginning_of_day(now))
    return rest_of(slot, pause_of(cur, slot.name), used, now)


def _used_seconds(cur: Cursor, slot: str, since: datetime) -> float:
    """The duration of the slot's calls that ended since then."""
    row = fetch_one(
        cur,
        "select coalesce(sum(seconds), 0)::float8 as n from calls where slot = %s and ended_at >= %s",
        [slot, since],
    )
    return float(row["n"])


def begin_wake(cur: Cursor, slot: SlotConfig) -> int | None:
    """Note a wake of the slot if one is due, before it is tried: a process that dies in it has used it. Returns its id."""
    if not _is_wake_due(cur, slot):  # nearly every tick ends here: nothing is locked or written
        return None
    # Two hosts must not wake the slot at the same time: the limit holds for all of them.
    lock(cur, slot.name)
    if not _is_wake_due(cur, slot):
        return None
    cur.execute("delete from wakes where slot = %s and at < %s", [slot.name, datetime.now(UTC) - KEPT])
    row = fetch_one(cur, "insert into wakes (slot, problem) values (%s, %s) returning wake_id", [slot.name, _NOT_ENDED])
    return int(row["wake_id"])


def _is_wake_due(cur: Cursor, slot: SlotConfig) -> bool:
    now = datetime.now(UTC)
    return slot.wake is not None and is_wake_due(slot.wake, wakes_since(cur, slot.name, beginning_of_day(now)), now)


def end_wake(cur: Cursor, wake_id: int, problem: str | None) -> None:
    """Store how a wake ended; `problem` is None if it did not fail."""
    cur.execute("update wakes set problem = %s where wake_id = %s", [problem, wake_id])


def wakes_since(cur: Cursor, slot: str, since: datetime) -> list[Wake]:
    """The wakes of a slot since then, oldest first."""
    cur.execute("select at, problem from wakes where slot = %s and at >= %s order by at, wake_id", [slot, since])
    return [Wake(**row) for row in cur.fetchall()]


def describe_last(cur: Cursor, slot: SlotConfig) -> str | None:
    """That the last wake of the day is under way, or why it failed, in words; None if it succeeded or there was none."""
    now = datetime.now(UTC)
    today = wakes_since(cur, slot.name, beginning_of_day(now))
    if slot.wake is None or not today or today[-1].problem is None:
        return None
    last, longest = today[-1], timedelta(seconds=slot.wake.timeout) + _ENDED_LATE
    if last.problem == _NOT_ENDED and now < last.at + longest:
        return UNDER_WAY
    return f"waking it failed: {last.problem}"


def is_awaited(cur: Cursor, slot: SlotConfig, absent_since: datetime) -> bool:
    """Whether the slot was woken a short time ago and may answer soon. `absent_since`: since when it gives no answer."""
    now = datetime.now(UTC)
    if describe_last(cur, slot) not in (None, UNDER_WAY):
        return False
    return is_awaited_after(wakes_since(cur, slot.name, max(absent_since, beginning_of_day(now))), now)


def describe_week(cur: Cursor, slot: str) -> str | None:
    """The wakes of a slot in the last seven days, in words; None without any."""
    now = datetime.now(UTC)
    return describe_wakes(wakes_since(cur, slot, now - timedelta(days=7)), beginning_of_day(now))
