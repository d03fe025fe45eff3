"""What waiting work waits for: the decision, without I/O."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dagster_offload.cli.running import Running
from dagster_offload.cli.waits import Facts, Obstacle, wait_of
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.reports.explanation import ExplainedItem
from dagster_offload.slot.config import SlotConfig

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)
DEEP, STUDIO = (SlotConfig(name, f"http://{name}:1", "qwen", priority=n) for n, name in ((1, "deep"), (0, "studio")))
ITEM = ExplainedItem(
    stage="classify",
    state=State.PENDING,
    outcome=None,
    reason=None,
    attempts=0,
    deferrals=0,
    reclaims=0,
    not_before=None,
    must_run_alone=False,
    changed_at=NOW,
    parts_done=None,
    parts_total=None,
    served_model=None,
    first_document=None,
    extract_reason=None,
    doubtful=None,
    is_due=True,
    due_at=["deep", "studio"],
    first_needs=[],
    same_in_work=None,
    held_by=None,
    is_outdated=False,
)
RUNNING = Running(None, (), ())
ONE = Facts(RUNNING, slots=[DEEP], by_slot={"deep": ["classify"]})
TWO = Facts(RUNNING, slots=[DEEP, STUDIO], by_slot={"deep": ["classify"], "studio": ["classify"]})
ASLEEP = Obstacle("unavailable, upstream_cold")
RESTS = Obstacle("resting", LATER)


def test_what_a_slot_can_take_is_due_and_says_who_takes_it() -> None:
    wait = wait_of(ITEM, ONE)
    assert (wait.short, wait.is_due, wait.reason) == ("now", True, RUNNING.who_drains)
    assert wait_of(replace(ITEM, must_run_alone=True), ONE).short == "now, alone and after the others"
    assert wait_of(replace(ITEM, due_at=["studio"]), replace(TWO, obstacles={"deep": ASLEEP})).is_due


def test_what_waits_for_its_next_attempt_says_when_that_is() -> None:
    wait = wait_of(replace(ITEM, due_at=[], is_due=False, not_before=LATER), ONE)
    assert (wait.is_due, wait.until) == (False, LATER)
    assert wait.short.startswith(f"{LATER.astimezone():%H:%M:%S} (")
    assert wait.in_full == "its next attempt"


def test_what_no_slot_can_take_says_why_for_each_slot_and_when_the_first_can_be_used() -> None:
    wait = wait_of(ITEM, replace(ONE, obstacles={"deep": RESTS}))
    assert (wait.short, wait.reason, wait.until) == ("when deep can be used", "deep: resting", LATER)
    wait = wait_of(ITEM, replace(TWO, obstacles={"deep": RESTS, "studio": ASLEEP}))
    assert wait.short == "when deep or studio can be used"
    assert wait.reason == "deep or studio (deep: resting; studio: unavailable, upstream_cold)"


def test_a_slot_that_holds_the_stage_does_not_take_it() -> None:
    held = {("deep", "classify"): "deep holds the stage classify"}
    assert wait_of(ITEM, replace(ONE, held=held)).reason == "deep: deep holds the stage classify"
    assert wait_of(ITEM, replace(TWO, held=held)).is_due, "the reserve takes it"


def test_what_only_a_slot_in_reserve_could_take_is_not_due() -> None:
    wait = wait_of(replace(ITEM, due_at=["studio"], not_before=LATER), TWO)
    assert (wait.is_due, wait.until) == (False, LATER)


@pytest.mark.parametrize(
    ("item", "facts", "short", "reason"),
    [
        (replace(ITEM, first_needs=["letter"]), ONE, "after letter", ""),
        (replace(ITEM, same_in_work="a.txt"), ONE, "after a copy", "a.txt, which has the same content and is in work"),
        (ITEM, replace(ONE, shortage="it is full"), "when the disk has space", "free space: it is full"),
        (ITEM, Facts(RUNNING), "when a slot answers it", "a slot: no deep slot is configured: set OFFLOAD_DEEP_URL and "
         "OFFLOAD_DEEP_MODEL"),
    ],
)  # fmt: skip
def test_work_that_waits_for_something_else_names_it(
    item: ExplainedItem, facts: Facts, short: str, reason: str
) -> None:
    wait = wait_of(item, facts)
    assert (wait.short, wait.reason, wait.is_due) == (short, reason, False)


def test_a_file_that_is_to_be_read_says_who_reads_it() -> None:
    wait = wait_of(replace(ITEM, stage="extract", due_at=[]), ONE)
    assert (wait.short, wait.is_due, wait.reason) == ("now", True, RUNNING.who_scans)
    assert wait_of(replace(ITEM, stage="extract", is_due=False, not_before=LATER), ONE).until == LATER
