"""A pipeline with channels of notifications: an engine whose pipeline file has `notify`."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dagster_offload.ledger.core import workers
from dagster_offload.ledger.sinks import notifications
from dagster_offload.notify.build import build
from dagster_offload.notify.sender import NotifyJob
from tests.support.engine import Engine
from tests.support.sink_servers import Receiver, serving


class Channels:
    """An engine, the channels in its pipeline file, and one round of their senders."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def use(self, **channels: Any) -> None:
        """Write the pipeline file with these channels, and register them, as a start of `up` does."""
        file = self.engine.library.parent / "offload.yaml"
        file.write_text(json.dumps({"notify": channels}), encoding="utf-8")
        file.chmod(0o600)  # it may contain a token
        self.engine.options["config"] = file
        self.engine.ledger.run(notifications.register, list(channels))

    def round(self, name: str) -> float | None:
        """Look at the ledger once and send what is due, with nothing kept in memory from earlier rounds."""
        settings = self.engine.settings()
        return NotifyJob(settings, self.engine.ledger, name, build(settings, name)).run(lambda: False)

    def stored(self, name: str) -> list[tuple[str, str]]:
        """The event and state of each message of a channel."""
        rows = self.engine.sql(
            "select event, state from notifications where channel = %s order by notification_id", name
        )
        return [(row["event"], row["state"]) for row in rows]

    def end_work(self) -> None:
        """End the workers that the helpers of this engine registered, as they do themselves: this wakes the senders."""
        self.engine.ledger.run(workers.deregister_all, "the work has ended")

    def fail(self, *documents: str) -> None:
        """Add documents that fail at once, as a drain would see it."""
        worker = self.engine.worker()
        self.engine.extracted(*documents)
        for key in documents:
            for _ in range(2):
                self.engine.fail(worker, self.engine.hold(worker, keys=[key]), is_final=True)
        self.end_work()

    def end_waits(self) -> None:
        """Let every pause be over."""
        self.engine.sql("update notifications set not_before = clock_timestamp() where not_before is not null")


@pytest.fixture
def channels(engine: Engine) -> Channels:
    return Channels(engine)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def hook(channels: Channels, receiver: Receiver) -> Iterator[str]:
    """The channel `hook`, a webhook."""
    with serving(receiver.answer) as address:
        channels.use(hook={"webhook": f"{address}/private-path", "secret": "s3cret"})
        yield address
