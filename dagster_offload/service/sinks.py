"""The senders of a running `up`. The pipeline in force says which there are."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dagster_offload.errors import LedgerUnavailable, SettingsError
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.settings import Settings
from dagster_offload.sinks.planning import register

if TYPE_CHECKING:
    from dagster_offload.sinks.resident import SinkThread

Say = Callable[[str], None]


class RunningSinks:
    """One thread per sink. `check` takes over edits of the pipeline file."""

    def __init__(self, ledger: Ledger, say: Say) -> None:
        self._ledger = ledger
        self._say = say
        self._threads: list[SinkThread] = []
        self._in_force: Settings | None = None

    def check(self, settings: Settings) -> None:
        """Start, stop or replace the senders if the settings changed. Call this often: it costs nothing otherwise."""
        if settings is self._in_force:
            return
        self.stop()
        try:
            register(settings, self._ledger)
        except LedgerUnavailable as error:  # the next check tries again
            self._say(f"The sinks cannot be started yet: {error}")
            return
        self._in_force = settings
        for name in settings.sinks:
            self._start(settings, name)

    def stop(self) -> None:
        """End the senders. A record in flight is sent again at the next start."""
        for thread in self._threads:
            thread.stop()
        self._threads.clear()

    def _start(self, settings: Settings, name: str) -> None:
        # Imported here because they load an HTTP client, which an `up` without sinks does not need.
        from dagster_offload.sinks.build import build
        from dagster_offload.sinks.resident import SinkThread

        try:
            sink = build(settings, name)
        except SettingsError as error:
            self._say(f"Nothing is sent to the sink {name}: {error}")
            return
        self._threads.append(SinkThread(settings, self._ledger, name, sink))
