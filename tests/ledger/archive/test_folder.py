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
from tests.support.users import UNPRIVILEGED_UID

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
OURS, THEIRS = Owner("0a1b2c3d", has_own_folder=False), Owner("ffffffff", has_own_folder=False)
LATER = datetime(2026, 11, 29, tzinfo=UTC)
IN_HOME = Owner("0a1b2c3d", has_own_folder=True)


def test_only_old_backups_of_the_same_kind_are_removed() -> None:
    made = [f"offload-0a1b2c3d-2026112{day}T120000Z.backup" for day in range(5)]
    others = [
        "before-step-0015-0a1b2c3d-20261101T000000Z-00ff00.backup",
        "mine.backup",
        "offload-mine.backup",
        "letter.txt",
    ]
    assert expired([*made, *others], 3, OURS, LATER) == made[:2]
    assert expired([*made, *others], 7, OURS, LATER) == []
    assert expired([*made, *others], 3, OURS, LATER, kind="before-step") == []


@pytest.mark.rule("backup-6")
def test_ledgers_that_share_a_folder_neither_count_nor_remove_each_others_backups() -> None:
    names = [folder.scheduled_name(owner, NOW.replace(hour=hour)) for hour in range(9) for owner in (OURS, THEIRS)]
    names += [folder.name_before_step(33, THEIRS, NOW) for _ in range(9)]
    assert expired(names, 8, OURS, LATER) == ["offload-0a1b2c3d-20261128T000000Z.backup"]
    assert expired(names, 8, OURS, LATER, kind="before-step") == []
    assert folder.made_at(names[0], folder.SCHEDULED, THEIRS) is None


def test_names_of_older_versions_count_only_in_the_folder_of_a_home() -> None:
    made = [f"offload-2026112{day}T120000Z.backup" for day in range(5)]
    assert expired(made, 3, OURS, LATER) == []
    assert expired(made, 3, IN_HOME, LATER) == made[:2]
    assert folder.made_at("offload-ffffffff-20261128T120000Z.backup", folder.SCHEDULED, IN_HOME) is None


def test_a_ledger_that_is_too_old_for_an_id_leaves_all_marked_backups_alone() -> None:
    unmarked = folder.name_before_step(15, Owner(None, has_own_folder=False), NOW)
    assert folder.made_at(unmarked, folder.BEFORE_MIGRATION, IN_HOME) == NOW
    marked = folder.name_before_step(15, OURS, NOW)
    assert expired([marked] * 9, 1, Owner(None, has_own_folder=True), LATER, kind="before-step") == []


def test_backups_before_migrations_are_counted_apart() -> None:
    made = [f"before-step-003{step}-0a1b2c3d-20261128T12000{step}Z-00ff0{step}.backup" for step in range(4)]
    assert expired([*made, "before-step-0033-mine.backup"], 3, OURS, LATER, kind="before-step") == made[:1]


def test_backups_of_a_time_when_the_clock_was_wrong_do_not_make_new_ones_the_oldest() -> None:
    future = [f"offload-0a1b2c3d-2099010{day}T000000Z.backup" for day in range(1, 8)]
    made = [f"offload-0a1b2c3d-2026112{day}T120000Z.backup" for day in range(5)]
    assert expired([*future, *made], 3, OURS, NOW) == made[:2]


@pytest.mark.root
def test_files_of_another_owner_cannot_make_our_backups_the_oldest(tmp_path: Path) -> None:
    ours, theirs = ([tmp_path / f"offload-20200{month}0{day}T000000Z.backup" for day in (1, 2, 3)] for month in (1, 2))
    for file in (*ours, *theirs):
        file.touch()
    for file in theirs:
        os.chown(file, UNPRIVILEGED_UID, -1)
    (tmp_path / "offload-20200301T000000Z.backup").symlink_to(theirs[0])
    folder.remove_expired(tmp_path, 2, IN_HOME, folder.SCHEDULED)
    assert [file.exists() for file in ours] == [False, True, True]
    assert all(file.exists() for file in theirs)


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
