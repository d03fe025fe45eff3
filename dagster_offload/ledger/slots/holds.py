"""Stages that a slot holds: it takes no document of them, because document after document ended in the same fault there.

The fault is assumed to be that of the stage's recipe, or of the model: not of the documents, and not of the slot, which goes
on with its other stages. `documents_to_hold` has the rule; `breaker.py` counts the faults.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.text.counts import agreeing, counted
from dagster_offload.text.times import shown_moment

# The first word of the reason of work items whose attempts were given back.
STAGE_HELD = "stage_held"
DOCUMENTS_TO_HOLD = 5
# A stage that was answered before may meet a folder of documents that do not suit it.
DOCUMENTS_TO_HOLD_AN_ANSWERED_STAGE = 20
COUNTED_FAULTS = 100  # of a row: at the end of a backlog of unsuitable documents it may be long
# When a held stage is tried again with the same recipe, others go first for this long: the documents that failed wait.
OTHERS_FIRST_SECONDS = 60.0


@dataclass(frozen=True)
class Hold:
    """A stage that a slot holds. `code` is the fault, `documents` how many ended in it, `document` the name of one of them (None
    if all are removed). `left` is how many lack an answer of the stage; another slot may be answering them."""

    slot: str
    stage: str
    code: str
    documents: int
    document: str | None
    left: int
    since: datetime

    @property
    def reason_text(self) -> str:
        """`5 documents in a row ended in no_json, since 14:02`, in this machine's time zone."""
        found = f"{counted(self.documents, 'document')} in a row ended in {self.code}"
        return f"{found}, since {shown_moment(self.since)}"

    @property
    def left_text(self) -> str:
        """`12 documents are left in this stage`. True also while another slot takes the stage."""
        return f"{counted(self.left, 'document')} {agreeing('are', self.left)} left in this stage"

    @property
    def next_step(self) -> str:
        """What a person can do. To try the stage as it is needs no change, such as after the model's server was repaired."""
        again = f"dagster-offload slot set {self.slot} --try-again"
        return f"correct the stage, or use another model; to try it again as it is, run {again}"

    def __str__(self) -> str:
        return f"{self.slot} holds the stage {self.stage}: {self.reason_text}; {self.left_text}; {self.next_step}"


def documents_to_hold(*, was_answered: bool, others_answered: bool) -> int:
    """How many documents must fail in a row before the slot holds the stage.

    `was_answered`: some document has an answer of the stage with this recipe. `others_answered`: the slot has answered
    other stages since the first of the faults. If both are true, the documents may well be at fault.
    """
    return DOCUMENTS_TO_HOLD_AN_ANSWERED_STAGE if was_answered and others_answered else DOCUMENTS_TO_HOLD


def list_holds(cur: Cursor) -> list[Hold]:
    """The stages that slots hold, by slot and in declared order. Stages that were removed are left out."""
    cur.execute(
        "select f.slot, f.stage, f.code, f.held_since as since, failed.documents, failed.document, "
        "(select coalesce(sum(c.n), 0)::bigint from item_counts c where c.stage = f.stage "
        "  and c.state in ('pending', 'claimed', 'deferred')) as left "
        "from stage_faults f join stages s on s.name = f.stage cross join lateral ("
        "  select count(distinct d.document_id) as documents, min(d.key) as document from work_items i "
        "  join documents d using (document_id) where i.item_id = any(f.items)) failed "
        "where f.held_since is not null order by f.slot, s.position"
    )
    return [Hold(**row) for row in cur.fetchall()]


def by_slot(found: Iterable[Hold]) -> dict[str, set[str]]:
    """By slot: the stages that it holds. Slots without any are left out."""
    stages: dict[str, set[str]] = {}
    for each in found:
        stages.setdefault(each.slot, set()).add(each.stage)
    return stages


def end_all(cur: Cursor, slot: str) -> None:
    """End the slot's holds, because a person wants another try or the slot's settings changed.

    The documents that failed may fail again, so others of the stage go first, if there are any.
    """
    cur.execute(
        "update work_items w set not_before = clock_timestamp() + make_interval(secs => %(pause)s) from stage_faults f "
        "where f.slot = %(slot)s and f.held_since is not null and w.item_id = any(f.items) and w.state = 'pending' "
        "and exists (select from work_items o where o.stage = f.stage and o.state in ('pending', 'deferred') "
        "  and o.item_id <> all(f.items))",
        {"slot": slot, "pause": OTHERS_FIRST_SECONDS},
    )
    cur.execute("delete from stage_faults where slot = %s", [slot])


def end_outdated(cur: Cursor, slot: str, recipes: Mapping[str, str]) -> bool:
    """End the slot's holds of stages that now have another recipe, or none. Returns whether there were any."""
    cur.execute(
        "delete from stage_faults where slot = %s and held_since is not null and recipe is distinct from %s::jsonb ->> stage",
        [slot, Jsonb(dict(recipes))],
    )
    return cur.rowcount > 0


@dataclass(frozen=True)
class FaultsInARow:
    """Equal document faults of one stage at one slot. `items` has a work item once for each attempt.

    `documents` leaves out those that failed in this way before the stage's last answer there: most likely they are at fault
    themselves. Of a long row, the newest faults are counted.
    """

    items: list[int]
    documents: int
    is_held: bool


def add_fault(cur: Cursor, slot: str, stage: str, code: str, recipe: str, item_id: int) -> FaultsInARow:
    """Add a document fault to those in a row. Another fault or another recipe begins a new row, unless the stage is held."""
    row = fetch_one(
        cur,
        "insert into stage_faults as f (slot, stage, code, recipe, items) "
        "values (%(slot)s, %(stage)s, %(code)s, %(recipe)s, array[%(item)s::bigint]) "
        "on conflict (slot, stage) do update set "
        f"  items = case when {_IS_SAME} then f.items || excluded.items else excluded.items end, "
        f"  began_at = case when {_IS_SAME} then f.began_at else excluded.began_at end, "
        "  code = case when f.held_since is null then excluded.code else f.code end, "
        "  recipe = case when f.held_since is null then excluded.recipe else f.recipe end "
        "returning items, held_since is not null as is_held, "
        f"  (select count(distinct id) from unnest(f.items[cardinality(f.items) - {COUNTED_FAULTS - 1}:]) as id "
        f"  where not {_FAILED_BEFORE}) as documents",
        {"slot": slot, "stage": stage, "code": code, "recipe": recipe, "item": item_id},
    )
    return FaultsInARow(**row)


# The document of the item `id` failed in this way before the slot's last answer of the stage.
_FAILED_BEFORE = (
    "exists (select from calls c where c.item_id = id and c.slot = f.slot and c.outcome = f.code "
    "and exists (select from calls a where a.slot = f.slot and a.stage = f.stage and a.outcome = 'ok' "
    "  and a.ended_at > c.ended_at))"
)
# The row goes on: it is the same fault of the same recipe, or the stage is held already.
_IS_SAME = "f.held_since is not null or (f.code, f.recipe) = (excluded.code, excluded.recipe)"


def needed_to_hold(cur: Cursor, slot: str, stage: str, recipe: str) -> int:
    """Read the facts, and decide how many documents in a row make the slot hold the stage."""
    facts = fetch_one(
        cur,
        "select (select coalesce(sum(n), 0) > 0 from item_counts where stage = %(stage)s and recipe = %(recipe)s "
        "  and state = 'done' and outcome = 'ok') as was_answered, "
        # Calls that were open when the first fault came show nothing about the slot since.
        "exists (select from calls c join stage_faults f on f.slot = c.slot and f.stage = %(stage)s "
        "  where c.slot = %(slot)s and c.outcome = 'ok' and c.item_id is not null and c.stage <> %(stage)s "
        "  and c.ended_at > f.began_at and c.ended_at - make_interval(secs => c.seconds) > f.began_at) as others_answered",
        {"slot": slot, "stage": stage, "recipe": recipe},
    )
    return documents_to_hold(**facts)


def hold(cur: Cursor, slot: str, stage: str) -> None:
    """Make the slot hold the stage from now on."""
    cur.execute("update stage_faults set held_since = clock_timestamp() where slot = %s and stage = %s", [slot, stage])
