"""Lines that another thread says, and a wait for one of them."""

import threading

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
