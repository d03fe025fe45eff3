"""The processes of `up`: what its checks survive."""

from types import SimpleNamespace
from typing import Any

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.service.processes import Services


def test_stages_that_change_while_postgres_is_down_are_loaded_later_and_end_nothing() -> None:
    states: list[Any] = [LedgerUnavailable("Postgres does not answer"), [], [], []]
    restarted: list[str] = []

    def run(*_: object) -> Any:
        state = states.pop(0)
        if isinstance(state, Exception):
            raise state
        return state

    idle = SimpleNamespace(
        check=lambda *_: None, restart=restarted.append, definitions="new", schema="s", run=run, settings=None
    )
    services: Any = Services("", idle, idle, idle, print, None, idle, idle, definitions="old")  # type: ignore[arg-type]
    services.check()
    assert restarted == []
    services.looked_for_workers_at = 0.0
    services.check()
    assert restarted == ["code server"]
