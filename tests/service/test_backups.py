"""Backups that `up` makes: when, how many are kept, and what happens when one fails."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.ledger.archive import outcomes
from dagster_offload.ledger.archive.file import open_archive
from dagster_offload.ledger.archive.folder import Owner, owner_of, scheduled_name
from dagster_offload.ledger.core import identity
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.service import backups as backups_module
from dagster_offload.service.backups import ScheduledBackups, is_due
from dagster_offload.settings import Settings, load_settings
from tests.support.patience import PATIENCE_SECONDS

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
OWNER = Owner("0a1b2c3d", has_own_folder=False)


@pytest.mark.parametrize(
    ("names", "due"),
    [
        ([], True),
        (["offload-0a1b2c3d-20261128T115959Z.backup"], False),
        (["offload-ffffffff-20261128T115959Z.backup", "offload-20261128T115959Z.backup"], True),  # of another ledger
        (["offload-0a1b2c3d-20261127T120000Z.backup"], True),
        (["offload-0a1b2c3d-20261127T120001Z.backup", "offload-0a1b2c3d-20261101T000000Z.backup"], False),
        (
            ["before-step-0015-0a1b2c3d-20261128T115959Z.backup", "a.txt", "offload-0a1b2c3d-99999999T999999Z.backup"],
            True,
        ),
        (["offload-0a1b2c3d-20270101T000000Z.backup"], True),  # the clock was wrong
    ],
)
def test_a_backup_is_due_an_interval_after_the_last_one(names: list[str], due: bool) -> None:
    assert is_due(names, OWNER, DAY, NOW) is due


def settings_for(url: str, folder: Path, **changes: Any) -> Settings:
    return load_settings(home=folder / "home", postgres_url=url, backup_every="1d", **changes)


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger(ledger_url) as ledger:
        yield ledger


def run_once(backups: ScheduledBackups, settings: Settings) -> None:
    backups.check(settings)
    while backups.is_running:
        time.sleep(0.01)


def test_a_due_backup_is_written_recorded_and_old_ones_are_removed(
    ledger: Ledger, ledger_url: str, tmp_path: Path, messages: list[str]
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    settings = settings_for(ledger_url, tmp_path, backup_dir=folder, backup_keep=2)
    found = ledger.run(identity.read)
    assert found is not None
    owner = owner_of(settings, found.ledger_id)
    ours = [scheduled_name(owner, datetime(2020, 1, day, tzinfo=UTC)) for day in range(1, 4)]
    others = ["mine.txt", scheduled_name(OWNER, NOW)]
    for name in (*ours, *others):
        (folder / name).touch()
    run_once(ScheduledBackups(ledger, messages.append), settings)
    [name] = {path.name for path in folder.iterdir()} - {*others, ours[2]}
    assert {path.name for path in folder.iterdir()} == {*others, ours[2], name}
    with open_archive(folder / name) as archive:
        archive.check(lambda _table, _rows: None)
    [outcome] = ledger.run(outcomes.outcomes)
    assert (outcome.file, outcome.error) == (name, None)
    assert outcome.bytes == (folder / name).stat().st_size
    assert messages == []


def test_a_missing_folder_is_not_created_and_the_failure_is_recorded(
    ledger: Ledger, ledger_url: str, tmp_path: Path, messages: list[str]
) -> None:
    settings = settings_for(ledger_url, tmp_path, backup_dir=tmp_path / "unmounted")
    run_once(ScheduledBackups(ledger, messages.append), settings)
    assert not (tmp_path / "unmounted").exists()
    [outcome] = ledger.run(outcomes.outcomes)
    assert "OFFLOAD_BACKUP_DIR" in str(outcome.error)
    assert "mount its disk" in str(outcomes.failure(outcome))
    assert len(messages) == 1

    (tmp_path / "unmounted").mkdir()
    run_once(ScheduledBackups(ledger, messages.append), settings)
    [outcome] = ledger.run(outcomes.outcomes)
    assert outcomes.failure(outcome) is None


def test_a_stopped_backup_leaves_no_file_and_no_failure(
    ledger: Ledger, ledger_url: str, tmp_path: Path, messages: list[str]
) -> None:
    with ledger.transaction() as cur:
        cur.execute("insert into unusable_names (name, reason) values ('x', 'why')")
    (tmp_path / "home").mkdir(mode=0o700)
    backups = ScheduledBackups(ledger, messages.append)
    backups.stop()
    run_once(backups, settings_for(ledger_url, tmp_path))
    assert list((tmp_path / "home" / "backups").iterdir()) == []
    assert ledger.run(outcomes.outcomes) == []
    assert messages == []


def test_a_folder_that_does_not_answer_is_not_waited_for(
    ledger: Ledger, ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted, listed_by = threading.Event(), list[threading.Thread]()

    def hang(_folder: Path) -> list[str]:  # as a network file system whose server is gone
        listed_by.append(threading.current_thread())
        if threading.current_thread() is not threading.main_thread():
            mounted.wait(PATIENCE_SECONDS)
        return [scheduled_name(OWNER, datetime.now(UTC))]

    monkeypatch.setattr("dagster_offload.service.backups.folder.own_names", hang)
    (tmp_path / "home").mkdir(mode=0o700)
    backups = ScheduledBackups(ledger, print)
    backups.check(settings_for(ledger_url, tmp_path))
    assert backups.is_running
    assert threading.main_thread() not in listed_by, "the loop of `up` also restarts what ended, and obeys Ctrl-C"
    mounted.set()
    while backups.is_running:
        time.sleep(0.01)


def test_without_the_setting_no_backup_is_made(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    run_once(ScheduledBackups(ledger, print), load_settings(home=tmp_path / "home", postgres_url=ledger_url))
    assert not (tmp_path / "home").exists()


def test_an_edit_of_the_settings_takes_effect_at_the_next_check(
    ledger: Ledger, ledger_url: str, tmp_path: Path, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups_module, "CHECK_EVERY_SECONDS", 0.0)
    folder = tmp_path / "disk"
    folder.mkdir()
    backups = ScheduledBackups(ledger, messages.append)
    run_once(backups, load_settings(home=tmp_path / "home", postgres_url=ledger_url))
    run_once(backups, settings_for(ledger_url, tmp_path, backup_dir=folder))
    assert len(list(folder.iterdir())) == 1
    assert not (tmp_path / "home").exists()
    assert messages == []


@pytest.mark.parametrize("error", [OSError(), RuntimeError()])
def test_a_failed_backup_is_recorded_whatever_failed_and_is_not_tried_again_at_the_next_check(
    ledger: Ledger,
    ledger_url: str,
    tmp_path: Path,
    messages: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(backups_module, "CHECK_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(backups_module, "write_backup", fail)
    (tmp_path / "home").mkdir(mode=0o700)
    backups, settings = ScheduledBackups(ledger, messages.append), settings_for(ledger_url, tmp_path)
    run_once(backups, settings)
    run_once(backups, settings)
    [message] = messages
    assert message.startswith("The scheduled backup failed: ")
    [outcome] = ledger.run(outcomes.outcomes)
    assert str(outcome.error) in message
