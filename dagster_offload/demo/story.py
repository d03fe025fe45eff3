"""What the demo shows, in order: documents put off, the router waking, the drain, the records."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dagster_offload.demo.ui_client import UIClient
from dagster_offload.errors import OffloadError
from dagster_offload.ledger.core.rows import StageCounts
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.work.counts import totals
from dagster_offload.service.home import hold_up_lock
from dagster_offload.service.ports import choose_port
from dagster_offload.service.processes import Services, running_services
from dagster_offload.service.supervisor import StopRequest, stop_on_signals
from dagster_offload.settings import Settings, load_settings
from dagster_offload.simulator import Router
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE

PATIENCE_SECONDS = 150.0  # for one step of the story; each takes seconds
CHECK_EVERY_SECONDS = 0.5
CLICKED_DOCUMENTS = 3


class Interrupted(OffloadError):  # noqa: N818 - an end, not a fault
    """A stop was asked for before the story was over."""


def play(home: Path, router: Router, console: Console, *, ends_by_itself: bool) -> dict[str, Any] | None:
    """Run the demo. Returns its numbers, or None where a person stopped it first. Raises `OffloadError`."""
    settings, stop = load_settings(), StopRequest()
    port = choose_port("127.0.0.1", None)
    console.print(
        "Starting Postgres, Dagster and a stand-in router that is asleep (half a minute on a small machine) ..."
    )
    with (
        stop_on_signals(stop),
        hold_up_lock(home) as lock,
        running_services(settings, "127.0.0.1", port, lock, stop, console.print) as services,
        ThreadPoolExecutor(1) as thread,
    ):
        reporting = thread.submit(Story(settings, services, router, console, stop).tell)
        while not stop and not reporting.done():
            services.check()
            stop.wait(0.2)
        try:
            found = reporting.result()
        except Interrupted:
            return None
        if not ends_by_itself:
            console.print(f"\nStays up: {services.address} - Ctrl-C ends it and removes all it made.")
            services.watch(stop)
        return found


class Story:
    """One telling, in a thread of its own while the processes are looked after."""

    def __init__(
        self, settings: Settings, services: Services, router: Router, console: Console, stop: StopRequest
    ) -> None:
        self.settings = settings
        self.services = services
        self.router = router
        self.say = console.print
        self.stop = stop
        self.ui = UIClient(services.address)

    def tell(self) -> dict[str, Any]:
        self._head(1, f"The UI: {self.services.address}")
        self.say("   Text is taken from the sample documents; no model is needed for that.")
        self._await(self._is_extracted, "the scan")
        documents = self._with_text()[:CLICKED_DOCUMENTS]

        self._head(2, f"The router sleeps. All the same, somebody asks for {len(documents)} records in the UI:")
        runs = [self.ui.materialize(document) for document in documents]
        self._await(lambda: self._counts(SUMMARIZE, CLASSIFY, "deferred") > 0, "a deferral")
        self._await(lambda: all(self.ui.has_waited(run) for run in runs), "the runs' wait")
        self._say_what_waits()

        self._head(3, "The laptop opens: its router is warming up, then awake. Nobody clicks anything.")
        self.router.set(mode="warming")
        self.stop.wait(3)
        self.router.set(mode="awake")
        self._await(lambda: self.services.ledger.run(totals).drains > 0, "the sensor")
        self.say("   The sensor saw it, asked it for one token, and launched a drain.")
        self._await(self._is_done, "the drain")

        self._head(4, "The records:\n")
        self.say(self._records())
        self._await(lambda: all(self.ui.is_over(run) for run in runs), "the clicks' own runs")
        found = self._numbers()
        self.say(
            f"\n   Put off {times(found['deferrals'])}, drained {times(found['drains'])}, answered by "
            f"{', '.join(found['served_models'])}. Nothing was lost; what failed is a broken file."
        )
        return found

    def _head(self, number: int, words: str) -> None:
        self.say(f"\n{number}  {words}", style="bold")

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if self.stop.wait(CHECK_EVERY_SECONDS):
                raise Interrupted("stopped")
            if time.monotonic() > deadline:
                raise OffloadError(f"the demo waited {PATIENCE_SECONDS:.0f} s for {what} in vain")

    def _stages(self) -> dict[str, StageCounts]:
        return self.services.ledger.run(status.stage_counts, recipes(self.settings))

    def _counts(self, *stages_and_state: str) -> int:
        *stages, state = stages_and_state
        counts = self._stages()
        return sum(getattr(counts[stage], state) for stage in stages)

    def _is_extracted(self) -> bool:
        extract = self._stages()[EXTRACT]
        return extract.done > 0 and extract.pending + extract.claimed == 0

    def _is_done(self) -> bool:
        stages = self._stages()
        return all(
            counts.done > 0 and counts.pending + counts.claimed + counts.deferred == 0 for counts in stages.values()
        )

    def _with_text(self) -> list[str]:
        return [row.document for row in self.services.ledger.run(status.records) if row.outcome == "ok"]

    def _say_what_waits(self) -> None:
        stages = self._stages()
        put_off = sum(counts.deferred for counts in stages.values())
        waiting = sum(stages[stage].pending for stage in (CLASSIFY, SUMMARIZE))
        self.say(
            f"   {put_off} put off, {waiting} not even asked, 0 failed; the clicks wait in the UI as 'up for retry'."
        )

    def _records(self) -> Table:
        shown = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        shown.add_column("document", ratio=4, no_wrap=True, overflow="ellipsis")
        shown.add_column("class", no_wrap=True)
        shown.add_column("title and summary", ratio=8, no_wrap=True, overflow="ellipsis")
        shown.add_column("model", no_wrap=True)
        problems = {problem.document: problem for problem in self.services.ledger.run(status.problems)}
        for row in self.services.ledger.run(status.records):
            problem = problems.get(row.document)
            if problem is not None:
                shown.add_row(row.document, problem.state, problem.reason, "", style="red")
            elif row.outcome != "ok":
                shown.add_row(row.document, row.outcome, "", "", style="yellow")
            else:
                words = " ".join(f"{row.title or ''}: {row.summary or ''}".split())
                shown.add_row(row.document, row.category, words, row.served_model)
        return shown

    def _numbers(self) -> dict[str, Any]:
        return {
            "stages": {stage: asdict(counts) for stage, counts in self._stages().items()},
            **asdict(self.services.ledger.run(totals)),
        }


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
