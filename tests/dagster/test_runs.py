"""After a crash or a reboot, `sweep` ends the runs whose process has died, and no other run."""

import os
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest

from dagster_offload.defs.dead_runs import requeue, sweep
from dagster_offload.defs.events import EventReporter
from dagster_offload.defs.names import RAN_ON_TAG, REPOSITORY_TAG, RESULT_TAG, names_of
from dagster_offload.defs.runs import RanOn, run_tags, starting_run
from dagster_offload.host.machine import boot_id, host_name, process_start
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.work import waiting_runs
from dagster_offload.stages.graph import BUILT_IN
from tests.support.edge import Edge
from tests.support.stages import DRAIN_STAGES


@pytest.fixture
def other_process() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def run(edge: Edge, tags: dict[str, str], status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> str:
    return edge.start_run(status, tags)


def reporter(edge: Edge) -> EventReporter:
    return EventReporter(edge.instance, edge.ledger, names_of(BUILT_IN), edge.settings)


def status(edge: Edge, run_id: str) -> str:
    stored = edge.instance.get_run_by_id(run_id)
    assert stored is not None
    return stored.status.value


def test_a_run_from_before_the_reboot_fails_with_that_reason(edge: Edge) -> None:
    dead = run(edge, {RAN_ON_TAG: str(RanOn(host_name(), "the boot before", os.getpid(), "1"))})
    (line,) = sweep(reporter(edge))
    assert status(edge, dead) == "FAILURE"
    assert line == f"run {dead[:8]} (drain) was STARTED: this machine was restarted while it ran"


def test_a_run_whose_process_was_killed_fails(edge: Edge, other_process: "subprocess.Popen[bytes]") -> None:
    dead = run(edge, run_tags(other_process.pid))
    assert sweep(reporter(edge)) == []
    other_process.kill()
    other_process.wait()
    assert len(sweep(reporter(edge))) == 1
    assert status(edge, dead) == "FAILURE"


def test_beside_a_running_up_only_a_run_whose_process_is_known_to_be_gone_is_ended(
    edge: Edge, other_process: "subprocess.Popen[bytes]"
) -> None:
    killed = run(edge, run_tags(other_process.pid))
    executed_again = run(edge, run_tags(other_process.pid))  # it has the tags of its parent until its step begins
    in_a_container = run(edge, run_tags(other_process.pid))  # with the name of this host, but other process ids
    others = [
        in_a_container,
        run(edge, run_tags(os.getpid())),
        run(edge, run_tags()),  # a sensor has launched it
        run(edge, {RAN_ON_TAG: str(RanOn("another-host", "another boot", 1, "1"))}),
        run(edge, {}),
    ]
    for run_id in (killed, *others):
        edge.make_run_older(run_id, minutes=60)
    edge.ledger.run(waiting_runs.put, "began to wait", [], DRAIN_STAGES, "deep", "deep is unavailable")
    other_process.kill()
    other_process.wait()
    with Worker(edge.ledger, "drain", run_id=in_a_container):
        (line,) = sweep(reporter(edge), beside_up=True)
    assert line == f"run {killed[:8]} (drain) was STARTED: its process ended unexpectedly"
    assert [status(edge, run_id) for run_id in (*others, executed_again)] == ["STARTED"] * 6
    assert edge.ledger.run(waiting_runs.find, "began to wait") is not None


def test_a_later_process_with_the_same_id_is_not_mistaken_for_the_run(edge: Edge) -> None:
    dead = run(edge, {RAN_ON_TAG: str(RanOn(host_name(), boot_id(), os.getpid(), "1"))})
    sweep(reporter(edge))
    assert status(edge, dead) == "FAILURE"


def test_a_waiting_run_without_a_worker_is_not_ended(edge: Edge) -> None:
    waiting = run(edge, run_tags(os.getpid()))
    edge.make_run_older(waiting, minutes=60)
    assert sweep(reporter(edge)) == []
    assert status(edge, waiting) == "STARTED"


def test_every_unfinished_run_of_a_restored_copy_is_ended(edge: Edge) -> None:
    theirs = run(edge, {RAN_ON_TAG: str(RanOn("another-host", "another boot"))})
    ours = run(edge, run_tags(os.getpid()))
    sweep(reporter(edge), was_restored=True)
    assert [status(edge, ended) for ended in (theirs, ours)] == ["FAILURE", "FAILURE"]


def test_a_run_of_another_host_is_not_ended(edge: Edge) -> None:
    theirs = run(edge, {RAN_ON_TAG: str(RanOn("another-host", "another boot"))})
    edge.make_run_older(theirs, minutes=60)
    assert sweep(reporter(edge)) == []
    assert status(edge, theirs) == "STARTED"


def embedded(edge: Edge) -> EventReporter:
    """As in a home with an embedded Postgres, which serves one host only."""
    settings = edge.settings.model_copy(update={"postgres_url": None})
    return EventReporter(edge.instance, edge.ledger, names_of(BUILT_IN), settings)


@pytest.mark.parametrize(
    ("boot", "why"),
    [("another boot", "its host or its container is gone"), (boot_id(), "its process ended unexpectedly")],
    ids=["another machine", "a container of this machine"],
)
def test_a_run_of_the_container_before_is_ended_if_the_postgres_is_embedded(edge: Edge, boot: str, why: str) -> None:
    dead = run(edge, {RAN_ON_TAG: str(RanOn("0a1b2c3d4e5f", boot, os.getpid(), "1"))})
    (line,) = sweep(embedded(edge))
    assert line == f"run {dead[:8]} (drain) was STARTED: {why}"
    assert status(edge, dead) == "FAILURE"


def test_a_run_of_a_container_that_works_on_the_same_embedded_postgres_is_not_ended(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = run(edge, {RAN_ON_TAG: str(RanOn("0a1b2c3d4e5f", "another boot", os.getpid(), "1"))})
    with monkeypatch.context() as there:
        there.setattr("dagster_offload.ledger.core.workers.host_name", lambda: "0a1b2c3d4e5f")
        worker = Worker(edge.ledger, "drain")
        worker.__enter__()
    assert sweep(embedded(edge)) == []
    assert status(edge, alive) == "STARTED"
    worker.__exit__()
    assert len(sweep(embedded(edge))) == 1


def test_a_run_of_this_machine_under_an_earlier_name_is_not_ended(edge: Edge) -> None:
    pid = os.getpid()
    alive = run(edge, {RAN_ON_TAG: str(RanOn("the-name-in-another-network", boot_id(), pid, process_start(pid)))})
    assert sweep(embedded(edge)) == []
    assert status(edge, alive) == "STARTED"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (dg.DagsterRunStatus.STARTING, "FAILURE"),
        (dg.DagsterRunStatus.STARTED, "FAILURE"),
        (dg.DagsterRunStatus.CANCELING, "CANCELED"),
    ],
)
def test_a_run_that_never_reached_its_step_is_ended(edge: Edge, before: dg.DagsterRunStatus, after: str) -> None:
    stepless = run(edge, {}, before)
    edge.make_run_older(stepless, minutes=4)
    sweep(reporter(edge))
    assert status(edge, stepless) == after


def test_a_run_that_started_before_the_clock_was_set_back_is_ended_and_does_not_count_as_starting(edge: Edge) -> None:
    stepless = run(edge, run_tags(), dg.DagsterRunStatus.STARTING)
    assert starting_run(edge.sensor_context(), "drain") == f"run {stepless[:8]} of drain is starting"
    edge.make_run_older(stepless, minutes=-60)
    assert starting_run(edge.sensor_context(), "drain") is None
    sweep(reporter(edge))
    assert status(edge, stepless) == "FAILURE"


def test_a_run_of_a_host_whose_clock_is_a_little_ahead_counts_as_starting(edge: Edge) -> None:
    stepless = run(edge, run_tags(), dg.DagsterRunStatus.STARTING)
    with edge.ledger.transaction() as cur:
        cur.execute("update offload_dagster.runs set update_timestamp = update_timestamp + interval '30 seconds'")
    assert starting_run(edge.sensor_context(), "drain") is not None
    assert sweep(reporter(edge)) == []
    assert status(edge, stepless) == "STARTING"


def test_a_run_that_is_starting_is_not_ended(edge: Edge) -> None:
    starting = run(edge, {}, dg.DagsterRunStatus.STARTING)
    assert sweep(reporter(edge)) == []
    assert status(edge, starting) == "STARTING"


def test_a_sensors_run_that_died_before_its_step_is_ended(edge: Edge) -> None:
    stepless = run(edge, run_tags())  # sensors tag host and boot; there is no process yet
    edge.make_run_older(stepless, minutes=4)
    young = run(edge, run_tags())
    (line,) = sweep(reporter(edge))
    assert line == f"run {stepless[:8]} (drain) was STARTED: it never reached its first step"
    assert (status(edge, stepless), status(edge, young)) == ("FAILURE", "STARTED")


def test_a_run_that_the_up_before_was_starting_is_back_in_the_queue(edge: Edge) -> None:
    starting = run(edge, run_tags(), dg.DagsterRunStatus.STARTING)
    with_tags_of_its_parent = run(edge, run_tags(1), dg.DagsterRunStatus.STARTING)  # a re-execution
    began = run(edge, run_tags(os.getpid()))
    with Worker(edge.ledger, "up"):
        lines = requeue(reporter(edge))
    assert f"run {starting[:8]} (drain) was about to start: it is back in the queue" in lines
    assert len(lines) == 2
    assert sweep(reporter(edge)) == []
    assert [status(edge, of) for of in (starting, with_tags_of_its_parent, began)] == ["QUEUED", "QUEUED", "STARTED"]


def test_beside_another_up_a_run_that_is_starting_stays_as_it_is(edge: Edge) -> None:
    starting = run(edge, run_tags(), dg.DagsterRunStatus.STARTING)
    with Worker(edge.ledger, "up"), Worker(edge.ledger, "up"):
        assert requeue(reporter(edge)) == []
    assert status(edge, starting) == "STARTING"


def test_a_queued_run_is_not_ended(edge: Edge) -> None:
    queued = run(edge, {}, dg.DagsterRunStatus.QUEUED)
    edge.make_run_older(queued, minutes=600)
    assert sweep(reporter(edge)) == []
    assert status(edge, queued) == "QUEUED"


def test_a_run_older_than_the_boot_is_ended_only_if_no_other_host_works(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = run(edge, {}, dg.DagsterRunStatus.STARTED)
    monkeypatch.setattr("psutil.boot_time", lambda: 4e9)
    monkeypatch.setattr("dagster_offload.ledger.core.workers.host_name", lambda: "another-host")
    with Worker(edge.ledger, "drain"):
        assert sweep(reporter(edge)) == []
    assert len(sweep(reporter(edge))) == 1
    assert status(edge, early) == "FAILURE"


@pytest.fixture
def dead_waiting_run(edge: Edge) -> str:
    """A run whose process died while it waited for a.txt."""
    edge.write(a="Invoice for 3 chairs. Total 300 EUR.")
    edge.scan()
    dead = run(edge, {RAN_ON_TAG: str(RanOn(host_name(), "the boot before", 1, "1"))})
    edge.ledger.run(waiting_runs.put, dead, ["a.txt"], DRAIN_STAGES, "deep", "deep is unavailable: upstream_cold")
    return dead


def last_message(edge: Edge, run_id: str) -> str:
    return edge.instance.get_records_for_run(run_id, ascending=False, limit=1).records[0].event_log_entry.message


@pytest.mark.rule("drain-8")
def test_a_run_that_died_while_waiting_is_cancelled_with_a_message(edge: Edge, dead_waiting_run: str) -> None:
    (line,) = sweep(reporter(edge))
    assert status(edge, dead_waiting_run) == "CANCELED"
    assert (
        line == f"run {dead_waiting_run[:8]} (drain) was waiting and its documents are still due: reported as cancelled"
    )
    assert last_message(edge, dead_waiting_run) == (
        "this machine was restarted while it ran. The ledger keeps finished work; a drain or another run finishes the rest. "
        "It was waiting: deep is unavailable: upstream_cold."
    )
    assert edge.run_job("drain").output_for_node("drain_backlog").done == 1


def test_a_run_that_died_while_waiting_succeeds_if_its_documents_are_done(edge: Edge, dead_waiting_run: str) -> None:
    edge.run_job("drain")
    calls = len(edge.router.completions())
    (line,) = sweep(reporter(edge))
    assert status(edge, dead_waiting_run) == "SUCCESS"
    assert line.endswith("was waiting and its documents are done: reported as a success")
    for stage in DRAIN_STAGES:
        under_both = edge.materializations(stage, "a.txt")
        assert dead_waiting_run in {record.run_id for record in under_both}
        assert len({record.asset_materialization.tags[RESULT_TAG] for record in under_both}) == 1  # type: ignore[union-attr, index]
    assert len(edge.router.completions()) == calls


def test_a_live_waiting_run_keeps_its_row(edge: Edge) -> None:
    waiting = run(edge, run_tags(os.getpid()))
    edge.ledger.run(waiting_runs.put, waiting, [], DRAIN_STAGES, "deep", "deep is unavailable")
    with edge.ledger.transaction() as cur:
        cur.execute("update waiting_runs set since = since - interval '1 day'")
    assert sweep(reporter(edge)) == []
    assert edge.ledger.run(waiting_runs.find, waiting) is not None


def test_runs_of_another_code_location_are_not_taken_for_ours(edge: Edge) -> None:
    edge.start_run(dg.DagsterRunStatus.QUEUED, location="another")
    edge.instance.create_run_for_job(
        edge.defs.resolve_job_def("drain"),
        status=dg.DagsterRunStatus.STARTED,
        tags={REPOSITORY_TAG: "__repository__@another"},  # as of our commands
    )
    assert starting_run(edge.sensor_context(), "drain") is None
    own = edge.start_run(dg.DagsterRunStatus.QUEUED)
    assert starting_run(edge.sensor_context(), "drain") == f"run {own[:8]} of drain is queued"


def test_a_run_that_a_command_of_dagster_has_started_counts_as_ours(edge: Edge) -> None:
    """`dg launch --job scan` runs it in its own process: without a tag or an origin."""
    own = edge.instance.create_run_for_job(
        edge.defs.resolve_job_def("drain"), status=dg.DagsterRunStatus.STARTED
    ).run_id
    assert f"run {own[:8]} of drain is started" == starting_run(edge.sensor_context(), "drain")
