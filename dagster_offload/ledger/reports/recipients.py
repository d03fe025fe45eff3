"""Which sinks and channels of notifications have a problem now, for the lines that `up` prints. Only reads, at a bounded cost."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from dagster_offload.ledger.core.database import Cursor

MOST_DEAD_COUNTED = 1_000


@dataclass(frozen=True)
class SinkState:
    """A sink of the pipeline file. `reason`: why it waits with records. `refused`: why it refused a record that is tried again.

    `next_try`: when it is tried again, or else the first of those records. `dead`: the records that it refused for good, up to
    `MOST_DEAD_COUNTED`.
    """

    name: str
    is_paused: bool = False
    reason: str | None = None
    refused: str | None = None
    next_try: datetime | None = None
    dead: int = 0


@dataclass(frozen=True)
class ChannelFault:
    """Why the oldest message of a channel waits. `is_given_up`: none waits after a failure, but the last one was given up."""

    reason: str
    is_given_up: bool = False


_SINKS = (
    "select s.name, s.paused_at is not null as is_paused, "
    "  case when s.paused_at is null and (r.is_any or u.is_any) then s.reason end as reason, "
    "  case when s.paused_at is null then coalesce(r.reason, u.reason) end as refused, "
    "  coalesce(s.not_before, r.not_before) as next_try, d.dead from sinks s "
    # Two indexes find a record that waits, if there is one. `exists` over both kinds would read the whole table.
    "left join lateral (select coalesce(n.reason, 'no reason') as reason, n.not_before, true as is_any from deliveries n "
    "  where n.sink = s.name and n.state = 'pending' and n.not_before is not null order by n.not_before limit 1) r on true "
    # One that a person wants to be tried again at once has a reason, too.
    "left join lateral (select n.reason, true as is_any from deliveries n "
    "  where n.sink = s.name and n.state = 'pending' and n.not_before is null order by n.delivery_id limit 1) u on true "
    "cross join lateral (select count(*) as dead from (select from deliveries n "
    "  where n.sink = s.name and n.state = 'dead' limit %s) n) d where s.is_configured order by s.name"
)


def sink_states(cur: Cursor) -> dict[str, SinkState]:
    """The sinks of the pipeline file, by name."""
    cur.execute(_SINKS, [MOST_DEAD_COUNTED])
    return {row["name"]: SinkState(**row) for row in cur.fetchall()}


def channel_faults(cur: Cursor, names: Collection[str]) -> dict[str, ChannelFault]:
    """Of these channels, those whose oldest message waits after a failure, or whose last one was given up."""
    cur.execute(
        "select c.name, coalesce(n.reason, e.reason) as reason, n.reason is null as is_given_up "
        "from unnest(%s::text[]) as c (name) "
        "left join lateral (select n.reason from notifications n "
        "  where n.channel = c.name and n.state = 'pending' order by n.notification_id limit 1) n on true "
        "left join lateral (select n.state, coalesce(n.reason, 'no reason') as reason from notifications n "
        "  where n.channel = c.name and n.state <> 'pending' order by n.notification_id desc limit 1) e on true "
        "where n.reason is not null or e.state = 'dead'",
        [list(names)],
    )
    return {row["name"]: ChannelFault(row["reason"], row["is_given_up"]) for row in cur.fetchall()}
