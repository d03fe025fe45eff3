"""Heartbeats: what a worker survives, and after what it is lost."""

import threading
from collections.abc import Callable

import psycopg
import pytest

from dagster_offload.ledger.core import workers
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.testing import ChangeTiming
from tests.support.ledger import Bench
from tests.support.patience import PATIENCE_SECONDS


def becomes_lost(bench: Bench, harm: Callable[[Worker], object]) -> bool:
    is_notified = threading.Event()
    with Worker(bench.ledger, "drain") as worker:
        worker.on_notify(lambda message: is_notified.set() if message == "lost" else None)
        harm(worker)
        return is_notified.wait(PATIENCE_SECONDS) and worker.is_lost


def test_a_worker_that_slept_past_its_lease_becomes_lost(bench: Bench, change_timing: ChangeTiming) -> None:
    change_timing(heartbeat=0.05)
    assert becomes_lost(bench, lambda worker: bench.die(worker.id))


def test_a_worker_whose_heartbeat_ends_by_an_error_becomes_lost(bench: Bench, change_timing: ChangeTiming) -> None:
    change_timing(heartbeat=0.05)
    assert becomes_lost(bench, lambda _: bench.sql("alter table workers rename column heartbeat_at to beaten_at"))
    bench.sql("alter table workers rename column beaten_at to heartbeat_at")


def test_a_worker_whose_ledger_cannot_be_revived_because_of_an_error_becomes_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming
) -> None:
    def fails() -> None:
        raise ValueError("an error that is no outage")

    change_timing(heartbeat=0.05)
    monkeypatch.setattr(bench.ledger, "_revive", fails)
    assert becomes_lost(bench, lambda worker: end_heartbeat_connection(bench, worker))


def end_heartbeat_connection(bench: Bench, worker: Worker) -> None:
    bench.sql(
        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objid = %s and objsubid = 2 "
        "and database = (select oid from pg_database where datname = current_database())",
        worker.id,
    )


def test_a_worker_survives_the_loss_of_its_connection(bench: Bench, change_timing: ChangeTiming) -> None:
    change_timing(heartbeat=0.05)
    back = threading.Event()
    with Worker(bench.ledger, "drain") as worker:
        worker.on_notify(lambda message: back.set() if message == "reconnected" else None)
        end_heartbeat_connection(bench, worker)
        assert back.wait(PATIENCE_SECONDS)
        assert bench.sql(
            "select 1 from pg_locks where locktype = 'advisory' and objid = %s and objsubid = 2", worker.id
        )
        assert not worker.is_lost


def test_a_heartbeat_that_loses_a_deadlock_keeps_its_connection_and_continues(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming
) -> None:
    change_timing(heartbeat=0.05)
    deadlocks, beaten, messages = [psycopg.errors.DeadlockDetected("deadlock detected")], threading.Event(), list[str]()

    def chosen_once(_cur: Cursor, _schema: str) -> list[int]:
        if deadlocks:
            raise deadlocks.pop()
        beaten.set()
        return []

    with Worker(bench.ledger, "drain") as worker:
        worker.on_notify(messages.append)
        monkeypatch.setattr(workers, "reclaim_dead", chosen_once)
        assert beaten.wait(PATIENCE_SECONDS)
    assert "reconnected" not in messages
