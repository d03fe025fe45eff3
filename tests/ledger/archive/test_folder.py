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

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def test_only_old_backups_of_the_same_kind_are_removed() -> None:
    made = [f"offload-2026112{day}T120000Z.backup" for day in range(5)]
    others = ["before-step-0015-20261101T000000Z.backup", "mine.backup", "offload-mine.backup", "letter.txt"]
    assert expired([*made, *others], keep=3) == made[:2]
    assert expired([*made, *others], keep=7) == []
    assert expired([*made, *others], keep=3, kind="before-step") == []


def test_backups_before_migrations_are_counted_apart() -> None:
    made = [f"before-step-003{step}-20261128T12000{step}Z-00ff0{step}.backup" for step in range(4)]
    assert expired([*made, "before-step-0033-mine.backup"], keep=3, kind="before-step") == made[:1]


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
