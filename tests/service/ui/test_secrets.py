"""The secret of a home and the password file."""

import os
from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.service.ui import passwords
from dagster_offload.service.ui.passwords import hash_password, is_password, read_password_file, write_password_file
from dagster_offload.service.ui.sessions import SECRET_NAME, Sessions, load_secret, read_secret


def test_the_secret_is_created_once_in_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    secret = load_secret(home)
    assert len(secret) >= 43
    assert load_secret(home) == secret
    assert (home / SECRET_NAME).stat().st_mode & 0o777 == 0o600
    assert os.listdir(home) == [SECRET_NAME]


def test_a_missing_secret_is_reported_and_not_replaced_while_it_is_only_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"No such file.*a running UI follows it"):
        read_secret(tmp_path)
    assert os.listdir(tmp_path) == []
    with pytest.raises(SettingsError, match="cannot be written"):
        load_secret(tmp_path / "no home")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_secret_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    load_secret(tmp_path)
    (tmp_path / SECRET_NAME).chmod(mode)
    with pytest.raises(SettingsError, match=f"{SECRET_NAME}.*other users"):
        load_secret(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 50])
def test_a_secret_that_is_empty_or_too_short_is_refused(tmp_path: Path, content: bytes) -> None:
    load_secret(tmp_path)
    (tmp_path / SECRET_NAME).write_bytes(content)
    with pytest.raises(SettingsError, match=SECRET_NAME):
        load_secret(tmp_path)


def test_the_secret_shows_in_no_repr() -> None:
    assert "t" * 43 not in repr(Sessions("t" * 43, "scrypt:hash"))


def test_a_password_is_recognised_and_its_file_has_only_a_salted_hash(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "password"
    write_password_file(file, hash_password("correct horse — 말"))
    line = read_password_file(file)
    assert is_password(line, "correct horse — 말")
    assert not is_password(line, "correct horse")
    assert not is_password(line, "")
    assert not is_password(line, "x" * 100_000)
    assert "horse" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert hash_password("correct horse — 말") != line


@pytest.mark.parametrize("password", ["", "seven77", "x" * 1025])
def test_a_password_that_is_too_short_or_too_long_is_refused(password: str) -> None:
    with pytest.raises(SettingsError, match="8 to 1024"):
        hash_password(password)


@pytest.mark.parametrize(
    "content", ["hunter2-in-plain-text", "scrypt:1:1:1:c2FsdA==:aGFzaA==", f"{passwords._PREFIX}:%:%", "", "é"]
)
def test_a_file_without_a_hash_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    file = tmp_path / "password"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"OFFLOAD_UI_PASSWORD_FILE.*dagster-offload password") as refused:
        read_password_file(file)
    assert not content or content not in str(refused.value)


def test_a_password_file_that_others_can_write_or_that_is_missing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    with pytest.raises(SettingsError, match="No such file"):
        read_password_file(file)
    write_password_file(file, hash_password("correct horse"))
    file.chmod(0o666)
    with pytest.raises(SettingsError, match="everybody"):
        read_password_file(file)
