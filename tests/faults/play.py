"""A library of small documents and a misbehaving server: runs drains and moves time forward."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster_offload.drain import DrainSummary, run_drain
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.slots import slots
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.graph import CLASSIFY
from tests.faults.raw_server import ALIAS, MARK, RawServer
from tests.support.ledger import Bench

FIRST = "a-first.txt"  # the oldest, so that it is sent first: a fault of one document must not block the rest
UNAVAILABLE, MISCONFIGURED, NOTHING_LEFT = 75, 78, 0  # exit codes of `drain`


class Play:
    """The first document is the marked one. `others` is the number of other documents; options are settings."""

    def __init__(
        self, server: RawServer, ledger: Ledger, home: Path, others: int, stage: str = CLASSIFY, **options: Any
    ) -> None:
        self.server, self.bench, self.stage = server, Bench(ledger), stage
        self._options: Mapping[str, Any] = {
            "home": home,
            "deep_url": server.url,
            "deep_model": ALIAS,
            "deep_connect_timeout": 60.0,
            "deep_read_timeout": 240.0,
            **options,
        }
        deep = self.settings().slots.deep
        assert deep is not None
        ledger.run(slots.register, deep)
        self.others = [f"other-{n}.txt" for n in range(others)]
        self.bench.extracted(FIRST, *self.others, texts={FIRST: f"This one is {MARK}, an invoice."})

    def settings(self, **changes: Any) -> Settings:
        return load_settings(**{**self._options, **changes})

    def drain(self, limit: int | None = None, **changes: Any) -> DrainSummary:
        return run_drain(self.settings(**changes), self.bench.ledger, self.stage, limit)

    def let_time_pass(self, seconds: float) -> None:
        """Move every time in the ledger into the past. Restarts a crashed server, as a supervisor would."""
        self.server.restart()
        with self.bench.ledger.transaction() as cur:
            for table, column in TIMES:
                moved = f"update {table} set {column} = {column} - make_interval(secs => %s) where {column} is not null"  # noqa: S608
                cur.execute(moved.encode(), [seconds])

    def tick(self, seconds: float) -> bool:
        """Let time pass, run the drain sensor, and run a drain if it launches one. Returns whether it did."""
        self.let_time_pass(seconds)
        if not decide_drain(self.settings(), self.bench.ledger).launch:
            return False
        run_drain(self.settings(), self.bench.ledger)
        return True

    def all_done(self, *keys: str) -> bool:
        """Whether every stage of these documents is done."""
        unfinished = (
            "select 1 from work_items join documents using (document_id) where key = any(%s) and state <> 'done'"
        )
        return self.bench.sql(unfinished, list(keys)) == []

    def all_done_in_stage(self, *keys: str) -> bool:
        states = self.states()
        return all(states[key] == State.DONE for key in keys)

    def states(self) -> dict[str, str]:
        rows = self.bench.sql(
            "select d.key, i.state from work_items i join documents d using (document_id) where i.stage = %s",
            self.stage,
        )
        return {row["key"]: row["state"] for row in rows}

    def sum_of(self, column: str) -> int:
        """The sum of a column over all work items."""
        (row,) = self.bench.sql(f"select coalesce(sum({column}), 0)::int as n from work_items")  # noqa: S608
        return int(row["n"])


TIMES = (
    ("cuts", "at"),
    ("calls", "ended_at"),
    ("slots", "retry_at"),
    ("slots", "opened_at"),
    ("slots", "reason_since"),
    ("work_items", "not_before"),
)


def exit_code(summary: DrainSummary) -> int:
    """The exit code of `dagster-offload drain` for this summary."""
    return MISCONFIGURED if summary.is_misconfigured else UNAVAILABLE if summary.is_slot_unavailable else NOTHING_LEFT
