"""An engine with two slots for the same stages."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.slots import slots
from dagster_offload.simulator.server import Router
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.testing import ChangeTiming
from tests.support.engine import Engine
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import held_port

KEYS = [f"{n:02}.txt" for n in range(8)]
BOTH = ["deep", "studio"]
MODEL = "^simulated/"


@dataclass
class Several:
    """An engine with the slot `deep` and a further slot, `studio`."""

    engine: Engine
    studio: Router

    @property
    def deep(self) -> Router:
        return self.engine.router

    def stages(self, classify: Any = BOTH, summarize: Any = BOTH, deep_priority: int = 0, **studio: Any) -> None:
        """Write the pipeline file: which slots may answer which stage. `studio`: more settings of that slot."""
        further = {
            "url": self.studio.url,
            "model": "qwen-studio",
            "expected_model": MODEL,
            "read_timeout": 2 * PATIENCE_SECONDS,
        }
        sections = {
            "slots": {"deep": {"expected_model": MODEL, "priority": deep_priority}, "studio": further | studio},
            "stages": {CLASSIFY: {"slots": classify}, SUMMARIZE: {"slots": summarize}},
        }
        file = self.engine.library.parent / "offload.yaml"
        file.write_text(json.dumps(sections), encoding="utf-8")  # JSON is YAML
        self.engine.options["config"] = file

    def answers(self) -> dict[tuple[str, str], int]:
        """How many results each slot gave for each stage."""
        rows = self.engine.sql(
            "select slot, stage, count(*) as n from results where slot is not null and superseded_at is null "
            "group by 1, 2"
        )
        return {(row["slot"], row["stage"]): row["n"] for row in rows}

    def breaker(self, name: str) -> BreakerState:
        row = self.engine.ledger.run(slots.get, name)
        assert row is not None
        return row.breaker

    def asked_twice(self) -> list[tuple[str, str]]:
        """What was answered more than once, at any slot."""
        answered = [
            (entry["document"], entry["stage"])
            for router in (self.deep, self.studio)
            for entry in router.completions()
            if entry["document"] and entry["outcome"] == "answered"
        ]
        return [each for each in set(answered) if answered.count(each) > 1]


@pytest.fixture
def several(engine: Engine, change_timing: ChangeTiming) -> Iterator[Several]:
    change_timing(recheck=0.1)
    with ExitStack() as stack:
        studio = stack.enter_context(Router(stack.enter_context(held_port())))
        stack.callback(lambda: studio.set(hold=False))
        found = Several(engine, studio)
        found.stages()
        yield found
