"""Estimates a slot's speed and when the backlog may be done, from the calls it answered and the hours it was available.

If the history is too short for an estimate, the note says so.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import IS_ANSWERED
from dagster_offload.ledger.reports import long_documents
from dagster_offload.stages.catalog import IN_ONE_PART, PARTS_PER_MERGE, Splitting
from dagster_offload.stages.graph import StageNode
from dagster_offload.text.counts import counted

RECENT_CALLS = 2000  # the rate is measured over this many calls: hours of use, at a bounded cost
RECENT_DAYS = 14
# The time a drain needs between two calls counts as use of the slot. A longer pause does not: the slot was away, or nothing
# was due.
PAUSE_SECONDS = 1.0
USUAL_DAYS = 28
DAYS_TO_KNOW_USUAL_HOURS = 7
HORIZON = timedelta(days=182)

# How long a slot was used, in SQL. `WITH_USED_UNTIL` continues a `with` clause that has the calls in `recent`. Calls that
# were open at the same time count once. The parameter `pause`: a shorter gap between two calls counts as use, in seconds.
WITH_USED_UNTIL = (
    "spans as (select *, ended_at - make_interval(secs => seconds) as started_at from recent), "
    "timed as (select *, max(ended_at) over "
    "  (order by started_at, ended_at rows between unbounded preceding and 1 preceding) as used_until from spans)"
)
USED_SECONDS = (
    "sum(extract(epoch from greatest(ended_at, used_until) - case "
    "  when started_at <= used_until + make_interval(secs => %(pause)s) then used_until else started_at end"
    "))::double precision"
)

_ANSWERED = f"slot = any(%(slots)s) and item_id is not null and {IS_ANSWERED}"


@dataclass(frozen=True)
class Rate:
    """The speed of one or several slots in their last hours of use. `seconds_per_item` is the slots' time, not a call's:
    concurrent calls share it, and so do slots that are used at the same time."""

    tokens_per_second: float
    seconds_per_item: Mapping[str, float]  # by stage
    items: Mapping[str, int]  # how many were asked about, by stage
    seconds_per_part: float  # of a long document


@dataclass(frozen=True)
class Estimate:
    """None = not known; `note` then gives the reason. `slot_hours_left` counts only hours in which the slot is available.

    `held_hours` is apart from them: what waits for stages that are held, and for the stages after those.
    """

    tokens_per_second: float | None = None
    documents_per_hour: float | None = None
    slot_hours_left: float | None = None
    done_at: datetime | None = None
    note: str | None = None
    held_hours: float | None = None


def estimate(
    cur: Cursor, *slots: str, splitting: Splitting = IN_ONE_PART, held_everywhere: Collection[str] = ()
) -> Estimate:
    """The speed of these slots together, and when the backlog may be done given the hours at which any is usually
    available. `held_everywhere`: the stages that no slot takes until a person has looked."""
    rate = recent_rate(cur, *slots)
    if rate is None:
        return Estimate(note="speed not known: the slot answered no call in the last two weeks")
    per_item = rate.seconds_per_item
    any_stage = sum(per_item.values()) / len(per_item)
    graph = [node for node in stages.graph(cur) if node.upstream is not None]
    shares = _shares_asked(graph, rate.items)
    hours: dict[bool, float] = {True: 0.0, False: 0.0}  # by whether a stage is held
    held = _with_those_after(held_everywhere, graph)
    begun, ahead = _calls_left(cur), long_documents.ahead(cur, splitting)
    for stage, n in _backlog(cur).items():
        long = ahead.get(stage, long_documents.NONE)
        in_parts = begun.get(stage, 0.0) + long.calls
        seconds = (n - long.documents) * per_item.get(stage, any_stage) + in_parts * rate.seconds_per_part
        hours[stage in held] += seconds / 3600
    hours_left = hours[False]
    done_at, note = None, None
    if hours_left:
        now = fetch_one(cur, "select clock_timestamp() as now")["now"]
        since, used = hours_of_use(cur, *slots)
        done_at, note = expected_end(now, hours_left, since, used)
    return Estimate(
        tokens_per_second=rate.tokens_per_second,
        documents_per_hour=3600 / sum(share * per_item.get(stage, any_stage) for stage, share in shares.items()),
        slot_hours_left=hours_left,
        done_at=done_at,
        note=note,
        held_hours=hours[True],
    )


def _shares_asked(graph: Sequence[StageNode], items: Mapping[str, int]) -> dict[str, float]:
    """By stage, the share of the documents that it was asked about lately: all, unless it has a condition or needs a stage
    that has one."""
    conditional = _with_those_after({node.name for node in graph if node.condition}, graph)
    every = max((items.get(node.name, 0) for node in graph if node.name not in conditional), default=0)
    return {
        node.name: min(1.0, items.get(node.name, 0) / every) if node.name in conditional and every else 1.0
        for node in graph
    }


def _with_those_after(given: Collection[str], graph: Sequence[StageNode]) -> set[str]:
    """These stages, and those that need their answers. `graph` is in an order in which each stage follows those it needs."""
    found = set(given)
    for node in graph:
        if not found.isdisjoint(node.needs):
            found.add(node.name)
    return found


def _backlog(cur: Cursor) -> dict[str, int]:
    """Remaining work items of each LLM stage. A document whose text is not extracted yet counts once in each.

    `_calls_left` counts the long documents that were begun.
    """
    cur.execute(
        "select stage, sum(n)::bigint as n from ("
        "  select stage, n from item_counts where state in ('pending', 'claimed', 'deferred') union all "
        "  select stage, -1 from work_items where state in ('pending', 'claimed', 'deferred') "
        "    and parts_total is not null and stage <> (select first_stage())) counted group by stage"
    )
    counts = {row["stage"]: row["n"] for row in cur.fetchall()}
    graph = stages.graph(cur)
    left: dict[str, int] = {}  # in order: what is left of the stage that a stage reads comes to it, too
    for node in graph:
        left[node.name] = counts.get(node.name, 0) + (0 if node.upstream is None else left[node.upstream])
    return {node.name: left[node.name] for node in graph if node.upstream is not None}


def _calls_left(cur: Cursor) -> dict[str, float]:
    """By stage, the calls for the remaining parts of the long documents that were begun, and for the merges after them."""
    cur.execute(
        "select stage, sum(parts_total - parts_done + parts_total / %s)::double precision as n from work_items "
        "where parts_total is not null and state in ('pending', 'claimed', 'deferred') "
        "and stage <> (select first_stage()) group by stage",
        [PARTS_PER_MERGE],
    )
    return {row["stage"]: row["n"] for row in cur.fetchall()}


def recent_rate(cur: Cursor, *slots: str) -> Rate | None:
    """The speed over the last answered calls, without pauses; None if there were none for two weeks."""
    cur.execute(
        "with recent as (select stage, item_id, seconds, ended_at, "
        "    coalesce(tokens_in - coalesce(tokens_cached, 0), 0) + coalesce(tokens_out, 0) as tokens, "
        "    part is not null and exists (select 1 from work_items i where i.item_id = calls.item_id "
        "      and i.parts_total is not null) as is_part "
        f"  from calls where {_ANSWERED} and ended_at > clock_timestamp() - make_interval(days => %(days)s) "
        f"  order by ended_at desc limit %(limit)s), {WITH_USED_UNTIL} "
        "select stage, is_part, count(*) as calls, count(distinct item_id) as items, "
        "  sum(seconds) as call_seconds, sum(tokens)::double precision as tokens, "
        f"  {USED_SECONDS} as used_seconds from timed "
        "group by stage, is_part",
        {"slots": list(slots), "days": RECENT_DAYS, "limit": RECENT_CALLS, "pause": PAUSE_SECONDS},
    )
    rows = cur.fetchall()
    used, in_calls = (sum(row[name] for row in rows) for name in ("used_seconds", "call_seconds"))
    if not used or not in_calls:
        return None
    parts = [row for row in rows if row["is_part"]]
    # If only long documents were read, a part is the best estimate for a short document, and the other way round.
    whole = [row for row in rows if not row["is_part"]] or [row | {"items": row["calls"]} for row in parts]
    of_parts = parts or rows
    return Rate(
        tokens_per_second=sum(row["tokens"] for row in rows) / used,
        seconds_per_item={row["stage"]: row["call_seconds"] / row["items"] * used / in_calls for row in whole},
        items={row["stage"]: row["items"] for row in whole},
        seconds_per_part=sum(r["call_seconds"] for r in of_parts) / sum(r["calls"] for r in of_parts) * used / in_calls,
    )


def hours_of_use(cur: Cursor, *slots: str) -> tuple[datetime | None, list[datetime]]:
    """The first hour with a call (at most four weeks ago, None if there is none), and all hours in which one of the slots
    answered a call.

    Costs one index look-up per hour, however many calls there are.
    """
    cur.execute(
        "select hour from generate_series(date_trunc('hour', clock_timestamp() - make_interval(days => %(days)s)), "
        "  clock_timestamp(), interval '1 hour') as hour where exists (select 1 from calls "
        f"  where ended_at >= hour and ended_at < hour + interval '1 hour' and {_ANSWERED}) order by hour",
        {"slots": list(slots), "days": USUAL_DAYS},
    )
    hours = [row["hour"] for row in cur.fetchall()]
    return (hours[0] if hours else None), hours


def expected_end(
    now: datetime, hours_left: float, since: datetime | None, hours: Collection[datetime]
) -> tuple[datetime | None, str | None]:
    """When the slot will have worked for `hours_left` hours if it stays available as in the past; else the reason why that
    is not known.

    Each hour of the week is weighted by how often it was used: an hour used on two Mondays of four counts half.
    """
    if since is None or now - since < timedelta(days=DAYS_TO_KNOW_USUAL_HOURS):
        days = counted(len({hour.date() for hour in hours}), "day")
        return None, f"used on {days} so far: too few to know its usual hours"
    weeks = (now - since) / timedelta(weeks=1)
    usual: dict[int, float] = {}
    for hour in hours:
        usual[_hour_of_week(hour)] = usual.get(_hour_of_week(hour), 0.0) + 1
    at = now
    while at - now < HORIZON:
        following = at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        part = min(1.0, usual.get(_hour_of_week(at), 0.0) / weeks)
        available = part * (following - at).total_seconds() / 3600
        if available >= hours_left:
            return at + timedelta(hours=hours_left / part), None
        hours_left -= available
        at = following
    return None, "not within half a year at the slot's usual hours"


def _hour_of_week(moment: datetime) -> int:
    utc = moment.astimezone(UTC)
    return utc.weekday() * 24 + utc.hour
