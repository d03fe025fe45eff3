"""A pipeline with sinks: an engine whose pipeline file has `on_record`."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.work import corrections
from dagster_offload.ledger.work.corrections import NewValue
from dagster_offload.sinks.build import build
from dagster_offload.sinks.planning import register
from dagster_offload.sinks.sender import Sent, send_due
from dagster_offload.stages.catalog import recipes, stage_graph
from tests.support.engine import Engine
from tests.support.sink_servers import FakePaperless, Receiver, serving


class Sinks:
    """An engine, the sinks in its pipeline file, and one round of their senders."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._pipeline: dict[str, Any] = {}

    def use(self, **sinks: Any) -> None:
        """Write the pipeline file with these sinks, and register them, as a start of `up` does."""
        self._write(on_record=sinks)
        register(self.engine.settings(), self.engine.ledger)

    def use_stages(self, **own: Any) -> None:
        """Write the pipeline file with these own stages, and bring the ledger up to date, as a start of `up` does."""
        self._write(stages=own)
        migrate(self.engine.ledger, stage_graph(self.engine.settings()))

    def _write(self, **sections: Any) -> None:
        self._pipeline |= sections
        file = self.engine.library.parent / "offload.yaml"
        file.write_text(json.dumps({name: value for name, value in self._pipeline.items() if value}), encoding="utf-8")
        file.chmod(0o600)  # it may contain a token
        self.engine.options["config"] = file

    def send(self, name: str) -> Sent:
        """Send what is due at one sink."""
        settings = self.engine.settings()
        return send_due(settings, self.engine.ledger, name, build(settings, name))

    def end_waits(self) -> None:
        """Let every pause be over."""
        self.engine.sql("update sinks set not_before = clock_timestamp() where not_before is not null")
        self.engine.sql("update deliveries set not_before = clock_timestamp() where not_before is not null")

    def states(self) -> dict[str, str]:
        """The state of each document's newest delivery."""
        rows = self.engine.sql(
            "select d.key, n.state from deliveries n join documents d using (document_id) order by delivery_id"
        )
        return {row["key"]: row["state"] for row in rows}

    def retitle(self, document: str, title: str = "A new title") -> None:
        """Correct the title of a document, which makes a newer version of its record."""
        values = [NewValue("summarize", "title", title)]
        self.engine.ledger.run(corrections.correct, document, values, None, recipes(self.engine.settings()))

    def answered(self, *documents: str) -> None:
        """Add documents, and let every stage answer about them."""
        self.engine.texts(*documents)
        self.engine.drain()


@pytest.fixture
def sinks(engine: Engine) -> Sinks:
    return Sinks(engine)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def webhook(receiver: Receiver) -> Iterator[str]:
    with serving(receiver.answer) as address:
        yield f"{address}/private-path"


@pytest.fixture
def paperless() -> FakePaperless:
    return FakePaperless()


@pytest.fixture
def address(paperless: FakePaperless) -> Iterator[str]:
    with serving(paperless.answer) as address:
        yield address
