"""A `.env` file or a home that another user may have written is refused with its path, the reason and the fix."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from dagster_offload.errors import LedgerUnavailable, SettingsError
from dagster_offload.postgres import prepare_home
from dagster_offload.settings import load_settings

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to create files of another user")
ROUTER = "http://attacker.example:8890"


@pytest.fixture(autouse=True)
def working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in list(os.environ):
        if name.startswith("OFFLOAD_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OFFLOAD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def env_file(working_folder: Path) -> Path:
    file = working_folder / ".env"
    file.write_text(f"OFFLOAD_DEEP_URL={ROUTER}\nOFFLOAD_DEEP_MODEL=m\nOFFLOAD_LANGUAGE=\n")
    file.chmod(0o600)
    return file


def give_to_daemon(path: Path) -> None:
    os.chown(path, pwd.getpwnam("daemon").pw_uid, -1)


def make_writable_by_all(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def give_to_a_group(path: Path) -> None:
    os.chown(path, -1, pwd.getpwnam("daemon").pw_gid)
    path.chmod(path.stat().st_mode | 0o020)


ATTACKS = pytest.mark.parametrize(
    ("attack", "message"),
    [
        pytest.param(give_to_daemon, "belongs to daemon", marks=needs_root),
        pytest.param(make_writable_by_all, "can be written by everybody"),
        pytest.param(give_to_a_group, "can be written by the group daemon", marks=needs_root),
    ],
)


def test_an_env_file_of_the_same_user_is_read(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    assert (settings.slots_section.deep.url, settings.language) == (ROUTER, "")
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "other")
    assert load_settings().slots_section.deep.model == "other"


@ATTACKS
def test_an_env_file_another_user_may_have_written_is_refused(
    env_file: Path, attack: Callable[[Path], None], message: str
) -> None:
    attack(env_file)
    with pytest.raises(SettingsError, match=message) as refused:
        load_settings()
    assert str(env_file) in str(refused.value)
    assert "chmod go-w .env" in str(refused.value)


@needs_root
def test_a_link_to_an_env_file_of_another_user_is_refused(env_file: Path) -> None:
    other = env_file.rename(env_file.with_name("other.env"))
    give_to_daemon(other)
    env_file.symlink_to(other)
    with pytest.raises(SettingsError, match="belongs to daemon"):
        load_settings()


def a_home_with(file: str, working_folder: Path) -> Path:
    home = working_folder / "home"
    (home / file).parent.mkdir(parents=True)
    home.chmod(0o700)
    (home / file).write_text("run_launcher: {module: attacker, class: Launcher}")
    return home


@ATTACKS
def test_a_home_another_user_may_have_written_into_is_refused(
    working_folder: Path, attack: Callable[[Path], None], message: str
) -> None:
    home = a_home_with("dagster/dagster.yaml", working_folder)
    assert load_settings().home == home
    attack(home)
    with pytest.raises(SettingsError, match=message) as refused:
        load_settings()
    assert f"OFFLOAD_HOME {home}" in str(refused.value)
    with pytest.raises(LedgerUnavailable, match=message):
        prepare_home(home)


@needs_root
def test_the_owner_of_a_home_of_another_user_is_told_and_no_mode_of_it(working_folder: Path) -> None:
    home = a_home_with("dagster/dagster.yaml", working_folder)
    give_to_daemon(home)
    with pytest.raises(SettingsError, match=r"run this as its owner, or choose a folder of your own$"):
        load_settings()


def test_an_empty_home_writable_by_everybody_is_made_private(working_folder: Path) -> None:
    home = working_folder / "home"
    home.mkdir()
    home.chmod(0o777)
    prepare_home(load_settings().home)
    assert not home.stat().st_mode & 0o022
