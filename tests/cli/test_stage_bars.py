"""The bars of `scan` and `drain`: what they count, and that they outlast an outage of Postgres."""

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from dagster_offload.cli import stage_bars
from dagster_offload.cli.stage_bars import StageBars
from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.acceptance import wait_for
from tests.support.engine import Engine


@pytest.fixture
def progress() -> Progress:
    return Progress(console=Console(file=io.StringIO(), force_terminal=True))


def test_a_bar_counts_what_its_stage_has_done(engine: Engine, progress: Progress) -> None:
    engine.texts("a.txt", "b.txt")
    engine.drain("classify")
    bars = StageBars(engine.settings(), engine.ledger, [CLASSIFY, SUMMARIZE], progress)
    bars.update()
    assert [(bar.description, bar.completed, bar.total) for bar in progress.tasks] == [
        (CLASSIFY, 2, 2),
        (SUMMARIZE, 0, 2),
    ]


class Away:
    """A ledger whose Postgres is unavailable at the first call."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.was_called = ledger, False

    def run(self, step: Callable[..., Any], *args: Any) -> Any:
        if not self.was_called:
            self.was_called = True
            raise LedgerUnavailable("Postgres stays unavailable")
        return self.ledger.run(step, *args)


def test_the_bars_go_on_after_an_outage_of_postgres(
    engine: Engine, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_bars, "CHECK_EVERY_SECONDS", 0.0)
    engine.texts("a.txt")
    ledger: Any = Away(engine.ledger)
    bars, is_over = StageBars(engine.settings(), ledger, [CLASSIFY], progress), threading.Event()
    thread = threading.Thread(target=bars.update_until, args=(is_over,), daemon=True)
    thread.start()
    wait_for(lambda: not thread.is_alive() or progress.tasks[0].total == 1, "an update after the outage")
    assert thread.is_alive()
    is_over.set()
    thread.join()
