"""What a person sees in the UI while the deep slot becomes available and unavailable: one real `up`, one stand-in router.

The tests share both and build on one another: a busy slot, a sleeping one, lost settings, a power cut, and a night with a
backfill. The drain sensor is off until the night, so that it does not do the work of the runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dagster_offload.simulator import Router
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.acceptance import Home, wait_for
from tests.support.ui import UI, RequestLog, answered, configure, home_for, start_up, write_letters

pytestmark = pytest.mark.timeout(300)

BACKFILLED = [f"backfill-{number}.txt" for number in (1, 2, 3)]
SINGLE = [f"{name}.txt" for name in ("asleep", "busy", "cancelled", "cut-off", "next")]
DOCUMENTS = [*BACKFILLED, *SINGLE, *(f"other-{n}.txt" for n in range(6))]
RETRY_AFTER_SECONDS = 3600  # the wait the slot requests; no test takes that long


@dataclass
class World:
    """The home, the routers, the UI and the ledger that the tests share."""

    home: Home
    router: Router
    primary: Router
    ui: UI
    book: RequestLog

    def configure(self, *, deep: bool = True, concurrency: int = 1) -> None:
        primary = {"primary_url": self.primary.url, "primary_model": "small"}
        configure(self.home, self.router if deep else None, deep_concurrency=concurrency, **primary)

    def wake(self, **behaviour: object) -> None:
        """Make the router answer, and allow the next trial at once."""
        self.router.set(mode="awake", retry_after=None, **behaviour)
        assert self.home.run("slot", "set", "deep", "--try-again").returncode == 0


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Router(mode="cold") as router, Router() as primary, home_for(router) as home:
        world = World(home, router, primary, UI(home), RequestLog(home))
        write_letters(home, *DOCUMENTS)
        world.configure()
        start_up(home)
        world.ui.switch_sensor("drain_sensor", on=False)
        wait_for(lambda: world.book.count("done", EXTRACT) == len(DOCUMENTS), "the texts")
        # A scan that still runs would remove a partition that a test adds.
        wait_for(lambda: set(world.ui.runs(pipelineName="scan").values()) == {"SUCCESS"}, "the end of the scan")
        yield world


@dataclass
class EarlyRuns:
    """Two runs launched at the same moment, and the ledger's rows before them."""

    of_typed_key: str
    at_busy_slot: str
    rows_before: tuple[object, ...]


@pytest.fixture(scope="module")
def early_runs(world: World) -> EarlyRuns:
    world.router.set(mode="busy", retry_after="5")  # healthy, but every completion gets a 503
    before = rows_of_others(world)
    world.ui.add_partition("typed.pdf")  # as the UI's dialog does
    return EarlyRuns(world.ui.materialize("typed.pdf"), world.ui.materialize("busy.txt", SUMMARIZE), before)


def rows_of_others(world: World) -> tuple[object, ...]:
    """The ledger's rows of every document except busy.txt."""
    others = "from documents d left join work_items i using (document_id) where d.key <> 'busy.txt' order by item_id"
    return tuple(map(str, world.book(f"select * {others}")))


def test_an_unknown_key_fails_the_run_and_does_not_change_the_ledger(world: World, early_runs: EarlyRuns) -> None:
    assert world.ui.end_of(early_runs.of_typed_key) == "FAILURE"
    assert "no such document: typed.pdf" in world.ui.failure(early_runs.of_typed_key)
    assert rows_of_others(world) == early_runs.rows_before


def test_three_deferrals_in_a_row_fail_no_run_and_cost_no_attempt(world: World, early_runs: EarlyRuns) -> None:
    run = early_runs.at_busy_slot
    wait_for(lambda: len(world.ui.waits(run)) >= 3, "the third wait", 90)
    assert world.ui.status(run) == "STARTED"
    assert set(world.ui.waits(run)) == {5.0}
    world.router.set(mode="awake", retry_after=None)
    assert world.ui.end_of(run) == "SUCCESS"
    shown = world.ui.materialization("busy.txt", SUMMARIZE)
    assert (shown["run"], shown["attempts"]) == (run, 0)
    assert shown["deferrals"] >= 1  # the first refusal counts; later ones were refused trials
    assert world.book.count("failed") == 0


def test_a_run_launched_while_the_router_sleeps_waits_half_an_hour(world: World) -> None:
    world.router.set(mode="cold")
    run = world.ui.materialize("asleep.txt", SUMMARIZE)
    wait_for(lambda: world.ui.waits(run) != [], "up for retry")
    assert world.ui.waits(run) == [1800.0]
    assert world.ui.status(run) == "STARTED"
    item = world.book.items("asleep.txt")[SUMMARIZE]
    assert (item["state"], item["attempts"], item["deferrals"]) == ("deferred", 0, 1)


def test_a_waiting_run_can_be_cancelled(world: World) -> None:
    run = world.ui.materialize("cancelled.txt", SUMMARIZE)
    wait_for(lambda: world.ui.waits(run) != [], "up for retry")
    world.ui.cancel(run)
    assert world.ui.end_of(run) == "CANCELED"


def test_without_the_deep_slots_settings_no_process_sends_its_work_to_primary(world: World) -> None:
    calls = len(world.router.completions())
    world.configure(deep=False)
    world.ui.switch_sensor("drain_sensor", on=True)
    run = world.ui.materialize("next.txt")
    drained = world.home.run("drain")

    assert drained.returncode == 2
    assert "OFFLOAD_DEEP_URL" in drained.stderr
    assert world.ui.end_of(run) == "FAILURE"
    reason = "Nothing is sent to primary in its place"
    assert reason in world.ui.failure(run)
    assert "dagster-offload slot forget deep" in world.ui.failure(run)
    wait_for(
        lambda: any(reason in skipped for skipped in world.ui.skip_reasons("drain_sensor")), "the sensor's skip reason"
    )
    assert world.primary.completions() == []
    assert len(world.router.completions()) == calls
    assert {item["state"] for stage, item in world.book.items("next.txt").items() if stage != EXTRACT} == {"pending"}
    world.ui.switch_sensor("drain_sensor", on=False)
    world.configure()


def test_after_kill_9_of_all_processes_no_run_stays_started_and_the_next_run_works(world: World) -> None:
    world.configure(concurrency=2)  # the dead process holds one permit for up to a minute
    world.wake(hold=True)
    cut_off = world.ui.materialize("cut-off.txt")
    wait_for(lambda: world.router.log()["open"] >= 1, "an open call")
    left = world.ui.runs(statuses=["STARTED"])
    assert len(left) >= 2  # one in its first attempt, and one that was deferred before

    while processes := world.home.processes():  # Postgres too
        for process in processes:
            process.kill()
    world.router.set(hold=False)
    start_up(world.home)

    after = world.ui.runs(runIds=list(left))
    assert after[cut_off] == "FAILURE"
    assert {status for run_id, status in after.items() if run_id != cut_off} == {"CANCELED"}
    run = world.ui.materialize("next.txt")
    assert world.ui.end_of(run) == "SUCCESS"
    assert world.book.items("next.txt")[SUMMARIZE]["state"] == "done"


@dataclass
class Night:
    """Observations of a night in which the router becomes unavailable at the third document of a backfill."""

    backfill: str
    run: str
    while_it_slept: str
    done_before: set[str]
    probes_before_the_first_request: int
    when_all_was_done: str


@pytest.fixture(scope="module")
def night(world: World) -> Night:
    world.configure(concurrency=1)
    world.wake(latency=1.0)
    backfill = world.ui.backfill(BACKFILLED)
    wait_for(lambda: len(done(world)) == 2, "the first two documents")
    world.router.set(mode="cold", latency=0.0, retry_after=str(RETRY_AFTER_SECONDS))
    [run] = world.ui.runs(tags=[{"key": "dagster/backfill", "value": backfill}])
    wait_for(lambda: world.ui.waits(run) != [], "the wait of the backfill's run")
    done_before, while_it_slept = done(world), world.ui.backfill_status(backfill)

    world.ui.switch_sensor("drain_sensor", on=True)
    wait_for(
        lambda: any("probe says upstream_cold" in skipped for skipped in world.ui.skip_reasons("drain_sensor")),
        "a tick of the sensor",
    )
    before = world.router.log()
    world.router.set(mode="awake")
    world.router.wait(answers=before["answers"] + 2, timeout=120)  # of the trial, and of a document
    since = world.router.log()["requests"][len(before["requests"]) :]
    first = next(
        n for n, entry in enumerate(since) if entry["path"] == "/v1/chat/completions" and entry["status"] == 200
    )
    probes = sum(entry["path"] == "/health" and entry["status"] == 200 for entry in since[:first])
    wait_for(lambda: world.book.count("done", SUMMARIZE) == len(DOCUMENTS), "the drain")
    when_all_was_done = world.ui.backfill_status(backfill)
    return Night(backfill, run, while_it_slept, done_before, probes, when_all_was_done)


def done(world: World) -> set[str]:
    return {document for document in BACKFILLED if summarized(world, document)}


def summarized(world: World, document: str) -> bool:
    items = world.book.items(document)
    return all(stage in items and items[stage]["state"] == "done" for stage in (CLASSIFY, SUMMARIZE))


def test_a_router_that_wakes_gets_work_after_the_first_probe(night: Night) -> None:
    assert 1 <= night.probes_before_the_first_request <= 2, "a second probe comes from the drain"


@pytest.mark.rule("drain-4")
def test_a_backfill_does_not_succeed_before_its_deferred_document_is_done(night: Night) -> None:
    assert night.done_before == set(BACKFILLED[:2])
    assert night.while_it_slept == "REQUESTED"


def test_a_backfill_succeeds_when_the_slot_is_back_without_waiting_the_full_time(world: World, night: Night) -> None:
    wait_for(lambda: world.ui.backfill_status(night.backfill) != "REQUESTED", "the end of the backfill", 90)
    assert world.ui.backfill_status(night.backfill) == "COMPLETED_SUCCESS"
    assert world.ui.waits(night.run)[0] == float(RETRY_AFTER_SECONDS)
    # The event is recorded under the run, even if a drain processed the document first.
    assert world.ui.materialization(BACKFILLED[2], SUMMARIZE)["run"] == night.run


def test_every_document_was_answered_once_in_each_stage(world: World, night: Night) -> None:
    assert world.book.count("done", CLASSIFY, SUMMARIZE) == 2 * len(DOCUMENTS)
    times = answered(world.router)
    dead = sum(times.values()) - len(times)
    assert len(times) == 2 * len(DOCUMENTS)
    assert dead <= 1  # the call that was open at the kill
