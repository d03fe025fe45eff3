"""The numbers of the assets with plots, and of `records`: what is left, how a slot is used, the newest records."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import IS_ANSWERED
from dagster_offload.ledger.reports.estimate import PAUSE_SECONDS, USED_SECONDS, WITH_USED_UNTIL
from dagster_offload.ledger.slots import availability, slots

HOUR = timedelta(hours=1)
NOTHING = "0/0"  # the position of a new ledger


def position(cur: Cursor) -> str:
    """Changes whenever a work item or the availability of a slot does. Costs two look-ups in indexes."""
    row = fetch_one(
        cur,
        "select coalesce((select max(transition_id) from transitions), 0) as items, "
        "coalesce((select max(availability_id) from availability), 0) as slots",
    )
    return f"{row['items']}/{row['slots']}"


@dataclass(frozen=True)
class SlotUse:
    """How a slot was used in a period. Shares are 0 to 1; None if nothing shows them."""

    available_share: float | None
    calls: int
    unanswered: int  # calls that brought no answer
    concurrency: int | None  # how many calls may be open at once now; None if the ledger does not have the slot
    tokens_per_second: float | None  # read and written, while calls were open
    cached_share: float | None  # of the prompt tokens


def last_hour(cur: Cursor, slot: str) -> SlotUse:
    """The last hour of this slot."""
    now = fetch_one(cur, "select clock_timestamp() as now")["now"]
    return slot_use(cur, slot, now - HOUR, now)


def last_hours(cur: Cursor, slot: str, most: int, now: datetime) -> dict[datetime, SlotUse]:
    """The last hours of this slot by their beginning, the present one first, at most since it was first used.

    They begin when a clock shows a full hour in the time zone of `now`.
    """
    row = fetch_one(
        cur,
        "select least((select min(since) from availability where slot = %(slot)s), "
        "  (select min(ended_at) from calls where slot = %(slot)s)) as used_since",
        {"slot": slot},
    )
    used_since = row["used_since"] or now
    present = now.replace(minute=0, second=0, microsecond=0)
    beginnings = [present - number * HOUR for number in range(most)]
    return {
        beginning: slot_use(cur, slot, beginning, min(beginning + HOUR, now))
        for beginning in beginnings
        if beginning + HOUR > used_since
    }


def slot_use(cur: Cursor, slot: str, beginning: datetime, end: datetime) -> SlotUse:
    """How this slot was used in a period."""
    row = fetch_one(
        cur,
        "with recent as (select ended_at, seconds, tokens_in, tokens_cached, tokens_out, outcome, model_evidence from calls "
        "  where slot = %(slot)s and item_id is not null and ended_at > %(beginning)s and ended_at <= %(end)s), "
        f"{WITH_USED_UNTIL} "
        f"select count(*) as calls, count(*) filter (where not {IS_ANSWERED}) as unanswered, "
        "  sum(tokens_in - coalesce(tokens_cached, 0) + coalesce(tokens_out, 0))::double precision "
        f"  as tokens, {USED_SECONDS} as used, "
        # Not a division of whole numbers, whose result would be 0.
        "  sum(tokens_cached)::double precision / nullif(sum(tokens_in) filter (where tokens_cached is not null), 0) "
        "  as cached from timed",
        {"slot": slot, "pause": PAUSE_SECONDS, "beginning": beginning, "end": end},
    )
    tokens, used, known = row["tokens"], row["used"], slots.get(cur, slot)
    return SlotUse(
        available_share=availability.share_between(cur, slot, beginning, end),
        calls=row["calls"],
        unanswered=row["unanswered"],
        concurrency=None if known is None else known.concurrency,
        tokens_per_second=tokens / used if tokens and used else None,
        cached_share=row["cached"],
    )


def newest_records(cur: Cursor, limit: int) -> list[int]:
    """The ids of the documents present with the newest answers, newest first."""
    cur.execute(
        "select d.document_id from (select r.first_document, max(r.result_id) as newest from stages s cross join lateral ("
        "    select first_document, result_id from results where superseded_at is null and outcome = 'ok' "
        # Not `stage = s.name`: the planner could then read all results backwards, past those of other stages.
        "    and stage >= s.name and stage <= s.name order by stage desc, result_id desc limit %(most)s) r "
        "  where s.upstream is not null group by r.first_document) r "
        "join documents d on d.key = r.first_document and d.is_present order by r.newest desc limit %(limit)s",
        {"most": 4 * limit, "limit": limit},
    )
    return [row["document_id"] for row in cur.fetchall()]
