"""The engine with a real stand-in router and a real ledger. Only waits are shortened, with SQL."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.drain import DrainSummary, run_drain
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.lanes.lanes import Lanes
from dagster_offload.engine.runs import RunSummary, run_documents
from dagster_offload.engine.scan import scan
from dagster_offload.engine.scan_report import ScanReport
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.core.rows import StageCounts
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.slots import slots
from dagster_offload.settings import Settings, load_settings
from dagster_offload.simulator.server import Router
from dagster_offload.slot.rest import Rest
from dagster_offload.stages.catalog import recipes, stage_graph
from dagster_offload.testing import ChangeTiming
from tests.support.ledger import Bench
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stages import DRAIN_STAGES

# So long that the rules before it are less than a tenth: servers treat prompts that share more than that as similar.
FILLER = "The tenant shall pay the rent on the first day of every month to the landlord. " * 100


class Engine(Bench):
    """A ledger, a library and a router, with settings for them."""

    def __init__(self, ledger: Ledger, router: Router, home: Path) -> None:
        super().__init__(ledger)
        self.router = router
        self.library = home / "library"
        self.library.mkdir()
        self.options: dict[str, Any] = {
            "home": home,
            "library": self.library,
            "deep_url": router.url,
            "deep_model": "qwen-macbook",
            "deep_connect_timeout": 60.0,
            "deep_read_timeout": 2 * PATIENCE_SECONDS,  # calls are held while a test waits
        }
        self.pool = ThreadPoolExecutor(6)

    def settings(self, **changes: Any) -> Settings:
        return load_settings(**(self.options | changes))

    def use_stages(self, **own: Any) -> None:
        """Write a pipeline file with these own stages, use it, and bring the ledger up to date, as a start does."""
        file = self.library.parent / "offload.yaml"
        file.write_text(json.dumps({"stages": own}), encoding="utf-8")  # JSON is YAML
        self.options["config"] = file
        migrate(self.ledger, stage_graph(self.settings()))

    def texts(self, *keys: str) -> None:
        """Add documents with extracted texts that contain their keys."""
        self.extracted(*keys, texts={key: f"{key}\n{FILLER}" for key in keys})

    def drain(self, stage: str = "all", limit: int | None = None, **changes: Any) -> DrainSummary:
        return run_drain(self.settings(**changes), self.ledger, stage, limit)

    def run(self, *keys: str, **changes: Any) -> RunSummary:
        return run_documents(self.settings(**changes), self.ledger, keys, DRAIN_STAGES)

    def beside(self, work: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        """Run `work` in another thread."""
        return self.pool.submit(work, *arguments, **options)

    def scan(self) -> ScanReport:
        """Scan the library and extract its texts."""
        report = scan(self.settings(), self.ledger)
        run_extraction(self.settings(), self.ledger)
        return report

    def counts(self, stage: str, **changes: Any) -> StageCounts:
        return self.ledger.run(status.stage_counts, recipes(self.settings(**changes)))[stage]

    def asked(self) -> list[tuple[str, str]]:
        """The document's fingerprint and the stage of every completion at the router, without trials."""
        return [(entry["document"], entry["stage"]) for entry in self.router.completions() if entry["document"]]

    def retry_now(self) -> None:
        """Make the next trial due."""
        self.sql("update slots set retry_at = clock_timestamp() where retry_at is not null")

    def wait_until(self, query: str) -> None:
        """Wait until the query returns a row, written by another transaction. Raises `TimeoutError`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.sql(query):
            if time.monotonic() >= deadline:
                raise TimeoutError(query)
            self.sql("select pg_sleep(0.02)")


@contextmanager
def an_engine(ledger: Ledger, router: Router, home: Path, **options: Any) -> Iterator[Engine]:
    """An engine with these further settings, whose slot is registered. At the end, calls that are held are answered."""
    engine = Engine(ledger, router, home)
    engine.options |= options
    deep = engine.settings().slots.deep
    assert deep is not None
    ledger.run(slots.register, deep)
    try:
        yield engine
    finally:
        router.set(hold=False)
        engine.pool.shutdown()


@pytest.fixture
def engine(ledger_url: str, router: Router, tmp_path: Path, change_timing: ChangeTiming) -> Iterator[Engine]:
    # `Engine.worker` holds no lock and sends no heartbeat: without these, it would be dead after 15 seconds.
    change_timing(stale_heartbeat=PATIENCE_SECONDS, lease=PATIENCE_SECONDS)
    with Ledger(ledger_url) as ledger, an_engine(ledger, router, tmp_path) as engine:
        yield engine


def attempts(engine: Engine) -> int:
    (row,) = engine.sql("select sum(attempts)::int as n from work_items")
    return int(row["n"])


def outcomes(engine: Engine) -> Counter[str]:
    """The outcomes of the calls for documents."""
    return Counter(row["outcome"] for row in engine.sql("select outcome from calls where item_id is not null"))


Superseded = Callable[..., None]


@pytest.fixture
def superseded(monkeypatch: pytest.MonkeyPatch) -> Superseded:
    """`superseded("deep")`: wait until the lanes of a drain at these slots have heard that another pipeline is in force."""
    heard: set[str] = set()
    changed = threading.Condition()
    notified = Lanes._notified

    def notify(lanes: Lanes, message: str) -> None:
        notified(lanes, message)
        if lanes.is_superseded:
            with changed:
                heard.add(lanes.slot.name)
                changed.notify_all()

    def wait_for(*slots: str) -> None:
        with changed:
            assert changed.wait_for(lambda: heard >= set(slots), PATIENCE_SECONDS), heard

    monkeypatch.setattr(Lanes, "_notified", notify)
    return wait_for


DrainsHeard = Callable[..., None]
REST = "the slot rests"
ALL_SO_FAR = "the test has sent this after all others"


@pytest.fixture
def drains_heard(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> DrainsHeard:
    """Wait until a drain of this process has handled what a test must not answer a call before, or another call follows.

    `drains_heard()`: every notification that was sent so far. `drains_heard("breaker:")`: one that begins so.
    `drains_heard(REST)`: it has read that its slot rests.
    """
    heard: list[str] = []
    changed = threading.Condition()
    notified, read_rest = Lanes._notified, Lanes.read_rest

    def note(lanes: Lanes, what: str) -> None:
        if not lanes._runner.worker.is_person:
            with changed:
                heard.append(what)
                changed.notify_all()

    def notify(lanes: Lanes, message: str) -> None:
        if message != ALL_SO_FAR:
            notified(lanes, message)
        note(lanes, message)

    async def read(lanes: Lanes) -> Rest | None:
        rest = await read_rest(lanes)
        if rest is not None:
            note(lanes, REST)
        return rest

    def wait_for(beginning: str = ALL_SO_FAR) -> None:
        if beginning == ALL_SO_FAR:
            engine.sql("select pg_notify(%s, %s)", engine.ledger.channel, ALL_SO_FAR)
        with changed:
            is_heard = changed.wait_for(lambda: any(what.startswith(beginning) for what in heard), PATIENCE_SECONDS)
            assert is_heard, (beginning, heard)

    monkeypatch.setattr(Lanes, "_notified", notify)
    monkeypatch.setattr(Lanes, "read_rest", read)
    return wait_for
