"""Documents that need a person: by name in the log and metadata of the run, and in the asset check of the stage."""

import asyncio
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dagster as dg
import pytest
from dagster._core.loader import LoadingContextForTest

from dagster_offload.defs.drain import outcome_of
from dagster_offload.defs.names import names_of
from dagster_offload.defs.shown.problems import CHECK, name_problems
from dagster_offload.drain import DrainSummary
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.reports.status import Problem
from dagster_offload.ledger.slots import slots
from dagster_offload.stages.graph import BUILT_IN
from tests.support.edge import Edge
from tests.support.ledger import hold_stage
from tests.support.patience import PATIENCE_SECONDS

KEYS = names_of(BUILT_IN).keys
NAMES = "documents that need you"


def write_broken(edge: Edge) -> None:
    assert edge.settings.library is not None
    (edge.settings.library / "broken.pdf").write_bytes(b"%PDF-1.4 and nothing else")


def metadata(result: dg.ExecuteInProcessResult, step: str) -> dict[str, Any]:
    (output,) = (event for event in result.all_events if event.event_type_value == "STEP_OUTPUT")
    assert output.step_key == step
    return dict(output.step_output_data.metadata)


def warnings_of(edge: Edge, run_id: str) -> list[str]:
    entries = [record.event_log_entry for record in edge.instance.get_records_for_run(run_id).records]
    return [entry.user_message for entry in entries if entry.level == logging.WARNING]


def checks(edge: Edge, stage: str) -> list[dg.AssetCheckEvaluation]:
    """Newest first."""
    key = dg.AssetCheckKey(KEYS[stage], CHECK)
    records = edge.instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    events = [record.event for record in records if record.event is not None]
    return [event.dagster_event.asset_check_evaluation_data for event in events if event.dagster_event is not None]


@pytest.mark.rule("drain-11")
def test_a_scan_names_the_file_that_failed_its_reason_and_the_next_step(edge: Edge) -> None:
    write_broken(edge)
    edge.write(a="A letter.")
    result = edge.scan()
    (line,) = warnings_of(edge, result.run_id)
    assert line.startswith("broken.pdf: extract failed (broken_file: ")
    assert line.endswith("Do what the reason says: the next scan reads the file by itself")
    table = metadata(result, "scan_library")[NAMES]
    assert isinstance(table, dg.TableMetadataValue)
    (row,) = table.records
    assert set(row.data) == {"document", "stage", "state", "reason", "next step"}
    assert (row.data["document"], row.data["stage"], row.data["state"]) == ("broken.pdf", "extract", "failed")
    assert NAMES not in metadata(edge.scan(), "scan_library")  # it failed in an earlier run


def is_shown(edge: Edge, stage: str) -> bool:
    """Whether the UI shows the latest evaluation, and not "not evaluated"."""
    key = dg.AssetCheckKey(KEYS[stage], CHECK)
    (latest,) = edge.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    return asyncio.run(latest.targets_latest_materialization(LoadingContextForTest(edge.instance)))


def test_the_latest_evaluation_stays_shown_after_more_materializations(edge: Edge) -> None:
    write_broken(edge)
    edge.write(a="A letter.")
    edge.scan()
    assert is_shown(edge, "extract")
    edge.run_job("drain")
    assert is_shown(edge, "classify")
    edge.write(b="Another letter.")
    edge.scan()
    assert is_shown(edge, "extract")


def test_the_check_lists_the_documents_that_need_a_person_until_none_does(edge: Edge) -> None:
    write_broken(edge)
    edge.write(a="A letter.")
    edge.scan()
    (failed,) = checks(edge, "extract")
    assert (failed.passed, failed.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert failed.description == "1 document needs you in the stage extract."
    table = failed.metadata["documents"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [row.data["document"] for row in table.records] == ["broken.pdf"]
    (passed,) = checks(edge, "classify")
    assert (passed.passed, passed.description) == (True, "No document needs you in the stage classify.")
    edge.scan()
    assert len(checks(edge, "extract")) == 1  # nothing changed
    assert edge.settings.library is not None
    (edge.settings.library / "broken.pdf").unlink()
    edge.scan()
    ended, began = checks(edge, "extract")
    assert (ended.passed, began.passed) == (True, False)
    assert (ended.metadata, began.metadata["count"].value) == (
        {"count": dg.MetadataValue.int(0)},
        1,
    )  # Dagster plots it


def test_the_check_of_a_held_stage_names_the_slot_the_fault_and_the_next_step(edge: Edge) -> None:
    edge.write(a="A letter.")
    edge.scan()
    edge.ledger.run(slots.register, edge.settings.slots.of_drains[0])
    hold_stage(edge.ledger, "classify", "no_json")
    edge.scan()
    newest = checks(edge, "classify")[0]
    assert (newest.passed, newest.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert str(newest.description).startswith(
        "deep holds the stage classify: 1 document in a row ended in no_json, since "
    )
    assert str(newest.description).endswith("dagster-offload slot set deep --try-again.")
    evaluated = len(checks(edge, "classify"))
    edge.scan()
    assert len(checks(edge, "classify")) == evaluated
    edge.ledger.run(slots.try_again, "deep", "requested by command")
    edge.scan()
    assert checks(edge, "classify")[0].passed
    assert checks(edge, "summarize")[0].passed


def test_a_run_of_a_person_has_a_result_of_each_selected_check_also_if_it_fails(edge: Edge) -> None:
    write_broken(edge)
    edge.scan()
    result = edge.materialize("broken.pdf", stages=["extract"])
    assert not result.success
    key = dg.AssetCheckKey(KEYS["extract"], CHECK)
    (latest,) = edge.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert (latest.run_id, latest.status.value) == (result.run_id, "FAILED")  # not PLANNED, which is shown as skipped
    assert warnings_of(edge, result.run_id)[0].startswith("broken.pdf: extract failed")


def test_a_run_that_waits_evaluates_each_check_at_its_start_and_after_a_change(edge: Edge) -> None:
    edge.write(a="Invoice for 3 chairs. Total 300 EUR.")
    edge.scan()
    edge.router.set(mode="cold")
    run_id = str(uuid.uuid4())
    is_waiting, waits = edge.listen_for("STEP_UP_FOR_RETRY", run_id), ThreadPoolExecutor(1)
    with waits:
        run = waits.submit(edge.materialize, "a.txt", stages=["classify"], run_id=run_id)
        assert is_waiting.wait(PATIENCE_SECONDS)
        evaluated = dg.DagsterEventType.ASSET_CHECK_EVALUATION
        assert len(edge.instance.get_records_for_run(run_id, of_type=evaluated).records) == 1
        edge.router.set(mode="awake")
        edge.ledger.run(slots.try_again, "deep", "the test woke it")
        assert run.result().success
    assert len(edge.instance.get_records_for_run(run_id, of_type=evaluated).records) == 2
    assert is_shown(edge, "classify")


@pytest.mark.rule("drain-11")
def test_a_drain_without_a_usable_answer_says_so_first(edge: Edge) -> None:
    edge.write(a="A letter.")
    edge.scan()
    edge.router.set(mode="cold")
    result = edge.run_job("drain")
    assert result.success
    assert warnings_of(edge, result.run_id)[0].startswith("No document got a usable answer: 0 done, ")
    shown = metadata(result, "drain_backlog")
    assert next(iter(shown)) == "outcome"
    assert str(shown["outcome"].value).startswith("No document got a usable answer")


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ({"done": 2, "failed": 1}, "Documents: 2 done, 1 failed, 0 deferred, 0 left."),
        ({"failed": 3}, "No document got a usable answer: 0 done, 3 failed, 0 deferred, 0 left."),
        ({"deferred": 1, "left": 2}, "No document got a usable answer: 0 done, 0 failed, 1 deferred, 2 left."),
        (
            {"left": 8, "answered_in_part": 8},
            "Documents: 0 done, 8 answered in part, 0 failed, 0 deferred, 8 left.",
        ),
        ({}, "No document was due."),
    ],
)
def test_the_outcome_of_a_drain_in_one_sentence(counts: dict[str, int], outcome: str) -> None:
    none: dict[str, Any] = {"done": 0, "failed": 0, "deferred": 0, "left": 0, "held_elsewhere": 0}
    assert outcome_of(DrainSummary(**(none | counts))) == outcome


def test_twenty_failures_are_named_in_the_log_and_the_rest_counted(caplog: pytest.LogCaptureFixture) -> None:
    found = [Problem(f"{n}.pdf", "extract", State.FAILED, "broken_file: no pages", 1) for n in range(25)]
    shown = name_problems(logging.getLogger("run"), found)
    assert len(caplog.messages) == 21
    assert caplog.messages[-1] == "5 more need you: see the table in this step's metadata"
    table = shown[NAMES]
    assert isinstance(table, dg.TableMetadataValue)
    assert len(table.records) == 25
    assert name_problems(logging.getLogger("run"), []) == {}
