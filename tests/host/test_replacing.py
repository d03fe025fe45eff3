"""Files that are replaced in one step: private from the first byte on, and nothing is left of what did not succeed."""

import os
from pathlib import Path

import pytest

from dagster_offload.host.replacing import create_file, replace_file, replacing


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with replacing(file) as draft:
        draft.write("né".encode())
        draft.flush()
        assert file.read_text() == "old"
        [beside] = [path for path in tmp_path.iterdir() if path != file]
        assert beside.stat().st_mode & 0o777 == 0o600
    assert file.read_text(encoding="utf-8") == "né"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_block_that_raises_changes_nothing_and_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def write_a_part() -> None:
        with replacing(file, suffix=".part") as draft:
            assert [name for name in os.listdir(tmp_path) if name.endswith(".part")]
            draft.write(b"new")
            raise error

    with pytest.raises(error):
        write_a_part()
    assert os.listdir(tmp_path) == ["file"]
    assert file.read_text() == "old"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "file", "text", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_a_file_that_another_process_has_created_is_kept(tmp_path: Path) -> None:
    create_file(tmp_path / "file", "first")
    create_file(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "first"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "missing" / "file", "text")
