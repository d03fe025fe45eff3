"""A stage that a slot holds, at the command line: what shows it, and how a person ends the hold."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import CLASSIFY
from tests.support.cli import Call
from tests.support.ledger import hold_stage

HELD = "deep holds the stage classify: 2 documents in a row ended in no_json, since "


@pytest.fixture
def held(call: Call, scanned: Path, router: Router) -> Iterator[Ledger]:
    """The ledger of two documents that are summarised, and whose classification is held."""
    assert call("drain", "summarize", "--json").exit_code == 0
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger:
        hold_stage(ledger, CLASSIFY, "no_json", recipe=recipes(load_settings())[CLASSIFY])
        yield ledger


def test_status_adds_the_time_of_held_stages_to_what_is_left(call: Call, scanned: Path, router: Router) -> None:
    assert call("drain", "summarize", "--limit", "1").exit_code == 0
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger:
        hold_stage(ledger, CLASSIFY, "no_json", recipe=recipes(load_settings())[CLASSIFY])
        shown = " ".join(call("status").stdout.split())
    assert re.search(r" left \d+ \S+ of the slot's time", shown)
    assert re.search(r" held another \d+ \S+ of the slot's time, for held stages", shown)


def test_status_names_the_held_stage_and_offers_no_drain_for_it(call: Call, held: Ledger) -> None:
    shown = " ".join(call("status").stdout.split())
    assert HELD in shown
    assert (
        "2 documents are left in this stage; check which model and which chat template the server of deep has loaded, or "
        "use another model; to try it again as it is, run" in shown
    )
    assert "waiting for deep" not in shown
    assert re.search(r" held \d+ \S+ of the slot's time, for held stages", shown), "nothing else is left"
    estimate = json.loads(call("status", "--json").stdout)["estimate"]
    assert (estimate["slot_hours_left"], estimate["held_hours"] > 0) == (0, True)
    [found] = json.loads(call("status", "--json").stdout)["holds"]
    del found["since"]
    assert found == {
        "slot": "deep",
        "stage": "classify",
        "code": "no_json",
        "documents": 2,
        "document": "letter.txt",
        "left": 2,
    }


@pytest.mark.parametrize("command", [("status",), ("slot", "show")])
def test_the_next_step_of_several_held_stages_is_said_once(
    call: Call, scanned: Path, router: Router, command: tuple[str, ...]
) -> None:
    assert call("drain", "--limit", "1").exit_code == 0
    known = recipes(load_settings())
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger:
        for stage in ("classify", "summarize"):
            hold_stage(ledger, stage, "no_json", recipe=known[stage])
        shown = " ".join(call(*command).stdout.split())
    assert shown.count("deep holds the stage ") == 2
    assert shown.count("check which model and which chat template the server of deep has loaded") == 1
    assert "For all of them: check which" in shown


def test_status_announces_no_drain_if_only_held_work_is_due(call: Call, held: Ledger) -> None:
    with held.transaction() as cur:
        cur.execute(
            "update work_items set state = 'deferred', result_id = null, outcome = null, deferred_slot = 'deep', "
            "not_before = now() + interval '9 days', deferred_epoch = (select epoch from slots) where stage = 'summarize'"
        )
    shown = " ".join(call("status").stdout.split())
    assert "2 work items waiting for deep: none is due now (dagster-offload explain DOCUMENT)" in shown


def test_a_drain_with_nothing_else_to_do_ends_with_the_held_stage_as_its_reason(
    call: Call, held: Ledger, router: Router
) -> None:
    calls = len(router.completions())
    result = call("drain")
    assert result.exit_code == 78
    assert HELD in " ".join(result.stdout.split())
    assert result.stdout.rstrip().endswith("dagster-offload slot set deep --try-again"), (
        "another drain would do nothing"
    )
    assert len(router.completions()) == calls


def test_a_drain_with_nothing_left_says_so(call: Call, scanned: Path, router: Router) -> None:
    assert "nothing was left" not in call("drain").stdout
    assert call("drain").stdout == "0 done: nothing was left to do\n"


def test_slot_show_names_the_held_stage_and_try_again_ends_the_hold(call: Call, held: Ledger) -> None:
    assert HELD in " ".join(call("slot", "show").stdout.split())
    [slot] = json.loads(call("slot", "show", "--json").stdout)["slots"]
    assert [hold["stage"] for hold in slot["holds"]] == ["classify"]
    assert call("slot", "set", "deep", "--try-again").stdout.startswith(
        "deep: takes the stage classify again. Documents that failed in it may wait a minute, for others to go first.\n"
    )
    assert json.loads(call("status", "--json").stdout)["holds"] == []
    assert call("drain").exit_code == 0


def test_explain_says_that_the_stage_of_a_document_is_held(call: Call, held: Ledger) -> None:
    shown = " ".join(call("explain", "letter.txt").stdout.split())
    assert "classify waits for deep: the stage is held, 2 documents in a row ended in no_json, since " in shown
    assert "(what to do: dagster-offload status)" in shown
    assert json.loads(call("explain", "letter.txt", "--json").stdout)["items"][1]["held_by"] == "deep"
