"""Which stages a slot takes now, from the priorities and from what is available."""

import pytest

from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.reserve import (
    all_preferred,
    describe_reserve,
    preferred_to,
    reserve_for,
    stages_left,
    without_held,
)

BOTH = ["classify", "summarize"]


def slots(**priorities: int) -> dict[str, SlotConfig]:
    return {name: SlotConfig(name, f"http://{name}", "m", priority=priority) for name, priority in priorities.items()}


@pytest.mark.rule("slot-19")
@pytest.mark.parametrize(
    ("priorities", "available", "expected"),
    [
        # Every slot has the same priority: none waits for another.
        ({"deep": 0, "tower": 0}, {"deep", "tower"}, BOTH),
        ({"deep": 1, "tower": 0}, {"deep", "tower"}, []),
        ({"deep": 1, "tower": 0}, {"deep"}, []),
        ({"deep": 1, "tower": 0}, {"tower"}, BOTH),
        ({"deep": 1, "tower": 0}, set(), BOTH),
        # The reserve of a reserve.
        ({"deep": 2, "studio": 1, "tower": 0}, {"studio", "tower"}, []),
        ({"deep": 2, "studio": 1, "tower": 0}, {"tower"}, BOTH),
        # The highest priority does not wait, and negative ones are lower than the default.
        ({"deep": 0, "tower": 5}, {"deep", "tower"}, BOTH),
        ({"deep": 0, "tower": -1}, {"deep", "tower"}, []),
    ],
)
def test_a_slot_takes_work_only_while_no_better_one_is_available(
    priorities: dict[str, int], available: set[str], expected: list[str]
) -> None:
    found = slots(**priorities)
    preferred = preferred_to(found["tower"], found.values(), dict.fromkeys(found, BOTH))
    assert stages_left(preferred, available) == expected


@pytest.mark.rule("slot-19")
def test_a_better_slot_counts_only_for_the_stages_that_it_may_answer() -> None:
    found = slots(deep=2, studio=1, tower=0)
    stages = {"deep": ["classify"], "studio": [], "tower": BOTH}
    preferred = preferred_to(found["tower"], found.values(), stages)
    assert stages_left(preferred, set(found)) == ["summarize"]
    assert reserve_for(preferred, set(found)) == [], "it takes a stage"
    assert all_preferred(preferred) == [found["deep"]]


def test_a_slot_in_reserve_names_the_available_slots_that_it_waits_for() -> None:
    found = slots(deep=2, studio=1, tower=0, annex=1)
    stages = {"deep": ["classify"], "studio": BOTH, "tower": BOTH, "annex": ["summarize"]}
    preferred = preferred_to(found["tower"], found.values(), stages)
    assert reserve_for(preferred, {"deep", "studio"}) == ["deep", "studio"]
    assert reserve_for(preferred, {"studio", "annex"}) == ["studio", "annex"]
    assert reserve_for(preferred, {"deep"}) == []
    assert describe_reserve(["deep"]) == "in reserve while deep is available"
    assert describe_reserve(["deep", "studio"]) == "in reserve while deep and studio are available"


def test_a_slot_that_answers_no_stage_is_in_no_reserve() -> None:
    found = slots(deep=1, tower=0)
    preferred = preferred_to(found["tower"], found.values(), {"deep": BOTH, "tower": []})
    assert reserve_for(preferred, {"deep"}) == []


@pytest.mark.rule("breaker-12")
@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({}, []),
        ({"deep": {"classify"}}, ["classify"]),
        ({"tower": {"classify"}}, []),
        ({"deep": set(BOTH)}, BOTH),
        ({"deep": set(BOTH), "tower": {"classify"}}, ["summarize"]),
    ],
)
def test_a_reserve_takes_the_stages_that_the_better_slot_holds_and_not_those_it_holds_itself(
    held: dict[str, set[str]], expected: list[str]
) -> None:
    found = slots(deep=1, tower=0)
    preferred = preferred_to(found["tower"], found.values(), dict.fromkeys(found, BOTH))
    assert stages_left(without_held("tower", preferred, held), {"deep", "tower"}) == expected
