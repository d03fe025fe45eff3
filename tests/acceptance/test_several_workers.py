"""Several processes share one slot: three drains and a backfill. One drain is killed during a call."""

import os
import signal
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]
import pytest

from dagster_offload.simulator import Router
from dagster_offload.stages.graph import DRAIN_STAGES, EXTRACT
from tests.support.acceptance import Home, wait_for
from tests.support.ui import UI, RequestLog, answered, configure, home_for, start_up, write_letters

pytestmark = pytest.mark.timeout(300)

CONCURRENCY = 4
DOCUMENTS = [f"letter-{number:02}.txt" for number in range(30)]


@pytest.fixture
def home(router: Router) -> Iterator[Home]:
    router.set(width=2 * CONCURRENCY, latency=0.3)
    with home_for(router) as home:
        configure(home, router, deep_concurrency=CONCURRENCY)
        write_letters(home, *DOCUMENTS)
        yield home


def test_four_workers_stay_within_the_concurrency_and_do_each_document_once_after_one_is_killed(
    home: Home, router: Router
) -> None:
    ui, book = UI(home), RequestLog(home)
    start_up(home)
    ui.switch_sensor("drain_sensor", on=False)
    wait_for(lambda: book.count("done", EXTRACT) == len(DOCUMENTS), "the scan at start")

    router.set(mode="awake", hold=True)
    backfill = ui.backfill(DOCUMENTS[-5:])
    drains = [home.start("drain") for _ in range(3)]

    def live() -> list[str]:
        """The kinds of the live workers, except commands: a command is the worker around its drain and takes no work."""
        query = "select kind from workers where ended_at is null and kind <> 'command' order by kind"
        return [row["kind"] for row in book(query)]

    wait_for(lambda: live() == ["drain", "drain", "drain", "run"], "all four at work")
    router.set(hold=False)
    wait_for(lambda: sum(answered(router).values()) >= 8, "the work to flow")
    victim = drain_during_a_call(book)
    assert victim in {drain.pid for drain in drains}
    os.kill(victim, signal.SIGKILL)
    ui.switch_sensor("drain_sensor", on=True)  # its drain comes after the others and takes the work of the dead one

    survivors = [drain for drain in drains if drain.pid != victim]
    assert [drain.wait(timeout=90) for drain in survivors] == [0, 0]
    wait_for(lambda: book.count("done", *DRAIN_STAGES) == 2 * len(DOCUMENTS), "what the dead drain held", 90)
    wait_for(lambda: ui.backfill_status(backfill) != "REQUESTED", "the end of the backfill", 90)
    assert ui.backfill_status(backfill) == "COMPLETED_SUCCESS"

    assert router.log()["max_open"] <= CONCURRENCY
    times = answered(router)
    assert len(times) == 2 * len(DOCUMENTS)
    # At most the calls of one worker are repeated, including answers that were not yet in the ledger.
    assert sum(times.values()) <= len(times) + CONCURRENCY
    kinds = {
        row["kind"] for row in book("select kind from calls join workers using (worker_id) where item_id is not null")
    }
    assert {"drain", "run"} <= kinds
    print(f"max_open {router.log()['max_open']}, {sum(times.values())} answers for {len(times)} work items")


def drain_during_a_call(book: RequestLog) -> int:
    """The process id of a drain that holds claims."""
    pids: list[int] = []

    def check() -> bool:
        rows = book(
            "select w.pid from work_items i join workers w using (worker_id) "
            "where i.state = 'claimed' and w.kind = 'drain' group by w.pid order by count(*) desc"
        )
        pids[:] = [row["pid"] for row in rows if psutil.pid_exists(row["pid"])]
        return bool(pids)

    wait_for(check, "a drain during a call")
    return pids[0]
