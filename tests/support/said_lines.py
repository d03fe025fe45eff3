"""The lines that `up` says, and a wait for one of them."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.service.event_lines import EventLines, printing
from tests.support.patience import PATIENCE_SECONDS


class Lines:
    """Lines, and an event for each awaited word."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, part: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(part in line for line in self.lines), PATIENCE_SECONDS), (
                self.lines
            )


@contextmanager
def saying(ledger: Ledger, channels: Sequence[str] = ()) -> Iterator[Lines]:
    """The lines that `up` says during the block, after its first look."""
    said = Lines()
    with Worker(ledger, "up") as up:
        event_lines = EventLines(ledger, up.id, said, channels=lambda: channels, look_every=0.0)
        up.on_notify(event_lines.notified)
        with printing(event_lines):
            deadline = time.monotonic() + PATIENCE_SECONDS
            while event_lines.left is None and time.monotonic() < deadline:
                time.sleep(0.01)
            yield said
