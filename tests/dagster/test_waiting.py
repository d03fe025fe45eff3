"""StageDeferred -> RetryRequested: how long a run waits and how often, and which faults fail it."""

import traceback
from dataclasses import replace

import dagster as dg
import pytest

from dagster_offload.defs.assets import raise_for
from dagster_offload.defs.execution.waiting import deferrals_as_waits, retry_after, retry_requested
from dagster_offload.engine.runs import RunSummary
from dagster_offload.errors import StageDeferred
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.work.left import Unfinished

FAILED = Unfinished("a.txt", "classify", State.FAILED, "unknown_class: the answer's category is none of: x", 3, None)


@pytest.mark.rule("slot-5")
def test_a_deferral_waits_half_an_hour_and_deferrals_never_fail_a_step() -> None:
    retry = retry_requested(StageDeferred("deep_unavailable:upstream_cold"), retry_number=0)
    assert (retry.max_retries, retry.seconds_to_wait) == (10_000, 30 * 60)


@pytest.mark.rule("slot-5")
@pytest.mark.parametrize("wait", [StageDeferred("deep_unavailable:busy", 12 / 60), retry_after(30)])
def test_after_ten_thousand_waits_a_step_still_waits(wait: Exception) -> None:
    """Dagster fails a step whose number of retries has reached the limit."""
    with pytest.raises(dg.RetryRequested) as waiting, deferrals_as_waits(retry_number=10_000):
        raise wait
    assert waiting.value.max_retries == 10_001


def test_a_deferral_waits_for_the_time_the_slot_named() -> None:
    assert retry_requested(StageDeferred("deep_unavailable:busy", 12 / 60), retry_number=3).seconds_to_wait == 12


@pytest.mark.parametrize(("retry_number", "seconds"), [(8, 12), (9, 1800), (10, 1800), (500, 1800)])
def test_from_the_tenth_on_each_wait_is_at_least_half_an_hour(retry_number: int, seconds: float) -> None:
    assert retry_requested(StageDeferred("deep_unavailable:busy", 12 / 60), retry_number).seconds_to_wait == seconds


def test_a_longer_wait_is_not_shortened_after_the_tenth() -> None:
    assert retry_requested(StageDeferred("x", retry_after_minutes=360), retry_number=9).seconds_to_wait == 6 * 3600


def test_a_deferral_inside_a_step_becomes_a_wait() -> None:
    with pytest.raises(dg.RetryRequested) as waiting, deferrals_as_waits(retry_number=0):
        raise StageDeferred("deep_unavailable:ConnectError")
    assert waiting.value.seconds_to_wait == 1800
    shown = "".join(traceback.format_exception(waiting.value))
    assert "StageDeferred" not in shown, "Dagster would show it as the cause of a failure"


def test_a_run_ends_if_all_its_documents_are_done() -> None:
    raise_for(RunSummary(done=2), selected=2)


def test_a_run_that_waits_for_the_slot_defers() -> None:
    summary = RunSummary(done=1, wait_seconds=90.0, wait_reason="deep is unavailable: upstream_cold", is_deferral=True)
    with pytest.raises(StageDeferred, match="upstream_cold") as deferred:
        raise_for(summary, selected=2)
    assert deferred.value.retry_after_minutes == 1.5


def test_a_run_whose_documents_another_worker_holds_waits_no_longer_after_its_tenth_wait() -> None:
    summary = RunSummary(done=1, wait_seconds=30.0, wait_reason="another worker holds the rest")
    with pytest.raises(dg.RetryRequested) as waiting, deferrals_as_waits(retry_number=20):
        raise_for(summary, selected=2)
    assert (waiting.value.max_retries, waiting.value.seconds_to_wait) == (10_000, 30)


@pytest.mark.rule("drain-4")
def test_a_failed_document_fails_the_run_with_its_cause_and_the_next_step() -> None:
    with pytest.raises(dg.Failure) as failure:
        raise_for(RunSummary(done=1, failed=(FAILED,)), selected=3)
    assert failure.value.description == (
        "1 of 3 documents failed: a.txt: classify failed (unknown_class: the answer's category is none of: x). "
        "See what happened: with `up`, dagster-offload explain a.txt. To try again, materialize it with the run tag "
        "dagster_offload/redo: failed, or, with `up`, run dagster-offload retry a.txt"
    )
    assert not failure.value.allow_retries
    (row,) = failure.value.metadata["documents"].records  # type: ignore[attr-defined]
    assert str(row.data["next step"]).endswith("dagster-offload retry a.txt")


def test_the_command_of_the_next_step_is_quoted_for_a_shell() -> None:
    with pytest.raises(dg.Failure, match=r"dagster-offload retry 'Bob'\"'\"'s \$HOME\.txt'"):
        raise_for(RunSummary(done=0, failed=(replace(FAILED, document="Bob's $HOME.txt"),)), selected=1)


def test_an_unknown_key_fails_the_run_with_its_name() -> None:
    with pytest.raises(dg.Failure) as failure:
        raise_for(RunSummary(done=2), selected=3, missing=["invented.pdf"])
    assert failure.value.description == "no such document: invented.pdf"
