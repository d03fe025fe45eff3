"""What `up` changes in Dagster's daemon and webserver. Fails if Dagster changes underneath."""

import gc
import logging
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dagster._daemon import controller
from dagster._daemon.backfill import execute_backfill_iteration_loop
from dagster._grpc import server_watcher
from dagster._grpc.client import DagsterGrpcClient

from dagster_offload.service import dagster_process
from dagster_offload.service.dagster_process import (
    BATCH_SIZE,
    LONGEST_PAUSE_SECONDS,
    SHORTEST_PAUSE_SECONDS,
    BackfillInterval,
    pause_seconds,
)


class OneAnswer(DagsterGrpcClient):
    """A client whose code server has one id."""

    def __init__(self) -> None:
        super().__init__(socket="/nowhere/code.sock")

    def get_server_id(self, timeout: int = 0) -> str:
        return "an id"


class FirstWait(threading.Event):
    """Ends the watch when it first waits, and keeps for how long it would have waited."""

    seconds: float | None = None

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds = timeout
        self.set()
        return True


def test_the_watch_of_the_code_server_waits_as_long_as_the_module_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watcher, "WATCH_INTERVAL", dagster_process.WATCH_SECONDS)
    stop = FirstWait()
    not_called: Any = pytest.fail
    server_watcher.watch_grpc_server_thread(
        "dagster-offload",
        OneAnswer(),
        stop,
        get_location_entry=lambda _: None,
        refresh_code_location=not_called,
        on_disconnect=not_called,
        on_reconnected=not_called,
        on_updated=not_called,
        on_error=not_called,
    )
    assert stop.seconds == dagster_process.WATCH_SECONDS


@pytest.mark.parametrize(("given", "in_force"), [(None, "200"), ("50", "50")])
def test_the_events_that_are_planned_for_a_run_are_stored_in_batches_of_a_size_that_a_person_can_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str | None, in_force: str
) -> None:
    name, _ = BATCH_SIZE
    seen: list[str | None] = []
    monkeypatch.setattr("dagster._daemon.cli.main", lambda: seen.append(os.environ.get(name)))
    monkeypatch.setattr(controller, "DEFAULT_DAEMON_INTERVAL_SECONDS", controller.DEFAULT_DAEMON_INTERVAL_SECONDS)
    monkeypatch.setattr(server_watcher, "WATCH_INTERVAL", server_watcher.WATCH_INTERVAL)
    monkeypatch.setattr(dagster_process, "_show_name", lambda _name: None)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setenv("DAGSTER_HOME", "/nowhere")
    monkeypatch.setenv(name, given or "")  # so that it is restored
    if given is None:
        del os.environ[name]
    (tmp_path / "code.sock").touch()
    monkeypatch.setattr("sys.argv", ["-c", "mark", str(tmp_path / "code.sock"), "/nowhere", "dagster-daemon", "run"])
    dagster_process.main()
    assert seen == [in_force]


def test_only_the_two_commands_that_up_runs_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["-c", "mark", "/nowhere/code.sock", "/nowhere", "dagster-graphql"])
    monkeypatch.setenv("DAGSTER_HOME", "/nowhere")
    with pytest.raises(SystemExit, match="dagster-graphql is not a command"):
        dagster_process.main()


def test_the_daemon_waits_between_two_looks_for_backfills_as_long_as_the_interval_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(controller, "DEFAULT_DAEMON_INTERVAL_SECONDS", BackfillInterval())
    looks: list[object] = []

    def none_found(filters: object) -> list[object]:
        looks.append(filters)
        return []

    context: Any = SimpleNamespace(instance=SimpleNamespace(get_backfills=none_found))
    stop = FirstWait()
    loop = execute_backfill_iteration_loop(context, logging.getLogger(__name__), stop)
    while not stop.is_set():
        next(loop)
    assert looks
    assert stop.seconds == SHORTEST_PAUSE_SECONDS


@pytest.mark.parametrize(
    ("used", "pause"), [(0.0, SHORTEST_PAUSE_SECONDS), (0.2, SHORTEST_PAUSE_SECONDS), (2.0, 20.0), (60.0, 30.0)]
)
def test_looks_for_backfills_use_at_most_a_tenth_of_a_core_and_dagsters_interval_is_the_longest(
    used: float, pause: float
) -> None:
    assert pause_seconds(used) == pause
    assert LONGEST_PAUSE_SECONDS == controller.DEFAULT_DAEMON_INTERVAL_SECONDS


def test_the_pause_after_a_look_counts_the_processor_time_since_the_look_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interval, used = BackfillInterval(), iter([100.0, 101.0, 101.1])
    monkeypatch.setattr("time.process_time", lambda: next(used))
    assert [interval - 0.0 for _ in range(3)] == [SHORTEST_PAUSE_SECONDS, 10.0, SHORTEST_PAUSE_SECONDS]
