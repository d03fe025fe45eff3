"""Job `drain` and its sensor: when the sensor launches a drain, and the skip reason when it does not."""

import os

import dagster as dg
import pytest

from dagster_offload.definitions import build_definitions
from dagster_offload.defs.execution.in_process import run_in_process
from dagster_offload.defs.names import RAN_ON_TAG, REPOSITORY_TAG
from dagster_offload.defs.runs import RanOn
from dagster_offload.errors import DrainRefused
from dagster_offload.host.machine import host_name
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.slots import slots
from dagster_offload.settings import DrainSlotSettings, Settings, SlotsSection
from tests.support.connections import counting_ledger_connections
from tests.support.edge import Edge


@pytest.fixture
def two(edge: Edge) -> Edge:
    """An edge with two scanned documents."""
    edge.write(a="Invoice for 3 chairs.", b="Dear landlord, it is cold.")
    edge.scan()
    return edge


def tick(edge: Edge) -> dg.RunRequest | str:
    return edge.tick("drain_sensor")


def with_settings(edge: Edge, settings: Settings) -> Edge:
    return Edge(settings, edge.ledger, edge.instance, edge.router, build_definitions(lambda: settings))


def test_the_sensor_launches_a_drain_if_the_slot_answers_and_documents_are_due(two: Edge) -> None:
    request = tick(two)
    assert isinstance(request, dg.RunRequest)
    assert RAN_ON_TAG in request.tags
    shown = {name: value for name, value in request.tags.items() if not name.startswith((".dagster/", "dagster/"))}
    assert shown == {"host": host_name(), "launched_by": "up", "why": "2 documents due, 0 deferred"}


def test_the_sensor_launches_nothing_without_a_deep_slot(two: Edge, settings: Settings) -> None:
    never_seen = settings.model_copy(update={"slots_section": SlotsSection()})
    with two.ledger.transaction() as cur:
        slots.forget(cur, "deep")
    assert "no deep slot is configured" in str(tick(with_settings(two, never_seen)))


def test_a_lost_slot_is_reported_with_the_next_step(two: Edge, settings: Settings) -> None:
    lost = settings.model_copy(update={"slots_section": SlotsSection()})
    assert "dagster-offload slot forget deep" in str(tick(with_settings(two, lost)))


def test_an_empty_backlog_is_reported_without_a_request_to_the_slot(edge: Edge) -> None:
    assert tick(edge) == "nothing is due: 0 documents due, 0 deferred"
    assert edge.router.log()["requests"] == []


def test_a_failed_probe_is_reported_with_the_backlog(two: Edge) -> None:
    two.router.set(mode="cold")
    reason = str(tick(two))
    assert "health probe" in reason
    assert "2 documents due, 0 deferred" in reason


def test_a_healthy_slot_that_refuses_calls_launches_no_run(two: Edge) -> None:
    two.router.set(mode="busy")
    assert two.run_job("drain").output_for_node("drain_backlog").reason
    two.router.set(health="green")
    reason = str(tick(two))
    assert "editor_busy" in reason
    assert two.instance.get_runs_count(dg.RunsFilter(job_name="drain")) == 1


@pytest.mark.rule("breaker-2")
def test_the_sensor_runs_the_trial_and_launches_a_drain_if_it_succeeds(two: Edge) -> None:
    two.router.set(mode="busy")
    two.run_job("drain")
    two.router.set(mode="awake")
    two.ledger.run(slots.try_again, "deep", "the test woke it")
    assert isinstance(tick(two), dg.RunRequest)


@pytest.mark.rule("drain-3")
def test_the_heartbeat_of_its_worker_shows_whether_a_drain_is_alive(two: Edge) -> None:
    with Worker(two.ledger, "drain", ("classify",)):
        assert "1 drain is running" in str(tick(two))
    assert isinstance(tick(two), dg.RunRequest)


@pytest.mark.parametrize(
    "status", [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]
)
def test_no_drain_is_launched_while_another_is_starting(two: Edge, status: dg.DagsterRunStatus) -> None:
    two.start_run(status)
    reason = str(tick(two))
    assert f"of drain is {status.value.lower()}" in reason
    assert "2 documents due, 0 deferred" in reason


def test_a_run_left_started_by_a_power_cut_does_not_stop_the_next_drain(two: Edge) -> None:
    two.make_run_older(two.start_run(dg.DagsterRunStatus.STARTED), minutes=1)
    assert isinstance(tick(two), dg.RunRequest)


@pytest.mark.parametrize("state", ["nothing due", "slot away", "breaker open"])
def test_a_tick_that_skips_opens_no_connection_and_not_the_instance(edge: Edge, state: str) -> None:
    if state != "nothing due":
        edge.write(a="Invoice for 3 chairs.")
        edge.scan()
        edge.router.set(mode="cold")
    if state == "breaker open":
        edge.run_job("drain")
    edge.tick_without_instance("drain_sensor")  # the first tick opens the ledger
    with counting_ledger_connections() as opened:
        skipped = edge.tick_without_instance("drain_sensor")
    assert ("nothing is due" in skipped) == (state == "nothing due")
    assert opened == []


def test_wrong_settings_are_reported_and_do_not_fail_the_tick(two: Edge, settings: Settings) -> None:
    wrong = settings.model_copy(update={"slots_section": SlotsSection(deep=DrainSlotSettings(url="http://x:1"))})
    assert "OFFLOAD_DEEP_MODEL" in str(tick(with_settings(two, wrong)))


def test_the_sensor_reports_events_that_no_run_reported(two: Edge) -> None:
    two.run_job("drain")
    with two.ledger.transaction() as cur:
        cur.execute("update outbox set told_at = null")
    tick(two)
    assert two.ledger.run(outbox.count_pending) == 0


def test_a_drain_records_each_document_under_its_run(two: Edge) -> None:
    result = two.run_job("drain")
    assert result.output_for_node("drain_backlog").done == 2
    for stage in ("classify", "summarize"):
        assert {(m.run_id, m.partition_key) for m in two.materializations(stage)} == {
            (result.run_id, "a.txt"),
            (result.run_id, "b.txt"),
        }


def test_a_drain_accepts_one_stage_and_a_limit(two: Edge) -> None:
    two.run_job("drain", stage="classify", limit=1)
    assert len(two.partitions_done("classify")) == 1
    assert two.partitions_done("summarize") == set()


def test_a_drain_ends_when_its_slot_becomes_unavailable_and_keeps_the_deferral(two: Edge) -> None:
    two.router.set(mode="cold")
    result = two.run_job("drain")
    assert result.success
    summary = result.output_for_node("drain_backlog")
    assert (summary.done, summary.failed, summary.is_slot_unavailable) == (0, 0, True)
    # The call for the second document was sent at the same moment, or not at all.
    assert summary.deferred in (1, 2)
    assert summary.left == 2 - summary.deferred
    assert "upstream_cold" in summary.reason


def test_a_drain_in_this_process_appears_in_the_ui_and_returns_its_summary(two: Edge) -> None:
    summary = run_in_process(two.defs, two.instance, "drain", stage="classify")
    assert summary.done == 2
    [run] = two.instance.get_runs(dg.RunsFilter(job_name="drain"))
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert (RanOn.of(run.tags) or RanOn("", "")).pid == os.getpid()
    assert run.tags[REPOSITORY_TAG] == "__repository__@dagster-offload"


def test_a_refused_drain_in_this_process_raises_the_refusal(two: Edge) -> None:
    with pytest.raises(DrainRefused, match="'extract' is not a drain stage"):
        run_in_process(two.defs, two.instance, "drain", stage="extract")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_drain_of_no_document_is_refused_and_not_reported_as_without_an_answer(two: Edge, limit: int) -> None:
    with pytest.raises(DrainRefused, match=f"the limit is {limit}: a drain takes at least one document"):
        run_in_process(two.defs, two.instance, "drain", limit=limit)
