"""The senders of a running `up`: of records to sinks, and of notifications. The pipeline in force says which there are."""

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.sinks import notifications, sinks
from dagster_offload.service.say import Say
from dagster_offload.settings import Settings
from dagster_offload.sinks.planning import register

if TYPE_CHECKING:
    from dagster_offload.sinks.recipient import Recipient
    from dagster_offload.sinks.resident import Job, SenderThread

MessageT = TypeVar("MessageT")
WrittenT = TypeVar("WrittenT")


class RunningSenders:
    """One thread per sink and per channel. `check` takes over edits of the pipeline file."""

    def __init__(self, ledger: Ledger, say: Say) -> None:
        self._ledger = ledger
        self._say = say
        self._threads: list[SenderThread] = []
        self._in_force: Settings | None = None
        self._changing = threading.Lock()  # the threads, while one caller starts them and another one stops
        self._is_over = False

    def check(self, settings: Settings) -> None:
        """Start, stop or replace the senders if the settings changed. Call this often: it costs nothing otherwise.

        May wait for Postgres for a minute. Starts nothing after `stop`.
        """
        if settings is self._in_force:
            return
        with self._changing:
            self._end_threads()
        try:
            register(settings, self._ledger)
            self._ledger.run(notifications.register, list(settings.channels))
            self._ledger.run(_try_edited_now, self._in_force, settings)
        except LedgerUnavailable as error:  # the next check tries again
            self._say(f"The senders of records and notifications cannot be started yet: {error}")
            return
        with self._changing:
            if not self._is_over:
                self._start_all(settings)

    def stop(self) -> None:
        """End the senders for good. What is in flight is sent again at the next start. For any thread."""
        with self._changing:
            self._is_over = True
            self._end_threads()

    def _end_threads(self) -> None:
        if not self._threads:
            return
        from dagster_offload.sinks.resident import stop_all

        stop_all(self._threads)
        self._threads.clear()

    def _start_all(self, settings: Settings) -> None:
        self._in_force = settings
        for name in settings.sinks:
            self._start(self._sink_job(settings, name))
        for name in settings.channels:
            self._start(self._notify_job(settings, name))

    # Imports stand in the methods because senders load an HTTP client, which an `up` without them does not need.

    def _start(self, job: "Job") -> None:
        from dagster_offload.sinks.resident import SenderThread

        self._threads.append(SenderThread(self._ledger, job))

    def _sink_job(self, settings: Settings, name: str) -> "Job":
        from dagster_offload.sinks.build import build
        from dagster_offload.sinks.sender import SinkJob

        sink = self._built(partial(build, settings, name), f"Nothing is sent to the sink {name}")
        return SinkJob(settings, self._ledger, name, sink)

    def _notify_job(self, settings: Settings, name: str) -> "Job":
        from dagster_offload.notify.build import build
        from dagster_offload.notify.sender import NotifyJob

        channel = self._built(partial(build, settings, name), f"The channel {name} sends no notifications")
        return NotifyJob(settings, self._ledger, name, channel)

    def _built(
        self, build: Callable[[], "Recipient[MessageT, WrittenT]"], what_fails: str
    ) -> "Recipient[MessageT, WrittenT]":
        """The recipient, or a stand-in if it cannot be built yet. If not, says `what_fails`, and why."""
        from dagster_offload.sinks.recipient import built

        recipient, wrong = built(build)
        if wrong is not None:
            self._say(f"{what_fails}: {wrong}")
        return recipient


def _try_edited_now(cur: Cursor, before: Settings | None, settings: Settings) -> None:
    """End the waits of the sinks and channels that an edit changed, and of those that wait for a changed setting: it may have
    been changed while no `up` ran, or in a file that the settings name."""
    for name, sink in settings.sinks.items():
        if before is not None and sink != before.sinks.get(name):
            sinks.try_now(cur, name)
        else:
            sinks.end_wait_for_setting(cur, name)
    for name, channel in settings.channels.items():
        if before is not None and channel != before.channels.get(name):
            notifications.try_now(cur, name)
        else:
            notifications.end_wait_for_setting(cur, name)
