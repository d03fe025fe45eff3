"""The folder of backups: names, what is removed, and who can enter it."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dagster_offload.errors import BackupError
from dagster_offload.ledger.archive import folder
from dagster_offload.ledger.archive.folder import Owner, expired, refuse_library
from dagster_offload.settings import load_settings

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
OURS, THEIRS = Owner("0a1b2c3d", has_own_folder=False), Owner("ffffffff", has_own_folder=False)
IN_HOME = Owner("0a1b2c3d", has_own_folder=True)


def test_only_old_backups_of_the_same_kind_are_removed() -> None:
    made = [f"offload-0a1b2c3d-2026112{day}T120000Z.backup" for day in range(5)]
    others = [
        "before-step-0015-0a1b2c3d-20261101T000000Z-00ff00.backup",
        "mine.backup",
        "offload-mine.backup",
        "letter.txt",
    ]
    assert expired([*made, *others], 3, OURS) == made[:2]
    assert expired([*made, *others], 7, OURS) == []
    assert expired([*made, *others], 3, OURS, kind="before-step") == []


@pytest.mark.rule("backup-6")
def test_ledgers_that_share_a_folder_neither_count_nor_remove_each_others_backups() -> None:
    names = [folder.scheduled_name(owner, NOW.replace(hour=hour)) for hour in range(9) for owner in (OURS, THEIRS)]
    names += [folder.name_before_step(33, THEIRS, NOW) for _ in range(9)]
    assert expired(names, 8, OURS) == ["offload-0a1b2c3d-20261128T000000Z.backup"]
    assert expired(names, 8, OURS, kind="before-step") == []
    assert folder.made_at(names[0], folder.SCHEDULED, THEIRS) is None


def test_names_of_older_versions_count_only_in_the_folder_of_a_home() -> None:
    made = [f"offload-2026112{day}T120000Z.backup" for day in range(5)]
    assert expired(made, 3, OURS) == []
    assert expired(made, 3, IN_HOME) == made[:2]
    assert folder.made_at("offload-ffffffff-20261128T120000Z.backup", folder.SCHEDULED, IN_HOME) is None


def test_a_ledger_that_is_too_old_for_an_id_leaves_all_marked_backups_alone() -> None:
    unmarked = folder.name_before_step(15, Owner(None, has_own_folder=False), NOW)
    assert folder.made_at(unmarked, folder.BEFORE_MIGRATION, IN_HOME) == NOW
    marked = folder.name_before_step(15, OURS, NOW)
    assert expired([marked] * 9, 1, Owner(None, has_own_folder=True), kind="before-step") == []


def test_backups_before_migrations_are_counted_apart() -> None:
    made = [f"before-step-003{step}-0a1b2c3d-20261128T12000{step}Z-00ff0{step}.backup" for step in range(4)]
    assert expired([*made, "before-step-0033-mine.backup"], 3, OURS, kind="before-step") == made[:1]


def test_two_backups_of_one_second_have_different_names() -> None:
    names = {folder.name_before_step(33, OURS, NOW) for _ in range(20)}
    assert len(names) == 20
    assert {folder.made_at(name, folder.BEFORE_MIGRATION, OURS) for name in names} == {NOW}


@pytest.mark.parametrize("existing", [False, True])
def test_only_its_owner_can_enter_the_folder_in_the_home(existing: bool, tmp_path: Path) -> None:
    home = tmp_path / "home"
    if existing:
        home.mkdir(mode=0o755)
        (home / "backups").mkdir()
        (home / "backups").chmod(0o775)
    before = os.umask(0o002)
    try:
        made = folder.prepare(load_settings(home=home))
    finally:
        os.umask(before)
    assert made == home / "backups"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_the_mode_of_a_folder_that_a_person_chose_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk").chmod(0o755)
    folder.prepare(load_settings(home=tmp_path / "home", backup_dir=tmp_path / "disk"))
    assert stat.S_IMODE((tmp_path / "disk").stat().st_mode) == 0o755


def test_a_backup_inside_the_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "library")
    with pytest.raises(BackupError, match="inside the library"):
        refuse_library(tmp_path / "link" / "a.backup", tmp_path / "library")
    refuse_library(tmp_path / "library-2" / "a.backup", tmp_path / "library")
