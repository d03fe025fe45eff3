"""Backfills as a person launches them in the UI: two ranges with a gap, all; cancelled half-way, terminated while it waits.

`test_through_the_ui.py` has one document and a range. The tests share one `up` and one stand-in router, and run in order.
The drain sensor is off, so the backfills do the work.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dagster_offload.simulator import Router
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.acceptance import Home, wait_for
from tests.support.browser import browser
from tests.support.patience import PATIENCE_SECONDS
from tests.support.router import change_after
from tests.support.ui import UI, answered, configure, home_for, write_letters

GAP = 50
LETTERS = [f"letter-{number:03}.txt" for number in range(GAP + 14)]
CONCURRENCY = 4


@dataclass
class World:
    """Everything the tests use."""

    home: Home
    router: Router
    ui: UI

    def run_of(self, backfill: str) -> str:
        """The one run of a backfill."""
        runs: list[str] = []

        def is_launched() -> bool:
            runs[:] = self.ui.runs(tags=[{"key": "dagster/backfill", "value": backfill}])
            return bool(runs)

        wait_for(is_launched, "the run of the backfill")
        [run] = runs
        return run

    def end_of(self, backfill: str) -> str:
        """Wait until a backfill is over; its last status."""
        over = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "CANCELED", "FAILED"}
        wait_for(lambda: self.ui.backfill_status(backfill) in over, "the end of the backfill")
        return self.ui.backfill_status(backfill)

    def done(self) -> set[str]:
        """The documents with a class and a summary."""
        rows = self.home.ledger(
            "select d.key from documents d join work_items i using (document_id) where i.stage = any(%s) "
            "and i.state = 'done' group by d.key having count(*) = 2",
            [CLASSIFY, SUMMARIZE],
        )
        return {row["key"] for row in rows}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Router() as router, home_for(router) as home:
        world = World(home, router, UI(home))
        write_letters(home, *LETTERS)
        configure(home, router, deep_concurrency=CONCURRENCY)
        router.set(mode="cold")  # so that no drain begins before the sensor is off
        home.up()
        world.ui.switch_sensor("drain_sensor", on=False)
        wait_for(lambda: home.ledger.count("done", EXTRACT) == len(LETTERS), "the texts")
        wait_for(lambda: set(world.ui.runs(pipelineName="scan").values()) == {"SUCCESS"}, "the end of the scan")
        wait_for(lambda: set(world.ui.runs(pipelineName="drain").values()) <= {"SUCCESS"}, "the end of any drain")
        yield world


def test_a_backfill_that_is_terminated_while_it_waits_fails_no_document(world: World) -> None:
    backfill = world.ui.backfill(LETTERS)
    run = world.run_of(backfill)
    wait_for(lambda: world.ui.waits(run) != [], "the run to wait")
    world.ui.cancel(run)
    assert world.ui.end_of(run) == "CANCELED"
    world.end_of(backfill)
    assert (world.home.ledger.count("failed"), world.home.ledger.count("claimed"), world.done()) == (0, 0, set())
    world.router.set(mode="awake")
    assert world.home.run("slot", "set", "deep", "--try-again").returncode == 0


def test_a_backfill_of_two_ranges_does_the_chosen_documents_and_no_other(world: World) -> None:
    documents = [*LETTERS[:3], *LETTERS[3 + GAP : 6 + GAP]]
    backfill = world.ui.backfill(documents)
    assert world.end_of(backfill) == "COMPLETED_SUCCESS"
    assert world.done() == set(documents)


def test_a_backfill_that_is_cancelled_half_way_keeps_what_is_done_and_fails_nothing(world: World) -> None:
    before = world.done()
    change_after(world.router, after_answers=12, hold=True)  # two for each document, and some documents are begun
    backfill = world.ui.backfill(LETTERS)
    run = world.run_of(backfill)
    world.router.wait(open=CONCURRENCY, timeout=PATIENCE_SECONDS)
    wait_for(lambda: len(world.done() - before) >= 3, "some documents")
    world.ui.cancel_backfill(backfill)
    assert world.end_of(backfill) == "CANCELED"
    assert world.ui.end_of(run) == "CANCELED"
    world.router.set(hold=False)
    done = world.done()
    assert 3 <= len(done - before) < len(LETTERS) - len(before)
    assert (world.home.ledger.count("failed"), world.home.ledger.count("quarantined")) == (0, 0)


def test_a_backfill_of_all_does_the_rest_and_asks_nothing_twice(world: World) -> None:
    backfill = world.ui.backfill(LETTERS)
    assert world.end_of(backfill) == "COMPLETED_SUCCESS"
    assert world.done() == set(LETTERS)
    times = answered(world.router)
    assert len(times) == 2 * len(LETTERS)
    # Calls that were open at the cancellation may have been answered, without anyone to take the answer.
    assert sum(times.values()) - len(times) <= CONCURRENCY


@pytest.mark.chromium
def test_the_pages_of_the_backfills_show_their_ends(world: World) -> None:
    with browser() as page:
        page.open(f"{world.home.address}/runs?view=backfills")
        page.wait_for_text("Canceled")
        page.open(f"{world.home.address}/assets/summary?view=partitions")
        page.wait_for_text(LETTERS[0])
