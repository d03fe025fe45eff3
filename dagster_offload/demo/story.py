"""The steps of the demo: documents are deferred, the router wakes, a drain runs, the records are shown."""

import time
from collections.abc import Callable, Iterator
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
from dagster_offload.records.reading import Query, stream
from dagster_offload.service.home import hold_up_lock
from dagster_offload.service.ports import listen_for_ui
from dagster_offload.service.processes import Services, running_services
from dagster_offload.service.supervisor import StopRequest, stop_on_signals
from dagster_offload.settings import Settings, read_settings
from dagster_offload.simulator import Router
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE

STEP_TIMEOUT_SECONDS = 150.0  # a step usually takes seconds
CHECK_EVERY_SECONDS = 0.5
REQUESTED_DOCUMENTS = 3


class Interrupted(OffloadError):  # noqa: N818 - a user request, not an error
    """The user stopped the demo before its last step."""


def play(home: Path, router: Router, console: Console, *, exits_when_done: bool) -> dict[str, Any] | None:
    """Run the demo. Returns its counts, or None if the user stopped it first. Raises `OffloadError`."""
    loaded, stop = read_settings(), StopRequest()
    console.print("Starting Postgres, Dagster and a stand-in router that is asleep (up to half a minute) ...")
    with (
        stop_on_signals(stop),
        hold_up_lock(home) as lock,
        listen_for_ui("127.0.0.1", None) as listener,
        running_services(loaded, "127.0.0.1", listener, lock, stop, console.print) as services,
        ThreadPoolExecutor(1) as thread,
    ):
        story = thread.submit(Story(loaded.settings, services, router, console, stop).run)
        while not stop and not story.done():
            services.check()
            stop.wait(0.2)
        try:
            summary = story.result()
        except Interrupted:
            return None
        if not exits_when_done:
            console.print(
                f"\nThe UI stays up at {services.address}. Press Ctrl-C to stop the demo and remove its files."
            )
            services.watch(stop)
        return summary


class Story:
    """The steps of one demo. They run in a thread while the main thread supervises the processes."""

    def __init__(
        self, settings: Settings, services: Services, router: Router, console: Console, stop: StopRequest
    ) -> None:
        self.settings = settings
        self.services = services
        self.router = router
        self.say = console.print
        self.stop = stop
        self.ui = UIClient(services.address)

    def run(self) -> dict[str, Any]:
        """Run all steps and return the final counts. Raises `Interrupted` when the user stops the demo."""
        self._head(1, f"The UI: {self.services.address}")
        self.say("   The scan extracts the text of the sample documents. This needs no model.")
        self._await(self._is_extracted, "the scan")
        documents = self._with_text()[:REQUESTED_DOCUMENTS]

        self._head(2, f"The router is asleep. The demo still requests {len(documents)} records in the UI:")
        runs = [self.ui.materialize(document) for document in documents]
        self._await(lambda: self._counts(SUMMARIZE, CLASSIFY, "deferred") > 0, "a deferral")
        self._await(lambda: all(self.ui.has_waited(run) for run in runs), "the runs to wait")
        self._show_waiting()

        self._head(3, "The laptop opens. Its router warms up, then is awake. From here everything is automatic:")
        self.router.set(mode="warming")
        self.stop.wait(3)
        self.router.set(mode="awake")
        self._await(lambda: self.services.ledger.run(totals).drains > 0, "the sensor")
        self.say("   The sensor noticed it, sent a one-token test request, and launched a drain.")
        self._await(self._is_done, "the drain")

        self._head(4, "The records:\n")
        self.say(self._records())
        self._await(lambda: all(self.ui.is_over(run) for run in runs), "the requested runs")
        summary = self._summary()
        self.say(
            f"\n   Deferred {times(summary['deferrals'])}, drained {times(summary['drains'])}, answered by "
            f"{', '.join(summary['served_models'])}. Nothing was lost. The only failure is a broken file."
        )
        return summary

    def _head(self, number: int, text: str) -> None:
        self.say(f"\n{number}  {text}", style="bold")

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + STEP_TIMEOUT_SECONDS
        while not condition():
            if self.stop.wait(CHECK_EVERY_SECONDS):
                raise Interrupted("stopped")
            if time.monotonic() > deadline:
                raise OffloadError(f"the demo waited {STEP_TIMEOUT_SECONDS:.0f} s for {what}, which did not happen")

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
        return [record["document"] for record in self._read_records() if record["outcome"] == "ok"]

    def _read_records(self) -> Iterator[dict[str, Any]]:
        return stream(self.settings, self.services.ledger, Query())

    def _show_waiting(self) -> None:
        stages = self._stages()
        deferred = sum(counts.deferred for counts in stages.values())
        waiting = sum(stages[stage].pending for stage in (CLASSIFY, SUMMARIZE))
        self.say(
            f"   {deferred} deferred, {waiting} not sent yet, 0 failed. The runs wait: in the UI, their steps are 'up for retry'."
        )

    def _records(self) -> Table:
        shown = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        shown.add_column("document", ratio=4, no_wrap=True, overflow="ellipsis")
        shown.add_column("class", no_wrap=True)
        shown.add_column("title and summary", ratio=8, no_wrap=True, overflow="ellipsis")
        shown.add_column("model", no_wrap=True)
        problems = {problem.document: problem for problem in self.services.ledger.run(status.problems)}
        for record in self._read_records():
            document, outcome = record["document"], record["outcome"]
            if (problem := problems.get(document)) is not None:
                shown.add_row(document, problem.state, problem.reason, "", style="red")
            elif outcome != "ok":
                shown.add_row(document, outcome, "", "", style="yellow")
            else:
                summary = " ".join(f"{record['title'] or ''}: {record['summary'] or ''}".split())
                shown.add_row(document, record["category"], summary, record["served_model"])
        return shown

    def _summary(self) -> dict[str, Any]:
        return {
            "stages": {stage: asdict(counts) for stage, counts in self._stages().items()},
            **asdict(self.services.ledger.run(totals)),
        }


def times(count: int) -> str:
    """A count as text: `once`, `3 times`."""
    return "once" if count == 1 else f"{count} times"
