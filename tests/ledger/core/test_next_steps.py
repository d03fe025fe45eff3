"""What a person is told to do: a command only if it reaches the ledger."""

from collections.abc import Callable

import pytest

from dagster_offload.ledger.core import next_steps
from dagster_offload.ledger.core.database import DEFAULT_SCHEMA

STEPS: dict[str, Callable[[str], str]] = {
    "accept_vanished: true": lambda schema: next_steps.accept_vanished(schema, "/papers"),
    "forget_slot: deep": lambda schema: next_steps.forget_slot(schema, "deep"),
    "try_again: true": lambda schema: next_steps.try_again(schema, "deep"),
    "drain sensor": next_steps.checked_next,
    "concurrency": lambda schema: next_steps.fewer_at_once(schema, "deep"),
}


@pytest.mark.parametrize("in_a_project", STEPS)
def test_a_step_names_a_command_for_the_ledger_of_a_home_and_none_for_that_of_a_project(in_a_project: str) -> None:
    step = STEPS[in_a_project]
    assert "dagster-offload" in step(DEFAULT_SCHEMA)
    assert in_a_project in step("offload_papers")
    assert "dagster-offload" not in step("offload_papers")
