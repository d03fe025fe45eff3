"""`password`: writes a file with a hash, for OFFLOAD_UI_PASSWORD_FILE."""

import os
from pathlib import Path

from dagster_offload.service.ui.passwords import is_password, read_password_file
from tests.support.cli import Call


def test_the_password_is_read_from_standard_input_and_stored_as_a_hash(call: Call) -> None:
    result = call("password", input="correct horse\n")
    assert result.exit_code == 0, result.output
    file = Path(os.environ["OFFLOAD_HOME"], "ui-password")
    assert f"OFFLOAD_UI_PASSWORD_FILE={file}" in result.output
    assert "correct horse" not in result.output
    assert is_password(read_password_file(file), "correct horse")


def test_a_ui_that_uses_the_file_needs_no_new_start(call: Call) -> None:
    file = Path(os.environ["OFFLOAD_HOME"], "ui-password")
    assert call("password", input="correct horse").exit_code == 0
    os.environ["OFFLOAD_UI_PASSWORD_FILE"] = str(file)
    assert "The UI asks for the new password from now on" in call("password", input="another horse").output
    assert is_password(read_password_file(file), "another horse")


def test_another_file_can_be_chosen(call: Call, tmp_path: Path) -> None:
    assert call("password", "--file", str(tmp_path / "secret"), input="correct horse").exit_code == 0
    assert is_password(read_password_file(tmp_path / "secret"), "correct horse")


def test_a_short_password_is_refused_and_nothing_is_written(call: Call, tmp_path: Path) -> None:
    result = call("password", "--file", str(tmp_path / "secret"), input="short\n")
    assert result.exit_code == 2
    assert "8 to 1024 characters" in result.output
    assert "short" not in result.output
    assert not (tmp_path / "secret").exists()
