"""Every process backs up an older ledger before it migrates it, and leaves it alone if it cannot."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.archive.file import open_archive
from dagster_offload.ledger.core import identity
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.migrate import current_step, make_steps, migrate, newest_step
from dagster_offload.ledger.core.opening import ResidentLedger, open_ledger
from dagster_offload.ledger.core.workers import UP, Worker, lock_class
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.catalog import stage_graph
from tests.support.disks import small_disk

OLD_STEP = 16


def make_old(url: str, documents: int = 1) -> None:
    """A ledger at an older schema step."""
    with Ledger(url) as ledger, ledger.transaction() as cur:
        cur.execute(f"create schema {ledger.schema}".encode())
        make_steps(cur, up_to=OLD_STEP)
        for number in range(documents):
            cur.execute(
                "insert into documents (key, size, mtime_ns, ctime_ns, inode) values (%s, 1, 1, 1, 1)",
                [f"{number}.txt"],
            )


@pytest.fixture
def old_url(empty_url: str) -> str:
    make_old(empty_url)
    return empty_url


def settings_for(url: str, folder: Path, **changes: Any) -> Settings:
    return load_settings(home=folder / "home", postgres_url=url, **changes)


def step_of(url: str) -> int | None:
    with Ledger(url) as ledger, ledger.transaction() as cur:
        return current_step(cur, ledger.schema)


def backups_in(settings: Settings) -> list[Path]:
    return sorted(settings.backup_folder.glob("*")) if settings.backup_folder.exists() else []


def open_once(settings: Settings) -> None:
    with open_ledger(settings):
        pass


def open_resident(settings: Settings) -> None:
    resident = ResidentLedger()
    try:
        resident.get(settings)
    finally:
        resident.close()


@pytest.mark.rule("backup-5")
@pytest.mark.parametrize("open_it", [open_once, open_resident])
def test_an_older_ledger_is_backed_up_before_it_is_migrated(
    open_it: Callable[[Settings], None], old_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(old_url, tmp_path)
    with caplog.at_level(logging.WARNING):
        open_it(settings)
    assert step_of(old_url) == newest_step()
    [file] = backups_in(settings)
    with open_archive(file) as archive:
        archive.check(lambda _table, _rows: None)
        assert (archive.manifest.step, archive.manifest.rows("documents")) == (OLD_STEP, 1)
    assert str(file) in caplog.text
    open_it(settings)
    assert backups_in(settings) == [file]


@pytest.mark.rule("backup-5")
def test_several_starts_at_once_make_one_backup(old_url: str, tmp_path: Path) -> None:
    settings, start = settings_for(old_url, tmp_path), Barrier(4)

    def open_together(_: int) -> None:
        start.wait()
        open_once(settings)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(open_together, range(4)))
    assert len(backups_in(settings)) == 1
    assert step_of(old_url) == newest_step()


@pytest.mark.rule("backup-5")
def test_a_ledger_whose_backup_has_no_room_is_not_migrated(empty_url: str, tmp_path: Path) -> None:
    make_old(empty_url, documents=3_000)
    with small_disk(1) as disk:
        settings = settings_for(empty_url, tmp_path, backup_dir=disk.folder)
        disk.fill(leave=8_192)
        with pytest.raises(LedgerUnavailable, match=rf"{OLD_STEP} to \d+.*No space left.*OFFLOAD_BACKUP_DIR"):
            open_once(settings)
        assert step_of(empty_url) == OLD_STEP
        assert [path.name for path in disk.folder.iterdir()] == ["ballast"]
        disk.free()
        open_once(settings)
        assert step_of(empty_url) == newest_step()


@pytest.mark.rule("backup-5")
def test_a_missing_folder_refuses_the_migration(old_url: str, tmp_path: Path) -> None:
    settings = settings_for(old_url, tmp_path, backup_dir=tmp_path / "missing")
    with pytest.raises(LedgerUnavailable, match=rf"{OLD_STEP} to \d+.*OFFLOAD_BACKUP_DIR.*mount"):
        open_once(settings)
    assert step_of(old_url) == OLD_STEP


@pytest.mark.rule("hosts-5")
def test_an_older_ledger_is_not_migrated_while_an_up_works_with_it(old_url: str, tmp_path: Path) -> None:
    settings = settings_for(old_url, tmp_path)
    with Ledger(old_url) as ledger:
        with (
            Worker(ledger, UP),
            pytest.raises(
                LedgerUnavailable, match=rf"step {OLD_STEP} to \d+\).*`up` of an older version.*stop that `up`"
            ),
        ):
            open_once(settings)
        assert step_of(old_url) == OLD_STEP
        assert backups_in(settings) == []
        with Worker(ledger, "drain"):  # it ends at the first statement that fails, or goes on
            open_once(settings)
    assert step_of(old_url) == newest_step()


@pytest.mark.rule("hosts-5")
def test_an_up_that_died_keeps_no_ledger_from_being_migrated(old_url: str, tmp_path: Path) -> None:
    with Ledger(old_url) as ledger, ledger.transaction() as cur:
        cur.execute("insert into workers (kind, host, boot_id, pid) values ('up', 'box', 'boot', 1)")
    open_once(settings_for(old_url, tmp_path))
    assert step_of(old_url) == newest_step()


@pytest.mark.rule("hosts-5")
def test_an_up_whose_host_lost_its_power_is_not_waited_for_until_postgres_notices(old_url: str, tmp_path: Path) -> None:
    with Ledger(old_url) as ledger, ledger.connect() as connection:
        row = connection.execute(
            "insert into workers (kind, host, boot_id, pid, heartbeat_at) "
            "values ('up', 'box', 'boot', 1, clock_timestamp() - interval '2 minutes') returning worker_id"
        ).fetchone()
        assert row is not None
        connection.execute("select pg_advisory_lock(%s, %s)", [lock_class(ledger.schema), row["worker_id"]])
        open_once(settings_for(old_url, tmp_path))
    assert step_of(old_url) == newest_step()


def test_a_new_ledger_needs_no_backup(empty_url: str, tmp_path: Path) -> None:
    settings = settings_for(empty_url, tmp_path)
    open_once(settings)
    assert backups_in(settings) == []


def test_an_older_ledger_without_work_needs_no_backup(empty_url: str, tmp_path: Path) -> None:
    make_old(empty_url, documents=0)
    settings = settings_for(empty_url, tmp_path)
    open_once(settings)
    assert step_of(empty_url) == newest_step()
    assert backups_in(settings) == []


def test_an_older_copy_that_was_moved_is_refused_without_a_backup(old_url: str, tmp_path: Path) -> None:
    with Ledger(old_url) as ledger, ledger.transaction() as cur:
        identity.mark_moved(cur, "postgresql://elsewhere/offload")
    settings = settings_for(old_url, tmp_path)
    with pytest.raises(LedgerUnavailable, match="was moved"):
        open_once(settings)
    assert step_of(old_url) == OLD_STEP
    assert backups_in(settings) == []


def test_a_long_backup_does_not_end_the_transaction_that_waits_for_it(old_url: str) -> None:
    limits = []

    def back_up(cur: Cursor) -> None:
        limits.append(cur.execute("show idle_in_transaction_session_timeout").fetchone())

    with Ledger(old_url) as ledger:
        migrate(ledger, stage_graph(load_settings()), back_up=back_up)
        assert limits == [{"idle_in_transaction_session_timeout": "0"}]
        with ledger.transaction() as cur:
            back_up(cur)
    assert limits[1] == {"idle_in_transaction_session_timeout": "1min"}
