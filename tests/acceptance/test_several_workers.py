"""Several processes at one slot: three drains and a backfill from the UI. One drain is killed during a call."""

import os
import signal
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]
import pytest

from dagster_offload.simulator import Router
from dagster_offload.stages.graph import EXTRACT
from tests.support.acceptance import Home, wait_for
from tests.support.ledger_reader import LedgerReader
from tests.support.patience import PATIENCE_SECONDS
from tests.support.router import change_after
from tests.support.stages import DRAIN_STAGES
from tests.support.ui import UI, answered, configure, home_for, write_letters

CONCURRENCY = 4
DOCUMENTS = [f"letter-{number:02}.txt" for number in range(30)]


@pytest.fixture
def home(router: Router) -> Iterator[Home]:
    router.set(concurrency=2 * CONCURRENCY, latency=0.3)
    with home_for(router) as home:
        configure(home, router, deep_concurrency=CONCURRENCY)
        write_letters(home, *DOCUMENTS)
        yield home


def test_four_workers_stay_within_the_concurrency_and_do_each_document_once_although_one_is_killed(
    home: Home, router: Router
) -> None:
    ui, ledger = UI(home), home.ledger
    home.up()
    ui.switch_sensor("drain_sensor", on=False)
    wait_for(lambda: ledger.count("done", EXTRACT) == len(DOCUMENTS), "the scan at start")

    router.set(mode="awake", hold=True)
    backfill = ui.backfill(DOCUMENTS[-5:])
    router.wait(open=1, timeout=PATIENCE_SECONDS)  # beside three drains, its run might come too late for any call
    drains = [home.start("drain") for _ in range(3)]

    def live() -> list[str]:
        """The kinds of the live workers that take work: `up`, and a command around its drain, do not."""
        query = "select kind from workers where ended_at is null and kind not in ('command', 'up') order by kind"
        return [row["kind"] for row in ledger(query)]

    wait_for(lambda: live() == ["drain", "drain", "drain", "run"], "all four at work")
    # By then the backfill has had its ten answers, and drains have the open calls. None can end before the victim is chosen.
    half = router.log()["answers"] + len(DOCUMENTS)
    change_after(router, after_answers=len(DOCUMENTS), hold=True)
    router.set(hold=False)
    router.wait(answers=half, timeout=PATIENCE_SECONDS)
    os.kill(drain_with_claimed_work(ledger), signal.SIGKILL)
    router.set(hold=False)
    ui.switch_sensor(
        "drain_sensor", on=True
    )  # its drain processes what the killed one held, when the others have ended

    assert sorted(drain.wait(timeout=PATIENCE_SECONDS) for drain in drains) == [-signal.SIGKILL, 0, 0]
    wait_for(lambda: ledger.count("done", *DRAIN_STAGES) == 2 * len(DOCUMENTS), "what the dead drain held")
    wait_for(lambda: ui.backfill_status(backfill) != "REQUESTED", "the end of the backfill")
    assert ui.backfill_status(backfill) == "COMPLETED_SUCCESS"

    assert router.log()["max_open"] <= CONCURRENCY
    times = answered(router)
    assert len(times) == 2 * len(DOCUMENTS)
    # Repeated: at most what one worker can have in progress, including answers not yet stored.
    assert sum(times.values()) <= len(times) + CONCURRENCY
    kinds = {
        row["kind"] for row in ledger("select kind from calls join workers using (worker_id) where item_id is not null")
    }
    assert {"drain", "run"} <= kinds
    print(f"max_open {router.log()['max_open']}, {sum(times.values())} answers for {len(times)} work items")


def drain_with_claimed_work(ledger: LedgerReader) -> int:
    """The process id of a drain that has work claimed now."""
    found: list[int] = []

    def has_found() -> bool:
        rows = ledger(
            "select w.pid from work_items i join workers w using (worker_id) "
            "where i.state = 'claimed' and w.kind = 'drain' group by w.pid order by count(*) desc"
        )
        found[:] = [row["pid"] for row in rows if psutil.pid_exists(row["pid"])]
        return bool(found)

    wait_for(has_found, "a drain with claimed work")
    return found[0]
