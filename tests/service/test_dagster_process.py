"""What `up` changes in Dagster's daemon and webserver. Fails if Dagster changes underneath."""

import threading
from typing import Any

import pytest
from dagster._grpc import server_watcher
from dagster._grpc.client import DagsterGrpcClient

from dagster_offload.service import dagster_process


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


def test_only_the_two_commands_that_up_runs_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["-c", "mark", "/nowhere/code.sock", "/nowhere", "dagster-graphql"])
    monkeypatch.setenv("DAGSTER_HOME", "/nowhere")
    with pytest.raises(SystemExit, match="dagster-graphql is not a command"):
        dagster_process.main()
