"""Further slots at the command line: a line each in `status`, and the commands that name one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.simulator import Router
from tests.support.cli import Call


@pytest.fixture
def studio(router: Router, tmp_path: Path) -> Iterator[Router]:
    """The router of the further slot `studio`, which the pipeline file adds beside `deep`."""
    with Router() as studio:
        file = tmp_path / "offload.yaml"
        slots = {"studio": {"url": studio.url, "model": "qwen-studio"}}
        stages = {"classify": {"slots": ["deep", "studio"]}, "summarize": {"slots": ["deep", "studio"]}}
        file.write_text(json.dumps({"slots": slots, "stages": stages}), encoding="utf-8")  # JSON is YAML
        os.environ["OFFLOAD_CONFIG"] = str(file)
        yield studio


def lines(call: Call) -> dict[str, str]:
    """The lines of `status`, by their first word."""
    return {line.split()[0]: line for line in call("status").stdout.splitlines() if line.strip()}


def test_status_has_a_line_for_each_slot(call: Call, scanned: Path, studio: Router) -> None:
    studio.set(mode="cold")
    shown = lines(call)
    assert shown["deep"].endswith("healthy")
    assert shown["studio"].startswith(f"studio   qwen-studio at {studio.url}: unavailable: upstream_cold")
    assert "waits for studio" not in call("status").stdout, "deep may answer all stages, too"
    found = json.loads(call("status", "--json").stdout)
    assert {name: slot["healthy"] for name, slot in found["slots"].items()} == {"deep": True, "studio": False}
    assert found["slots"]["deep"] == found["deep"]


def test_status_says_why_a_slot_in_reserve_is_idle(call: Call, scanned: Path, router: Router, studio: Router) -> None:
    assert call("config", "set", "slots.deep.priority", "1").exit_code == 0
    assert lines(call)["studio"].endswith(": healthy; in reserve while deep is available")
    assert lines(call)["deep"].endswith(": healthy")
    found = json.loads(call("status", "--json").stdout)["slots"]
    assert {name: slot["in_reserve_for"] for name, slot in found.items()} == {"deep": [], "studio": ["deep"]}
    router.set(mode="cold")
    assert lines(call)["studio"].endswith(": healthy")
    router.set(mode="awake")
    call("pause", "deep")
    assert lines(call)["studio"].endswith(": healthy")


def test_status_shows_the_breaker_of_a_further_slot_and_that_none_is_available(
    call: Call, scanned: Path, router: Router, studio: Router
) -> None:
    for each in (router, studio):
        each.set(mode="cold")
    assert call("drain").exit_code == 75
    assert "studio   qwen-studio" in lines(call)["studio"]
    assert ": unavailable, upstream_cold since" in lines(call)["studio"]
    assert "waiting: no slot is available" in call("status").stdout


def test_status_names_the_stages_whose_slots_are_all_unavailable(
    call: Call, scanned: Path, router: Router, studio: Router
) -> None:
    call("config", "set", "stages.summarize.slots", "studio")
    studio.set(mode="cold")
    shown = call("status").stdout
    assert "summarize waits for studio" in shown
    assert "classify waits" not in shown


def test_a_drain_whose_documents_wait_for_another_slot_says_that_they_are_answered_in_part(
    call: Call, scanned: Path, studio: Router
) -> None:
    call("config", "set", "stages.summarize.slots", "studio")
    studio.set(mode="cold")
    drained = call("drain")
    assert (drained.exit_code, "0 done, 2 answered in part" in drained.stdout) == (75, True)
    assert json.loads(call("drain", "--json").stdout)["answered_in_part"] == 0, "this one got no answer"


def test_a_drain_reports_over_all_slots(call: Call, scanned: Path, studio: Router) -> None:
    summary = json.loads(call("drain", "--json").stdout)
    assert (summary["done"], summary["left"], summary["reason"]) == (2, 0, None)


def test_a_further_slot_is_paused_and_resumed_by_name(call: Call, with_ledger: str, studio: Router) -> None:
    assert json.loads(call("pause", "studio", "--json").stdout)["paused"] == ["studio"]
    assert ": resting: paused since" in lines(call)["studio"]
    assert json.loads(call("resume", "--json").stdout)["resumed"] == ["studio"]
    refused = call("pause", "studoi")
    assert (refused.exit_code, "deep, primary, studio" in refused.output) == (2, True)


def test_doctor_tests_the_slot_that_is_named(call: Call, with_ledger: str, studio: Router) -> None:
    result = call("doctor", "studio")
    assert result.exit_code == 0
    assert f"studio: asks for qwen-studio at {studio.url}" in result.output
    missing = call("doctor", "primary")
    assert (missing.exit_code, "OFFLOAD_PRIMARY_URL" in missing.output) == (2, True)


def test_config_shows_and_sets_a_further_slot(call: Call, studio: Router) -> None:
    assert call("config", "set", "slots.studio.concurrency", "3").exit_code == 0
    rows = {row["key"]: row for row in json.loads(call("config", "show", "--json").stdout)["settings"]}
    assert (rows["slots.studio.concurrency"]["value"], rows["slots.studio.api_key"]["value"]) == (3, None)
