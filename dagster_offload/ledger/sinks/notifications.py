"""Notifications: what was looked at for each channel, and the messages on their way.

A message is stored in the transaction that looks at the facts, so a restart loses none and repeats none. It stays pending until
its channel has answered: a sender that is killed repeats at most the one it had in hand, with the same key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dagster_offload.ledger.core.database import Cursor, fetch_one, notify

# Notified with a channel's name when its messages cannot be sent, or can again.
CHANNEL_MESSAGE = "notify:"
# A message that could not be sent within this time is outdated.
TOO_OLD = "interval '7 days'"
# Transactions commit in another order than their transitions are numbered, so the last minute is looked at again.
_LATEST_SETTLED = (
    "coalesce((select transition_id from transitions where at < clock_timestamp() - interval '1 minute' "
    "order by transition_id desc limit 1), 0)"
)


@dataclass(frozen=True)
class Marks:
    """What was looked at for a channel. `seconds_since_failures`: since it was last notified of failures."""

    failures_to: int
    seen: list[int]
    done_to: int
    seconds_since_failures: float | None


@dataclass(frozen=True)
class DueNotification:
    """A message that is due. `key` is the same at each attempt; `attempts` counts refusals, `waits` other failures."""

    notification_id: int
    key: str
    event: str
    title: str
    message: str
    created_at: datetime
    attempts: int
    waits: int


@dataclass(frozen=True)
class ChannelRow:
    """A channel with its counts of messages, and why the oldest one waits; `is_misconfigured`: for a changed setting."""

    name: str
    waiting: int
    sent: int
    dead: int
    reason: str | None
    is_misconfigured: bool
    not_before: datetime | None


def register(cur: Cursor, names: Sequence[str]) -> None:
    """Add channels. A new one is notified of what happens from now on."""
    cur.execute(
        "insert into notify_channels (name, failures_to, done_to) "
        "select name, latest, latest from unnest(%s::text[]) as n (name), "
        "  (select coalesce(max(transition_id), 0) as latest from transitions) t "
        "where not exists (select from notify_channels c where c.name = n.name) on conflict (name) do nothing",
        [list(names)],
    )


def marks(cur: Cursor, channel: str) -> Marks:
    """What was looked at for a channel, locked until the transaction ends."""
    row = fetch_one(
        cur,
        "select failures_to, seen, done_to, extract(epoch from clock_timestamp() - grouped_at)::float8 "
        "  as seconds_since_failures from notify_channels where name = %s for update",
        [channel],
    )
    return Marks(**row)


def mark_failures(cur: Cursor, channel: str, seen: Sequence[int]) -> None:
    """Every failure up to now was looked at. `seen`: those that a notification named, now or before."""
    cur.execute(
        f"update notify_channels set failures_to = t.latest, seen = array(select n from unnest(%(seen)s::bigint[]) n "
        f"where n > t.latest) from (select greatest({_LATEST_SETTLED}, (select failures_to from notify_channels "
        "where name = %(name)s)) as latest) t where name = %(name)s "
        "and (failures_to <> t.latest or seen <> %(seen)s::bigint[])",
        {"name": channel, "seen": list(seen)},
    )


def mark_grouped(cur: Cursor, channel: str) -> None:
    """The channel is notified of failures now."""
    cur.execute("update notify_channels set grouped_at = clock_timestamp() where name = %s", [channel])


def mark_done(cur: Cursor, channel: str, transition_id: int) -> None:
    """Work that was done up to this transition was looked at."""
    cur.execute("update notify_channels set done_to = %s where name = %s", [transition_id, channel])


def add(cur: Cursor, channel: str, event: str, key: str, title: str, message: str) -> None:
    """Add a message, unless the channel has one about the same event."""
    cur.execute(
        "insert into notifications (channel, event, key, title, message) values (%s, %s, %s, %s, %s) "
        "on conflict (channel, key) do nothing",
        [channel, event, key, title, message],
    )


def next_due(cur: Cursor, channel: str) -> DueNotification | None:
    """The oldest message of a channel, if it is due. Messages that are too old are given up."""
    cur.execute(
        "update notifications set state = 'dead', changed_at = clock_timestamp(), "
        "  reason = concat_ws('; ', reason, 'given up after a week') "
        f"where channel = %s and state = 'pending' and created_at < clock_timestamp() - {TOO_OLD}",
        [channel],
    )
    row: dict[str, Any] | None = cur.execute(
        "select n.notification_id, md5(concat_ws('/', i.ledger_id, n.channel, n.key)) as key, n.event, n.title, n.message, "
        "  n.created_at, n.attempts, n.waits, coalesce(n.not_before <= clock_timestamp(), true) as is_due "
        "from notifications n, identity i where n.channel = %s and n.state = 'pending' order by n.notification_id limit 1",
        [channel],
    ).fetchone()
    if row is None or not row.pop("is_due"):
        return None
    return DueNotification(**row)


def seconds_to_next(cur: Cursor, channel: str) -> float | None:
    """Seconds until the oldest message of a channel is due; None if there is none."""
    row = cur.execute(
        "select greatest(extract(epoch from not_before - clock_timestamp()), 0)::float8 as seconds from notifications "
        "where channel = %s and state = 'pending' order by notification_id limit 1",
        [channel],
    ).fetchone()
    return None if row is None else row["seconds"] or 0.0


def try_now(cur: Cursor, channel: str) -> None:
    """Make the messages of a channel due."""
    cur.execute("update notifications set not_before = null where channel = %s and state = 'pending'", [channel])


def end_wait_for_setting(cur: Cursor, channel: str) -> None:
    """Make the messages of a channel due that wait for a changed setting. Only the next try can show whether it is right."""
    cur.execute(
        "update notifications set not_before = null where channel = %s and state = 'pending' and is_misconfigured",
        [channel],
    )


def mark_sent(cur: Cursor, notification_id: int) -> None:
    """The message has arrived."""
    cur.execute(
        "update notifications n set state = 'sent', reason = null, not_before = null, changed_at = clock_timestamp() "
        "from notifications earlier where n.notification_id = %s and earlier.notification_id = n.notification_id "
        "returning n.channel, earlier.reason",
        [notification_id],
    )
    row = cur.fetchone()
    if row is not None and row["reason"] is not None:  # it failed before
        notify(cur, f"{CHANNEL_MESSAGE}{row['channel']}")


def store_failure(
    cur: Cursor, notification_id: int, reason: str, seconds: float | None, *, is_refusal: bool, is_misconfigured: bool
) -> None:
    """Try the message again after `seconds`; None: give it up. `is_misconfigured`: it waits for a changed setting."""
    cur.execute(
        "update notifications set state = case when %(seconds)s::float8 is null then 'dead' else 'pending' end, "
        "  not_before = clock_timestamp() + make_interval(secs => %(seconds)s), reason = %(reason)s, "
        "  is_misconfigured = %(setting)s, attempts = attempts + %(refusal)s::int, "
        "  waits = case when %(refusal)s then 0 else waits + 1 end, "
        "  changed_at = clock_timestamp() where notification_id = %(id)s and state = 'pending' returning channel",
        {
            "id": notification_id,
            "reason": reason,
            "seconds": seconds,
            "refusal": is_refusal,
            "setting": is_misconfigured,
        },
    )
    row = cur.fetchone()
    if row is not None:
        notify(cur, f"{CHANNEL_MESSAGE}{row['channel']}")


def list_channels(cur: Cursor, names: Sequence[str]) -> list[ChannelRow]:
    """These channels, in this order, also those that are not registered yet."""
    cur.execute(
        "select name, count(n.*) filter (where n.state = 'pending') as waiting, "
        "  count(n.*) filter (where n.state = 'sent') as sent, count(n.*) filter (where n.state = 'dead') as dead, "
        "  (array_agg(n.reason order by n.notification_id) filter (where n.state = 'pending'))[1] as reason, "
        "  coalesce((array_agg(n.is_misconfigured order by n.notification_id) filter (where n.state = 'pending'))[1], false) "
        "  as is_misconfigured, "
        "  (array_agg(n.not_before order by n.notification_id) filter (where n.state = 'pending'))[1] as not_before "
        "from unnest(%s::text[]) with ordinality as c (name, place) left join notifications n on n.channel = c.name "
        "group by name, place order by place",
        [list(names)],
    )
    return [ChannelRow(**row) for row in cur.fetchall()]
