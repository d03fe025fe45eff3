"""How much of the time a slot was available, as far as work was due: the slot is not probed while there is none.

A trigger on `slots` notes each change of the breaker. `note` adds what a probe shows while the breaker is closed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from dagster_offload.ledger.core.database import Cursor, fetch_one, notify
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.slots import rests
from dagster_offload.ledger.slots import slots as rows
from dagster_offload.slot.config import SlotConfig

Change = tuple[datetime, bool]

# Notified with a slot's name when a look at it shows something new.
AVAILABILITY_MESSAGE = "availability:"


def note(cur: Cursor, slot: str, *, is_available: bool, reason: str | None = None) -> None:
    """Store whether the slot is available now, and why not in words that follow its name, if that differs from what is stored.

    `reason` None: the ledger says it otherwise.
    """
    stored = cur.execute(
        "select availability_id, is_available, reason from availability where slot = %s order by since desc limit 1",
        [slot],
    ).fetchone()
    if stored is None or stored["is_available"] is not is_available:
        cur.execute(
            "insert into availability (slot, is_available, reason) values (%s, %s, %s)", [slot, is_available, reason]
        )
    elif stored["reason"] != reason:
        cur.execute(
            "update availability set reason = %s where availability_id = %s", [reason, stored["availability_id"]]
        )
    else:
        return
    notify(cur, f"{AVAILABILITY_MESSAGE}{slot}")


def forget_reasons(cur: Cursor) -> None:
    """Let the next look at each slot say why it is unavailable: what earlier ones found may be over."""
    cur.execute("update availability set reason = null where reason is not null")


def available(cur: Cursor, slots: Iterable[SlotConfig]) -> set[str]:
    """The names of those slots that can be used now, as far as the ledger knows: registered, closed and without a rest."""
    return {
        slot.name
        for slot in slots
        if (row := rows.get(cur, slot.name)) is not None
        and row.breaker is BreakerState.CLOSED
        and rests.read_rest(cur, slot) is None
    }


@dataclass(frozen=True)
class Absence:
    """A slot is unavailable since `since`, `days` ago. `number` names this absence. `reason`: see `note`."""

    number: int
    since: datetime
    days: float
    reason: str | None = None


def absence(cur: Cursor, slot: str) -> Absence | None:
    """The present absence of a slot; None if it was available when it was last looked at."""
    row = cur.execute(
        "select availability_id as number, since, extract(epoch from clock_timestamp() - since)::float8 / 86400 as days, "
        "reason, is_available from availability where slot = %s order by since desc limit 1",
        [slot],
    ).fetchone()
    return None if row is None or row.pop("is_available") else Absence(**row)


def share_between(cur: Cursor, slot: str, beginning: datetime, end: datetime) -> float | None:
    """The share (0 to 1) of a period in which the slot was available; None if nothing was known of the slot in it.

    The time before the slot was first looked at or first answered does not count.
    """
    known = fetch_one(
        cur,
        "select least((select min(since) from availability where slot = %(slot)s), "
        "  (select min(ended_at) from calls where slot = %(slot)s and outcome = 'ok')) as since",
        {"slot": slot},
    )
    if known["since"] is None or known["since"] >= end:
        return None
    beginning = max(beginning, known["since"])
    row = rows.get(cur, slot)
    cur.execute(
        "(select since, is_available from availability where slot = %(slot)s and since <= %(beginning)s "
        "  order by since desc limit 1) union all "
        "(select since, is_available from availability where slot = %(slot)s and since > %(beginning)s) order by since",
        {"slot": slot, "beginning": beginning},
    )
    changes = [(found["since"], found["is_available"]) for found in cur.fetchall()]
    is_closed = row is not None and row.breaker is BreakerState.CLOSED
    return share(changes, beginning, end, now_available=is_closed)


def share(changes: Sequence[Change], beginning: datetime, end: datetime, *, now_available: bool) -> float:
    """The share of a period in which the last change said `available`. `changes` are in order, and may be before and after it.

    Before the first change, the opposite was true. Without a change, `now_available` was always true.
    """
    if not changes:
        return 1.0 if now_available else 0.0
    states = [(beginning, not changes[0][1]), *((min(max(since, beginning), end), state) for since, state in changes)]
    ends = [*(since for since, _ in states[1:]), end]
    available = sum(
        (until - since).total_seconds() for (since, state), until in zip(states, ends, strict=True) if state
    )
    return available / (end - beginning).total_seconds()
