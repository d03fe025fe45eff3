"""A copy that is interrupted leaves nothing behind: cancelled, without space, or without Postgres."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from dagster_offload.errors import BackupError, LedgerUnavailable
from dagster_offload.ledger.archive.backup import write_backup
from dagster_offload.ledger.archive.file import open_archive
from dagster_offload.ledger.archive.move import move
from dagster_offload.ledger.archive.restore import restore
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import current_step, migrate
from dagster_offload.postgres import DAGSTER_SCHEMA
from dagster_offload.stages.graph import BUILT_IN
from tests.support.archive import add_texts
from tests.support.engine import Engine


@pytest.mark.rule("backup-1")
def test_a_failed_or_cancelled_backup_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    add_texts(engine, ["a.txt"])

    def cancel(table: str, _rows: int) -> None:
        if table == "ledger.results":
            raise BackupError("cancelled")

    with pytest.raises(BackupError, match="cancelled"):
        write_backup(engine.ledger, folder / "a.backup", on_progress=cancel)
    assert list(folder.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.root
def test_a_full_disk_is_named_and_nothing_is_left_on_it(engine: Engine, small_disk: Path) -> None:
    add_texts(engine, ["a.txt"])
    engine.sql("update results set text = %s", os.urandom(200_000).hex())
    with pytest.raises(BackupError, match=r"a\.backup cannot be written: No space left on device"):
        write_backup(engine.ledger, small_disk / "a.backup")
    assert list(small_disk.iterdir()) == []


def end_connections(engine: Engine, of: Ledger) -> None:
    """End every connection to the database of `of`, as a restart of Postgres does."""
    engine.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()",
        conninfo_to_dict(of.conninfo)["dbname"],
    )


def test_a_backup_without_postgres_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    add_texts(engine, ["a.txt"])
    with pytest.raises(LedgerUnavailable, match="run the command again"):
        write_backup(
            engine.ledger, folder / "a.backup", on_progress=lambda _table, _rows: end_connections(engine, engine.ledger)
        )
    assert list(folder.iterdir()) == []


def test_a_restore_without_postgres_changes_nothing(engine: Engine, empty: Ledger, backup_file: Path) -> None:
    add_texts(engine, ["a.txt"])
    write_backup(engine.ledger, backup_file)
    with open_archive(backup_file) as archive, pytest.raises(LedgerUnavailable, match="run the command again"):
        restore(
            empty,
            archive,
            dagster_schema=DAGSTER_SCHEMA,
            on_progress=lambda _table, _rows: end_connections(engine, empty),
        )
    with empty.transaction() as cur:
        assert current_step(cur, empty.schema) is None


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_move_without_postgres_leaves_the_old_ledger_in_use(engine: Engine, empty: Ledger, side: str) -> None:
    add_texts(engine, ["a.txt"])
    ended = engine.ledger if side == "source" else empty
    with pytest.raises(LedgerUnavailable, match="run the command again"):
        move(
            engine.ledger,
            empty,
            place="postgresql://db.local/offload",
            dagster_schema=DAGSTER_SCHEMA,
            on_progress=lambda _table, _rows: end_connections(engine, ended),
        )
    migrate(engine.ledger, BUILT_IN)
    with empty.transaction() as cur:
        assert current_step(cur, empty.schema) is None
