"""Runs that wait for the slot, in a real `up`: `stop` cancels them with a reason, and the next start does their work."""

from dagster_offload.defs.execution.waiting_executor import STOPPED_WAITING
from dagster_offload.simulator import Router
from dagster_offload.stages.graph import EXTRACT, SUMMARIZE
from tests.support.acceptance import wait_for
from tests.support.ui import UI, configure, home_for, write_letters

DOCUMENTS = ["one.txt", "two.txt", "three.txt"]


def test_stop_cancels_waiting_runs_with_a_reason_and_the_next_start_does_their_documents() -> None:
    with Router(mode="cold") as router, home_for(router) as home:
        ui, ledger = UI(home), home.ledger
        write_letters(home, *DOCUMENTS)
        configure(home, router)
        home.up()
        wait_for(lambda: ledger.count("done", EXTRACT) == len(DOCUMENTS), "the texts")
        runs = [ui.materialize(document, SUMMARIZE) for document in DOCUMENTS]
        wait_for(lambda: all(ui.waits(run) for run in runs), "each run to wait")

        stopped = home.run("stop")
        assert stopped.returncode == 0, stopped.stderr
        router.set(mode="awake")
        home.up()

        assert {ui.status(run) for run in runs} == {"CANCELED"}
        assert all(STOPPED_WAITING in ui.messages(run) for run in runs)
        wait_for(lambda: ledger.count("done", SUMMARIZE) == len(DOCUMENTS), "the drain")
        assert ledger("select attempts from work_items where attempts > 0") == []
