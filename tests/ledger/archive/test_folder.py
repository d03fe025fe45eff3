"""The folder of backups: names, what is removed, and who can enter it."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dagster_offload.errors import BackupError
from dagster_offload.ledger.archive import folder
from dagster_offload.ledger.archive.folder import expired, refuse_library
from dagster_offload.settings import load_settings
from tests.support.users import UNPRIVILEGED_UID

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def test_only_old_backups_of_the_same_kind_are_removed() -> None:
    made = [f"offload-2026112{day}T120000Z.backup" for day in range(5)]
    others = ["before-step-0015-20261101T000000Z.backup", "mine.backup", "offload-mine.backup", "letter.txt"]
    assert expired([*made, *others], 3, NOW) == made[:2]
    assert expired([*made, *others], 7, NOW) == []
    assert expired([*made, *others], 3, NOW, "before-step") == []


def test_backups_before_migrations_are_counted_apart() -> None:
    made = [f"before-step-003{step}-20261128T12000{step}Z-00ff0{step}.backup" for step in range(4)]
    later = datetime(2026, 11, 29, tzinfo=UTC)
    assert expired([*made, "before-step-0033-mine.backup"], 3, later, "before-step") == made[:1]


def test_backups_of_a_time_when_the_clock_was_wrong_do_not_make_new_ones_the_oldest() -> None:
    future = [f"offload-2099010{day}T000000Z.backup" for day in range(1, 8)]
    made = [f"offload-2026112{day}T120000Z.backup" for day in range(5)]
    assert expired([*future, *made], 3, NOW) == made[:2]


@pytest.mark.root
def test_files_of_another_owner_cannot_make_our_backups_the_oldest(tmp_path: Path) -> None:
    ours, theirs = ([tmp_path / f"offload-20200{month}0{day}T000000Z.backup" for day in (1, 2, 3)] for month in (1, 2))
    for file in (*ours, *theirs):
        file.touch()
    for file in theirs:
        os.chown(file, UNPRIVILEGED_UID, -1)
    (tmp_path / "offload-20200301T000000Z.backup").symlink_to(theirs[0])
    folder.remove_expired(tmp_path, 2, folder.SCHEDULED)
    assert [file.exists() for file in ours] == [False, True, True]
    assert all(file.exists() for file in theirs)


def test_two_backups_of_one_second_have_different_names() -> None:
    names = {folder.name_before_step(33, NOW) for _ in range(20)}
    assert len(names) == 20
    assert {folder.made_at(name, folder.BEFORE_MIGRATION) for name in names} == {NOW}


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
