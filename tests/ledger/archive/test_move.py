"""A move copies the ledger to another database. The old copy is kept and refused."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import BackupError, LedgerUnavailable
from dagster_offload.ledger.archive import tables
from dagster_offload.ledger.archive.backup import write_backup
from dagster_offload.ledger.archive.move import move
from dagster_offload.ledger.core import identity
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import current_step, migrate
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.work import corrections, redo
from dagster_offload.ledger.work.corrections import NewValue
from dagster_offload.postgres import DAGSTER_SCHEMA
from dagster_offload.stages.graph import BUILT_IN, CLASSIFY, SUMMARIZE
from tests.support.archive import add_texts, contents, put_back, with_engine
from tests.support.engine import Engine
from tests.support.patience import PATIENCE_SECONDS

PLACE = "postgresql://offload@db.local/offload"
KEYS = ("a.txt", "b.txt", "c.txt")


def move_to(source: Ledger, target: Ledger, *, may_replace: bool = False) -> dict[str, int]:
    return move(source, target, place=PLACE, dagster_schema=DAGSTER_SCHEMA, may_replace=may_replace)


@pytest.mark.rule("backup-3")
def test_drains_before_between_and_after_two_moves_repeat_no_call(
    engine: Engine, empty: Ledger, tmp_path: Path
) -> None:
    add_texts(engine, KEYS)
    engine.drain(limit=1)
    assert move_to(engine.ledger, empty)["ledger.documents"] == 3
    there = with_engine(engine, empty, tmp_path / "there")
    there.drain(limit=1)
    move_to(empty, engine.ledger)  # back, over the old copy
    assert engine.drain().done == 1
    asked = engine.asked()
    assert len(asked) == len(set(asked)) == 6
    assert {engine.counts(stage).done for stage in (CLASSIFY, SUMMARIZE)} == {3}


@pytest.mark.rule("backup-3")
def test_the_old_copy_is_kept_and_every_door_refuses_it(engine: Engine, empty: Ledger) -> None:
    add_texts(engine, ["a.txt"])
    before = contents(engine.ledger)
    move_to(engine.ledger, empty)
    with pytest.raises(LedgerUnavailable, match=rf"moved to {PLACE} .*set OFFLOAD_POSTGRES_URL to {PLACE}"):
        migrate(engine.ledger, BUILT_IN)
    with pytest.raises(LedgerUnavailable, match="moved"), Worker(engine.ledger, "drain"):
        pass
    after = contents(engine.ledger)
    assert {name for name in before if before[name] != after[name]} <= {"identity", "receipts"}
    migrate(empty, BUILT_IN)


def test_the_source_of_a_move_may_wait_for_the_target_for_longer_than_a_minute(engine: Engine) -> None:
    with tables.snapshot(engine.ledger) as read:
        shown = read.execute("show idle_in_transaction_session_timeout").fetchone()
    assert shown == {"idle_in_transaction_session_timeout": "0"}


def test_an_old_copy_is_used_again_after_undo(engine: Engine, empty: Ledger) -> None:
    move_to(engine.ledger, empty)
    assert engine.ledger.run(identity.unmark_moved)
    migrate(engine.ledger, BUILT_IN)
    assert not engine.ledger.run(identity.unmark_moved)


def test_a_restored_backup_of_a_moved_copy_is_in_use(engine: Engine, empty: Ledger, tmp_path: Path) -> None:
    move_to(engine.ledger, empty)
    write_backup(engine.ledger, tmp_path / "old.backup")
    put_back(empty, tmp_path / "old.backup", may_replace=True)
    migrate(empty, BUILT_IN)


def test_a_ledger_in_use_is_not_moved(engine: Engine, empty: Ledger) -> None:
    with Worker(engine.ledger, "drain"), pytest.raises(BackupError, match=r"drain \(process .*dagster-offload stop"):
        move_to(engine.ledger, empty)
    migrate(engine.ledger, BUILT_IN)
    with empty.transaction() as cur:
        assert current_step(cur, empty.schema) is None


def test_a_worker_that_starts_during_a_move_waits_and_is_then_refused(engine: Engine, empty: Ledger) -> None:
    started: list[Future[Worker]] = []

    def start_a_worker(_table: str, _rows: int) -> None:
        if not started:
            started.append(engine.beside(Worker(engine.ledger, "drain").__enter__))
            engine.wait_until("select pid from pg_locks where not granted and relation = 'workers'::regclass")

    add_texts(engine, ["a.txt"])
    move(engine.ledger, empty, place=PLACE, dagster_schema=DAGSTER_SCHEMA, on_progress=start_a_worker)
    with pytest.raises(LedgerUnavailable, match="moved"):
        started[0].result(timeout=PATIENCE_SECONDS)
    with empty.transaction() as cur:
        assert cur.execute("select worker_id from workers where ended_at is null").fetchall() == []


@pytest.mark.parametrize("what", ["correct", "redo", "retry"])
def test_what_a_person_asks_for_during_a_move_is_refused(engine: Engine, empty: Ledger, what: str) -> None:
    add_texts(engine, ["a.txt"])
    engine.drain()
    if what == "retry":
        engine.sql("update work_items set state = 'failed' where stage = 'classify'")
    steps: dict[str, tuple[Any, ...]] = {
        "correct": (corrections.correct, "a.txt", [NewValue(CLASSIFY, "category", "letter")], None, {}),
        "redo": (redo.redo, redo.Redo({CLASSIFY: "recipe"})),
        "retry": (redo.retry, [CLASSIFY]),
    }
    asked: list[Future[Any]] = []

    def ask(_table: str, _rows: int) -> None:
        if not asked:
            asked.append(engine.beside(engine.ledger.run, *steps[what]))
            engine.wait_until("select pid from pg_locks where not granted and relation = 'work_items'::regclass")

    move(engine.ledger, empty, place=PLACE, dagster_schema=DAGSTER_SCHEMA, on_progress=ask)
    with pytest.raises(LedgerUnavailable, match="moved"):
        asked[0].result(timeout=PATIENCE_SECONDS)


def test_a_ledger_is_not_moved_into_its_own_database(engine: Engine) -> None:
    with Ledger(engine.ledger.conninfo) as same, pytest.raises(BackupError, match="in that database already"):
        move_to(engine.ledger, same)


def test_another_ledger_at_the_new_place_is_only_replaced_on_request(
    engine: Engine, empty: Ledger, tmp_path: Path
) -> None:
    migrate(empty, BUILT_IN)
    other = with_engine(engine, empty, tmp_path / "other")
    add_texts(other, ["theirs.txt"])
    add_texts(engine, ["ours.txt"])
    with pytest.raises(BackupError, match="--replace"):
        move_to(engine.ledger, empty)
    migrate(engine.ledger, BUILT_IN)
    assert other.sql("select key from documents") == [{"key": "theirs.txt"}]
    move_to(engine.ledger, empty, may_replace=True)
    assert other.sql("select key from documents") == [{"key": "ours.txt"}]


def test_a_failed_move_leaves_both_sides_as_they_were(engine: Engine, empty: Ledger) -> None:
    add_texts(engine, ["a.txt"])

    def fail(_table: str, _rows: int) -> None:
        raise RuntimeError("the network is gone")

    with pytest.raises(RuntimeError):
        move(engine.ledger, empty, place=PLACE, dagster_schema=DAGSTER_SCHEMA, on_progress=fail)
    migrate(engine.ledger, BUILT_IN)
    with empty.transaction() as cur:
        assert current_step(cur, empty.schema) is None
