"""What a person decides about a component: its errors name the run that does it, because no command reaches its ledger."""

import os
from collections.abc import Mapping

import dagster as dg
import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import slots
from tests.support.project import Project


def run(project: Project, job: str, step: str, **config: object) -> dg.ExecuteInProcessResult:
    """Run a job of the component `papers` with this configuration of its step."""
    return project.defs.resolve_job_def(f"papers_{job}").execute_in_process(
        instance=project.instance, run_config={"ops": {f"papers_{step}": {"config": config}}}, raise_on_error=False
    )


def scan(project: Project, **config: object) -> dg.ExecuteInProcessResult:
    return run(project, "scan", "scan_library", **config)


def summarize(project: Project, partition: str) -> dg.ExecuteInProcessResult:
    job = project.defs.resolve_implicit_global_asset_job_def()
    return job.get_subset(asset_selection={dg.AssetKey(["papers", "summary"])}).execute_in_process(
        instance=project.instance, partition_key=partition, raise_on_error=False
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What the UI shows of a failed run."""
    (event,) = result.get_step_failure_events()
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


def metadata(result: dg.ExecuteInProcessResult) -> Mapping[str, object]:
    (output,) = (event.step_output_data for event in result.filter_events(lambda event: event.is_successful_output))
    return {name: value.value for name, value in output.metadata.items()}


def test_documents_that_were_deleted_are_accepted_as_the_refusal_says(project: Project) -> None:
    project.add("papers", *(f"paper-{number}" for number in range(12)))
    assert scan(project).success
    for file in (project.folder_of("papers") / "library").iterdir():
        file.unlink()
    refused = failure(scan(project))
    assert refused.endswith("To accept this: launch its scan job with the configuration `accept_vanished: true`")
    assert metadata(scan(project, accept_vanished=True))["vanished"] == 12


def test_a_removed_slot_is_forgotten_as_the_refusal_says(project: Project) -> None:
    file = project.add("papers", "lease")
    assert scan(project).success
    file.write_text(file.read_text().replace("slots: {deep:", "slots: {primary:"))
    refused = failure(summarize(project, "lease.txt"))
    assert refused.startswith(
        f"the deep slot qwen-macbook ({project.router.url}) is no longer configured, so its work waits"
    )
    assert refused.endswith("launch its scan job with the configuration `forget_slot: deep`")
    assert scan(project, forget_slot="deep").success
    assert summarize(project, "lease.txt").success


def test_forgetting_a_slot_that_is_not_there_changes_nothing(project: Project) -> None:
    project.add("papers", "lease")
    assert scan(project, forget_slot="studio").success


def test_a_slot_that_is_still_configured_is_not_forgotten(project: Project) -> None:
    project.add("papers", "lease")
    assert scan(project).success
    with Ledger(os.environ["LEDGER"], "offload_papers") as ledger:
        ledger.run(slots.set_permits, "deep", 7)
        assert scan(project, forget_slot="deep").success
        deep = ledger.run(slots.get, "deep")
    assert deep is not None
    assert deep.permits == 7


def test_a_drain_tries_the_stages_that_a_slot_holds_if_a_person_wants_it(project: Project) -> None:
    project.add("papers", *(f"paper-{number}" for number in range(6)))
    assert scan(project).success
    project.router.set(answers="garbage")
    assert run(project, "drain", "drain_backlog").success
    project.router.set(answers="good")
    refused = metadata(run(project, "drain", "drain_backlog"))
    assert (refused["done"], refused["is_misconfigured"]) == (0, True)
    assert str(refused["reason"]).endswith("launch its drain job with the configuration `try_again: true`")
    assert metadata(run(project, "drain", "drain_backlog", try_again=True))["is_misconfigured"] is False


@pytest.mark.parametrize("is_alone", [False, True])
def test_a_drain_makes_a_trial_of_primary_due_if_a_person_wants_it(project: Project, is_alone: bool) -> None:
    file = project.add("papers", "lease")
    url = project.router.url
    beside = "slots: {primary:" if is_alone else f"slots: {{primary: {{url: {url}, model: small}}, deep:"
    file.write_text(file.read_text().replace("slots: {deep:", beside))
    assert scan(project).success
    with Ledger(os.environ["LEDGER"], "offload_papers") as ledger:
        with ledger.transaction() as cur:
            cur.execute("update slots set breaker = 'misconfigured', reason = 'wrong_key' where name = 'primary'")
        assert run(project, "drain", "drain_backlog", try_again=True).success
        primary = ledger.run(slots.get, "primary")
    assert primary is not None
    assert (primary.breaker, primary.is_retry_due) == ("open", True)
