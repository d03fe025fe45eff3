"""The processes of `up`: what its checks survive."""

from types import SimpleNamespace
from typing import Any

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.service.home import RunningUp
from dagster_offload.service.processes import Services


class World:
    """Services whose ledger gives these answers to `live_workers`, one for each kind of worker."""

    def __init__(self, *states: Any) -> None:
        self.states = list(states)
        self.restarted: list[str] = []
        self.said: list[str] = []
        self.written: list[RunningUp] = []
        idle: Any = SimpleNamespace(
            check=lambda *_: None,
            settings=None,
            restart=self.restarted.append,
            definitions="new",
            schema="s",
            run=self._run,
        )
        lock: Any = SimpleNamespace(write=self.written.append)
        self.services = Services(
            "", idle, idle, idle, self.said.append, None, idle, idle, lock, RunningUp(1, "http://x"), definitions="old"
        )

    def _run(self, *_: object) -> Any:
        state = self.states.pop(0)
        if isinstance(state, Exception):
            raise state
        return state

    def check(self) -> None:
        self.services.looked_for_workers_at = float("-inf")
        self.services.check()


def test_stages_that_change_while_postgres_is_down_are_loaded_later_and_end_nothing() -> None:
    world = World(LedgerUnavailable("Postgres does not answer"), [], [], [])
    world.check()
    assert world.restarted == []
    world.check()
    assert world.restarted == ["code server"]


def test_stages_that_wait_for_running_work_are_shown_once_and_loaded_after_it() -> None:
    world = World(["one"], [], ["two"], ["one"], [], ["two"], [], [], [])
    world.check()
    world.check()
    assert world.said == [
        "The stages or slots changed: Dagster's UI shows them when the running work has ended: scan, run"
    ]
    assert world.written == [RunningUp(1, "http://x", reload_waits_for="scan, run")]
    assert world.restarted == []
    world.check()
    assert world.restarted == ["code server"]
    assert world.written[-1] == RunningUp(1, "http://x")
