"""Backups that `up` makes: when, how many are kept, and what happens when one fails."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import BackupError, LedgerUnavailable
from dagster_offload.ledger.archive import outcomes
from dagster_offload.ledger.archive.file import open_archive
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import current_step, make_steps, newest_step
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.service.backups import ScheduledBackups, back_up_before_migration, expired, is_due, refuse_library
from dagster_offload.settings import Settings, load_settings

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("names", "due"),
    [
        ([], True),
        (["offload-20261128T115959Z.backup"], False),
        (["offload-20261127T120000Z.backup"], True),
        (["offload-20261127T120001Z.backup", "offload-20261101T000000Z.backup"], False),
        (["before-step-0015-20261128T115959Z.backup", "letter.txt", "offload-99999999T999999Z.backup"], True),
        (["offload-20270101T000000Z.backup"], True),  # the clock was wrong
    ],
)
def test_a_backup_is_due_an_interval_after_the_last_one(names: list[str], due: bool) -> None:
    assert is_due(names, DAY, NOW) is due


def test_a_failed_backup_is_tried_again_after_ten_minutes() -> None:
    assert not is_due([], DAY, NOW, failed_at=NOW - timedelta(minutes=9))
    assert is_due([], DAY, NOW, failed_at=NOW - timedelta(minutes=10))


def test_only_old_backups_of_the_same_kind_are_removed() -> None:
    made = [f"offload-2026112{day}T120000Z.backup" for day in range(5)]
    others = ["before-step-0015-20261101T000000Z.backup", "mine.backup", "offload-mine.backup", "letter.txt"]
    assert expired([*made, *others], keep=3) == made[:2]
    assert expired([*made, *others], keep=7) == []
    assert expired([*made, *others], keep=3, kind="before-step") == []


def settings_for(url: str, folder: Path, **changes: Any) -> Settings:
    return load_settings(home=folder / "home", postgres_url=url, backup_every="1d", **changes)


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger(ledger_url) as ledger:
        yield ledger


def run_once(backups: ScheduledBackups) -> None:
    backups.check()
    while backups.is_running:
        time.sleep(0.01)


def test_a_due_backup_is_written_recorded_and_old_ones_are_removed(
    ledger: Ledger, ledger_url: str, tmp_path: Path, messages: list[str]
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    for day in range(1, 4):
        (folder / f"offload-2020010{day}T000000Z.backup").touch()
    (folder / "mine.txt").touch()
    settings = settings_for(ledger_url, tmp_path, backup_dir=folder, backup_keep=2)
    backups = ScheduledBackups(settings, ledger, messages.append)
    run_once(backups)
    names = sorted(path.name for path in folder.iterdir())
    assert names[:2] == ["mine.txt", "offload-20200103T000000Z.backup"]
    assert len(names) == 3
    with open_archive(folder / names[2]) as archive:
        archive.check(lambda _table, _rows: None)
    [outcome] = ledger.run(outcomes.outcomes)
    assert (outcome.file, outcome.error) == (names[2], None)
    assert outcome.bytes == (folder / names[2]).stat().st_size
    assert messages == []


def test_a_missing_folder_is_not_created_and_the_failure_is_recorded(
    ledger: Ledger, ledger_url: str, tmp_path: Path, messages: list[str]
) -> None:
    settings = settings_for(ledger_url, tmp_path, backup_dir=tmp_path / "unmounted")
    run_once(ScheduledBackups(settings, ledger, messages.append))
    assert not (tmp_path / "unmounted").exists()
    [outcome] = ledger.run(outcomes.outcomes)
    assert "OFFLOAD_BACKUP_DIR" in str(outcome.error)
    assert "mount its disk" in str(outcomes.failure(outcome))
    assert len(messages) == 1

    (tmp_path / "unmounted").mkdir()
    run_once(ScheduledBackups(settings, ledger, messages.append))
    [outcome] = ledger.run(outcomes.outcomes)
    assert outcomes.failure(outcome) is None


def test_a_stopped_backup_leaves_no_file_and_no_failure(
    ledger: Ledger, ledger_url: str, tmp_path: Path, messages: list[str]
) -> None:
    with ledger.transaction() as cur:
        cur.execute("insert into unusable_names (name, reason) values ('x', 'why')")
    (tmp_path / "home").mkdir(mode=0o700)
    backups = ScheduledBackups(settings_for(ledger_url, tmp_path), ledger, messages.append)
    backups.stop()
    run_once(backups)
    assert list((tmp_path / "home" / "backups").iterdir()) == []
    assert ledger.run(outcomes.outcomes) == []
    assert messages == []


def test_without_the_setting_no_backup_is_made(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    backups = ScheduledBackups(load_settings(home=tmp_path / "home", postgres_url=ledger_url), ledger, print)
    run_once(backups)
    assert not (tmp_path / "home").exists()


def test_a_backup_inside_the_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "library")
    with pytest.raises(BackupError, match="inside the library"):
        refuse_library(tmp_path / "link" / "a.backup", tmp_path / "library")
    refuse_library(tmp_path / "library-2" / "a.backup", tmp_path / "library")


# --- before a migration ----------------------------------------------------------------------------------------------


@pytest.fixture
def old_url(empty_url: str) -> str:
    """A ledger at an older schema step, with one document."""
    with Ledger(empty_url) as ledger, ledger.transaction() as cur:
        cur.execute(f"create schema {ledger.schema}".encode())
        make_steps(cur, up_to=13)
        cur.execute("insert into documents (key, size, mtime_ns, ctime_ns, inode) values ('old.txt', 1, 1, 1, 1)")
    return empty_url


@pytest.mark.rule("backup-5")
def test_an_older_ledger_is_backed_up_before_it_is_migrated(old_url: str, tmp_path: Path, messages: list[str]) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    settings = settings_for(old_url, tmp_path)
    file = back_up_before_migration(settings, messages.append)
    assert file is not None
    with open_archive(file) as archive:
        archive.check(lambda _table, _rows: None)
        assert (archive.manifest.step, archive.manifest.rows("documents")) == (13, 1)
    assert str(file) in messages[0]
    with open_ledger(settings) as ledger, ledger.transaction() as cur:
        assert current_step(cur, ledger.schema) == newest_step()
    assert back_up_before_migration(settings, messages.append) is None


@pytest.mark.rule("backup-5")
def test_a_ledger_that_cannot_be_backed_up_is_not_migrated(old_url: str, tmp_path: Path, messages: list[str]) -> None:
    settings = settings_for(old_url, tmp_path, backup_dir=tmp_path / "missing")
    with pytest.raises(LedgerUnavailable, match=r"13 to \d+.*OFFLOAD_BACKUP_DIR"):
        back_up_before_migration(settings, messages.append)
    with Ledger(old_url) as ledger, ledger.transaction() as cur:
        assert current_step(cur, ledger.schema) == 13


def test_a_new_ledger_needs_no_backup(empty_url: str, tmp_path: Path, messages: list[str]) -> None:
    assert back_up_before_migration(settings_for(empty_url, tmp_path), messages.append) is None
    assert messages == []
