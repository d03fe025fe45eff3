"""Runs that wait for the slot in a real `up`: a stop cancels them with a message, and the next start does their work."""

import pytest

from dagster_offload.defs.waiting_executor import STOPPED_WAITING
from dagster_offload.simulator import Router
from dagster_offload.stages.graph import EXTRACT, SUMMARIZE
from tests.support.acceptance import wait_for
from tests.support.ui import UI, RequestLog, configure, home_for, start_up, write_letters

pytestmark = pytest.mark.timeout(400)

DOCUMENTS = ["one.txt", "two.txt", "three.txt"]


def test_stop_cancels_waiting_runs_with_a_message_and_the_next_start_does_their_documents() -> None:
    with Router(mode="cold") as router, home_for(router) as home:
        ui, book = UI(home), RequestLog(home)
        write_letters(home, *DOCUMENTS)
        configure(home, router)
        start_up(home)
        wait_for(lambda: book.count("done", EXTRACT) == len(DOCUMENTS), "the texts")
        runs = [ui.materialize(document, SUMMARIZE) for document in DOCUMENTS]
        wait_for(lambda: all(ui.waits(run) for run in runs), "the wait of each run")

        stopped = home.run("stop")
        assert stopped.returncode == 0, stopped.stderr
        router.set(mode="awake")
        start_up(home)

        assert {ui.status(run) for run in runs} == {"CANCELED"}
        assert all(STOPPED_WAITING in ui.messages(run) for run in runs)
        wait_for(lambda: book.count("done", SUMMARIZE) == len(DOCUMENTS), "the drain")
        assert book("select attempts from work_items where attempts > 0") == []
