"""Stages that a slot holds: it takes no document of them, because document after document failed there.

The fault is assumed to be that of the stage's recipe, or of the model: not of the documents, and not of the slot, which goes
on with its other stages. `faults_to_hold_for` has the rule; `breaker.py` counts the faults.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core import next_steps
from dagster_offload.ledger.core.database import DEFAULT_SCHEMA, Cursor, fetch_one
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import llm_stages, stages_by_slot
from dagster_offload.stages.graph import BUILT_IN
from dagster_offload.text.counts import agreeing, counted
from dagster_offload.text.times import shown_moment

# The first word of the reason of work items whose attempts were given back.
STAGE_HELD = "stage_held"
DOCUMENTS_TO_HOLD = 5
# A stage that was answered before may meet a folder of documents that do not suit it.
DOCUMENTS_TO_HOLD_AN_ANSWERED_STAGE = 20
# If their faults differ. Documents that are at fault themselves come among others that are not.
DOCUMENTS_TO_HOLD_FOR_DIFFERENT_FAULTS = 20
DIFFERENT_FAULTS = "different_faults"  # the code of such a hold
COUNTED_FAULTS = 100  # of a row: at the end of a backlog of unsuitable documents it may be long
# When a held stage is tried again with the same recipe, others go first for this long: the documents that failed wait.
OTHERS_FIRST_SECONDS = 60.0


@dataclass(frozen=True)
class Hold:
    """A stage that a slot holds. `code` is the fault, or `DIFFERENT_FAULTS`. `documents` is how many ended so, `document` the
    name of one of them (None if all are removed). `left` is how many lack an answer of the stage; another slot may be
    answering them."""

    slot: str
    stage: str
    code: str
    documents: int
    document: str | None
    left: int
    since: datetime
    schema: str = DEFAULT_SCHEMA  # of the ledger

    @property
    def facts(self) -> dict[str, object]:
        """What a program reads about it."""
        return {name: value for name, value in vars(self).items() if name != "schema"}

    @property
    def reason_text(self) -> str:
        """`5 documents in a row ended in no_json, since 14:02`, in this machine's time zone."""
        faults = "different faults" if self.code == DIFFERENT_FAULTS else self.code
        found = f"{counted(self.documents, 'document')} in a row ended in {faults}"
        return f"{found}, since {shown_moment(self.since)}"

    @property
    def left_text(self) -> str:
        """`12 documents are left in this stage`. True also while another slot takes the stage."""
        return f"{counted(self.left, 'document')} {agreeing('are', self.left)} left in this stage"

    @property
    def next_step(self) -> str:
        """What a person can do. To try the stage as it is needs no change, such as after the model's server was repaired."""
        again = next_steps.try_again(self.schema, self.slot)
        correct = "correct the stage"
        if self.stage in BUILT_IN.names:  # it comes with the product, and suits documents of all kinds
            correct = f"check which model and which chat template the server of {self.slot} has loaded"
        return f"{correct}, or use another model; to try it again as it is, {again}"

    @property
    def in_words(self) -> str:
        """What is held and why, without what a person can do."""
        return f"{self.slot} holds the stage {self.stage}: {self.reason_text}; {self.left_text}"

    def __str__(self) -> str:
        return f"{self.in_words}; {self.next_step}"


def describe(holds: Iterable[Hold]) -> list[str]:
    """A text for all holds with the same next step, which is said once."""
    by_step: dict[str, list[Hold]] = {}
    for hold in holds:
        by_step.setdefault(hold.next_step, []).append(hold)
    return [
        str(group[0])
        if len(group) == 1
        else "\n".join((*(hold.in_words for hold in group), f"For all of them: {step}"))
        for step, group in by_step.items()
    ]


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
        "current_schema() as schema, "
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


def held_everywhere(settings: Settings, found: Iterable[Hold]) -> set[str]:
    """The stages that no slot takes until a person has looked, because each one that may answer them holds them."""
    held, stages = by_slot(found), stages_by_slot(settings, llm_stages(settings))
    slots = [slot.name for slot in settings.slots.of_drains]
    taken = {stage for slot in slots for stage in stages[slot] if stage not in held.get(slot, ())}
    return {stage for slot in slots for stage in stages[slot]} - taken


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
    """Document faults of one stage at one slot, the oldest first, without an answer of the stage between.

    `items` has a work item once for each attempt, and `codes` its fault. `held_for` is the code of the hold, if there is one.
    """

    items: list[int]
    codes: list[str]
    held_for: str | None


@dataclass(frozen=True)
class FaultsOfHold:
    """The faults that belong to a hold. `items`: the work items, once for each attempt that is given back. `code`: see `Hold`."""

    items: list[int]
    code: str


def add_fault(cur: Cursor, slot: str, stage: str, code: str, recipe: str, item_id: int) -> FaultsInARow:
    """Add a document fault to those in a row. Another recipe begins a new row, unless the stage is held."""
    row = fetch_one(
        cur,
        "insert into stage_faults as f (slot, stage, recipe, items, codes) "
        "values (%(slot)s, %(stage)s, %(recipe)s, array[%(item)s::bigint], array[%(code)s]) "
        "on conflict (slot, stage) do update set "
        f"  items = case when {_GOES_ON} then f.items || excluded.items else excluded.items end, "
        f"  codes = case when {_GOES_ON} then f.codes || excluded.codes else excluded.codes end, "
        # The first of the last faults that have one code.
        f"  began_at = case when {_GOES_ON} and f.codes[cardinality(f.codes)] = %(code)s "
        "    then f.began_at else excluded.began_at end, "
        "  recipe = case when f.held_since is null then excluded.recipe else f.recipe end "
        "returning items, codes, case when held_since is not null then code end as held_for",
        {"slot": slot, "stage": stage, "code": code, "recipe": recipe, "item": item_id},
    )
    return FaultsInARow(**row)


# The row of faults goes on: it has the same recipe and a code for each fault, or the stage is held already.
_GOES_ON = "(f.held_since is not null or f.recipe = excluded.recipe and cardinality(f.codes) = cardinality(f.items))"


def faults_to_hold_for(cur: Cursor, slot: str, stage: str, recipe: str, faults: FaultsInARow) -> FaultsOfHold | None:
    """Decide whether these faults make the slot hold the stage. Returns those that do; None if the documents pay."""
    code = faults.codes[-1]
    equal = faults.items[-_equal_at_end(faults.codes) :]
    if len(set(equal)) >= DOCUMENTS_TO_HOLD:
        documents = _documents(cur, slot, stage, equal, {code})
        if documents >= DOCUMENTS_TO_HOLD and documents >= needed_to_hold(cur, slot, stage, recipe):
            return FaultsOfHold(equal, code)
    if len(set(faults.items)) >= DOCUMENTS_TO_HOLD_FOR_DIFFERENT_FAULTS:
        documents = _documents(cur, slot, stage, faults.items, set(faults.codes))
        if documents >= DOCUMENTS_TO_HOLD_FOR_DIFFERENT_FAULTS:
            return FaultsOfHold(faults.items, DIFFERENT_FAULTS)
    return None


def _equal_at_end(codes: list[str]) -> int:
    """How many of the last codes are equal."""
    return next((n for n, code in enumerate(reversed(codes)) if code != codes[-1]), len(codes))


def _documents(cur: Cursor, slot: str, stage: str, items: list[int], codes: Collection[str]) -> int:
    """How many documents these work items have.

    Left out are those that failed in one of these ways before the stage's last answer at the slot, here or at another slot:
    most likely they are at fault themselves. Of a long row, the newest faults are counted.
    """
    answered = fetch_one(
        cur,
        "select max(ended_at) as at from calls where slot = %s and stage = %s and outcome = 'ok'",
        [slot, stage],
    )
    row = fetch_one(
        cur,
        "select count(*) as n from (select distinct unnest(%(items)s::bigint[]) as id) i "
        "where not exists (select from calls c where c.item_id = i.id and c.outcome = any(%(codes)s) "
        "  and c.ended_at < %(answered_at)s)",
        {"items": items[-COUNTED_FAULTS:], "codes": list(codes), "answered_at": answered["at"]},
    )
    return int(row["n"])


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


def hold(cur: Cursor, slot: str, stage: str, faults: FaultsOfHold) -> None:
    """Make the slot hold the stage from now on, because of the last faults of its row."""
    cur.execute(
        "update stage_faults set held_since = clock_timestamp(), code = %(code)s, items = %(items)s, "
        "codes = codes[cardinality(codes) - cardinality(%(items)s::bigint[]) + 1:] where slot = %(slot)s and stage = %(stage)s",
        {"code": faults.code, "items": faults.items, "slot": slot, "stage": stage},
    )
