"""What the UI shows while the deep slot becomes unavailable and returns: one real `up`, one stand-in router.

The tests share both and run in order: a busy slot, a sleeping slot, lost settings, a power cut, a backfill at night, a stop. The
drain sensor is off before the night, so that it does not process the documents of launched runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dagster_offload.defs.execution.waiting_executor import STOPPED_WAITING
from dagster_offload.simulator import Router
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.acceptance import Home, wait_for
from tests.support.ledger_reader import LedgerReader
from tests.support.patience import PATIENCE_SECONDS
from tests.support.router import change_after
from tests.support.stages import DRAIN_STAGES
from tests.support.ui import UI, answered, configure, home_for, write_letters

BACKFILLED = [f"backfill-{number}.txt" for number in (1, 2, 3)]
SINGLE = [f"{name}.txt" for name in ("asleep", "busy", "cancelled", "cut-off", "next")]
LATER = ["later-1.txt", "later-2.txt"]
DOCUMENTS = [*BACKFILLED, *SINGLE, *(f"other-{n}.txt" for n in range(6))]
RETRY_AFTER_SECONDS = 3600  # longer than any test


@dataclass
class World:
    """Everything the tests use."""

    home: Home
    router: Router
    primary: Router
    ui: UI
    ledger: LedgerReader

    def configure(self, *, deep: bool = True, concurrency: int = 1) -> None:
        primary = {"primary_url": self.primary.url, "primary_model": "small"}
        configure(self.home, self.router if deep else None, deep_concurrency=concurrency, **primary)

    def wait_for_deep_slot_in_force(self) -> None:
        """Wait until `up` has taken over the settings with the deep slot. It refuses the runs of other recipes until then."""
        announced = (
            "select 1 from pipelines join workers using (worker_id) "
            "where ended_at is null and settings ->> 'slots.deep.model' <> ''"
        )
        wait_for(lambda: self.ledger(announced) != [], "the settings in force")

    def wake(self, **behaviour: object) -> None:
        """Wake the router and let the next worker try it."""
        self.router.set(mode="awake", retry_after=None, **behaviour)
        assert self.home.run("slot", "set", "deep", "--try-again").returncode == 0


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Router(mode="cold") as router, Router() as primary, home_for(router) as home:
        world = World(home, router, primary, UI(home), home.ledger)
        write_letters(home, *DOCUMENTS)
        world.configure()
        home.up()
        world.ui.switch_sensor("drain_sensor", on=False)
        wait_for(lambda: world.ledger.count("done", EXTRACT) == len(DOCUMENTS), "the texts")
        wait_for(lambda: set(world.ui.runs(pipelineName="scan").values()) == {"SUCCESS"}, "the end of the scan")
        yield world


@dataclass
class Launched:
    """Two runs launched at the same moment, and the ledger's rows before them."""

    of_typed_key: str
    at_busy_slot: str
    rows_before: tuple[object, ...]


@pytest.fixture(scope="module")
def launched(world: World) -> Launched:
    world.router.set(mode="busy", retry_after="5")  # its health is green, but every completion gets a 503
    before = rows_of_others(world)
    world.ui.add_partition("typed.pdf")  # as the dialog does
    assert world.home.run("scan").returncode == 0  # at the worst moment: no run names the partition yet
    return Launched(world.ui.materialize("typed.pdf"), world.ui.materialize("busy.txt", SUMMARIZE), before)


def rows_of_others(world: World) -> tuple[object, ...]:
    """The ledger's rows of every document except busy.txt."""
    others = "from documents d left join work_items i using (document_id) where d.key <> 'busy.txt' order by item_id"
    return tuple(map(str, world.ledger(f"select * {others}")))


def test_a_key_without_a_document_fails_the_run_and_does_not_change_the_ledger(
    world: World, launched: Launched
) -> None:
    assert world.ui.end_of(launched.of_typed_key) == "FAILURE"
    assert "no such document: typed.pdf" in world.ui.failure(launched.of_typed_key)
    assert rows_of_others(world) == launched.rows_before


def test_three_deferrals_in_a_row_fail_nothing_and_cost_no_attempt(world: World, launched: Launched) -> None:
    run = launched.at_busy_slot
    wait_for(lambda: len(world.ui.waits(run)) >= 3, "the third wait")
    assert world.ui.status(run) == "STARTED"
    assert set(world.ui.waits(run)) == {5.0}
    world.router.set(mode="awake", retry_after=None)
    assert world.ui.end_of(run) == "SUCCESS"
    shown = world.ui.materialization("busy.txt", SUMMARIZE)
    assert (shown["run"], shown["attempts"]) == (run, 0)
    assert shown["deferrals"] >= 1  # the first refusal counts; the later ones were refusals of a trial
    assert world.ledger.count("failed") == 0


def test_a_summary_requested_while_the_router_sleeps_waits_half_an_hour(world: World) -> None:
    world.router.set(mode="cold")
    run = world.ui.materialize("asleep.txt", SUMMARIZE)
    wait_for(lambda: world.ui.waits(run) != [], "up for retry")
    assert world.ui.waits(run) == [1800.0]
    assert world.ui.status(run) == "STARTED"
    item = world.ledger.items("asleep.txt")[SUMMARIZE]
    assert (item["state"], item["attempts"], item["deferrals"]) == ("deferred", 0, 1)


def test_a_waiting_run_can_be_cancelled(world: World) -> None:
    run = world.ui.materialize("cancelled.txt", SUMMARIZE)
    wait_for(lambda: world.ui.waits(run) != [], "up for retry")
    world.ui.cancel(run)
    assert world.ui.end_of(run) == "CANCELED"


def test_without_the_deep_slots_settings_no_entry_point_sends_its_work_to_primary(world: World) -> None:
    calls = len(world.router.completions())
    world.configure(deep=False)
    world.ui.switch_sensor("drain_sensor", on=True)
    run = world.ui.materialize("next.txt")
    drained = world.home.run("drain")

    assert drained.returncode == 2
    assert "OFFLOAD_DEEP_URL" in drained.stderr
    assert world.ui.end_of(run) == "FAILURE"
    refusal = "nothing is sent to `primary`"
    assert refusal in world.ui.failure(run)
    assert "dagster-offload slot forget deep" in world.ui.failure(run)
    wait_for(
        lambda: any(refusal in reason for reason in world.ui.skip_reasons("drain_sensor")), "the sensor's skip reason"
    )
    assert world.primary.completions() == []
    assert len(world.router.completions()) == calls
    assert {item["state"] for stage, item in world.ledger.items("next.txt").items() if stage != EXTRACT} == {"pending"}
    world.ui.switch_sensor("drain_sensor", on=False)
    world.configure()


def test_after_kill_9_of_everything_no_run_is_left_started_and_the_next_run_works(world: World) -> None:
    world.configure(concurrency=2)  # one permit is held by the killed worker until it is freed, within a minute
    world.wait_for_deep_slot_in_force()
    world.wake(hold=True)
    cut_off = world.ui.materialize("cut-off.txt")
    wait_for(lambda: world.router.log()["open"] >= 1, "an open call")
    left = world.ui.runs(statuses=["STARTED"])
    assert len(left) >= 2  # one in its first attempt, and one that was deferred before

    world.home.kill_processes()  # including Postgres
    world.router.set(hold=False)
    world.home.up()

    after = world.ui.runs(runIds=list(left))
    assert after[cut_off] == "FAILURE"
    assert {status for run_id, status in after.items() if run_id != cut_off} == {"CANCELED"}
    run = world.ui.materialize("next.txt")
    assert world.ui.end_of(run) == "SUCCESS"
    assert world.ledger.items("next.txt")[SUMMARIZE]["state"] == "done"


@dataclass
class Night:
    """The facts of a night in which the router falls asleep at the third document of a backfill."""

    backfill: str
    run: str
    status_while_asleep: str
    done_before: set[str]
    checks_before_the_first_request: int
    status_when_done: str


@pytest.fixture(scope="module")
def night(world: World) -> Night:
    world.configure(concurrency=1)
    world.wake()
    trials = len(world.ledger("select 1 from slots where name = 'deep' and breaker <> 'closed'"))
    change_after(
        world.router, after_answers=trials + 2 * len(DRAIN_STAGES), mode="cold", retry_after=str(RETRY_AFTER_SECONDS)
    )
    backfill = world.ui.backfill(BACKFILLED)
    wait_for(lambda: len(done(world)) == 2, "the first two documents")
    [run] = world.ui.runs(tags=[{"key": "dagster/backfill", "value": backfill}])
    wait_for(lambda: world.ui.waits(run) != [], "the backfill's run to wait")
    done_before, status_while_asleep = done(world), world.ui.backfill_status(backfill)

    world.ui.switch_sensor("drain_sensor", on=True)
    wait_for(
        lambda: any("probe reports upstream_cold" in reason for reason in world.ui.skip_reasons("drain_sensor")),
        "a check by the sensor",
    )
    before = world.router.log()
    world.router.set(mode="awake")
    world.router.wait(answers=before["answers"] + 2, timeout=PATIENCE_SECONDS)  # the trial, and a document
    since = world.router.log()["requests"][len(before["requests"]) :]
    first = next(
        n for n, entry in enumerate(since) if entry["path"] == "/v1/chat/completions" and entry["status"] == 200
    )
    checks = sum(entry["path"] == "/health" and entry["status"] == 200 for entry in since[:first])
    wait_for(lambda: world.ledger.count("done", SUMMARIZE) == len(DOCUMENTS), "the drain")
    status_when_done = world.ui.backfill_status(backfill)
    return Night(backfill, run, status_while_asleep, done_before, checks, status_when_done)


def done(world: World) -> set[str]:
    return {document for document in BACKFILLED if summarized(world, document)}


def summarized(world: World, document: str) -> bool:
    items = world.ledger.items(document)
    return all(stage in items and items[stage]["state"] == "done" for stage in (CLASSIFY, SUMMARIZE))


def test_a_router_that_wakes_gets_work_at_the_first_check(night: Night) -> None:
    assert 1 <= night.checks_before_the_first_request <= 2, "the second check is by the drain"


@pytest.mark.rule("drain-4")
def test_a_backfill_is_not_green_before_its_deferred_document_is_done(night: Night) -> None:
    assert night.done_before == set(BACKFILLED[:2])
    assert night.status_while_asleep == "REQUESTED"


def test_a_backfill_succeeds_when_the_slot_is_back_without_waiting_for_its_full_time(
    world: World, night: Night
) -> None:
    wait_for(lambda: world.ui.backfill_status(night.backfill) != "REQUESTED", "the end of the backfill")
    assert world.ui.backfill_status(night.backfill) == "COMPLETED_SUCCESS"
    assert world.ui.waits(night.run)[0] == float(RETRY_AFTER_SECONDS)
    # The run or a faster drain did the document. In both cases the materialization belongs to the run.
    assert world.ui.materialization(BACKFILLED[2], SUMMARIZE)["run"] == night.run


def test_every_document_was_answered_once_in_each_stage(world: World, night: Night) -> None:
    assert world.ledger.count("done", CLASSIFY, SUMMARIZE) == 2 * len(DOCUMENTS)
    times = answered(world.router)
    repeated = sum(times.values()) - len(times)
    assert len(times) == 2 * len(DOCUMENTS)
    assert repeated <= 1  # the call that was open at the kill


def test_stop_cancels_waiting_runs_with_a_reason_and_the_next_start_does_their_documents(
    world: World, night: Night
) -> None:
    ui, ledger = world.ui, world.ledger
    world.router.set(mode="cold", retry_after=None)
    write_letters(world.home, *LATER)
    assert world.home.run("scan").returncode == 0
    runs = [ui.materialize(document, SUMMARIZE) for document in LATER]
    wait_for(lambda: all(ui.waits(run) for run in runs), "each run to wait")

    stopped = world.home.run("stop")
    assert stopped.returncode == 0, stopped.stderr
    world.router.set(mode="awake")
    world.home.up()

    assert {ui.status(run) for run in runs} == {"CANCELED"}
    assert all(STOPPED_WAITING in ui.messages(run) for run in runs)
    wait_for(lambda: all(summarized(world, document) for document in LATER), "the drain")
    assert [ledger.items(document)[SUMMARIZE]["attempts"] for document in LATER] == [0, 0]
