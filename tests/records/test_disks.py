"""Exports to a disk that is full or becomes read-only: the old file stays, and the error names the place."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.records import export
from dagster_offload.records.columns import columns
from dagster_offload.settings import load_settings
from tests.support.disks import small_disk


def letters(count: int) -> list[dict[str, Any]]:
    return [{"document": f"letters/{number}.txt", "state": "done"} for number in range(count)]


DOCUMENT = columns(load_settings())[:1]


@pytest.mark.parametrize("form", ["jsonl", "csv", "html", "parquet"])
def test_a_full_disk_leaves_the_old_file_and_names_it(form: str) -> None:
    with small_disk(1) as disk:
        file = disk.folder / f"r.{form}"
        export.write_file(letters(3), DOCUMENT, form, file)
        before = file.read_bytes()
        many = ({"document": f"{number}-{os.urandom(500).hex()}.txt", "state": "done"} for number in range(5_000))
        with pytest.raises(
            SettingsError, match=rf"{file} cannot be written: No space left on device; choose another place"
        ):
            export.write_file(many, DOCUMENT, form, file)
        assert file.read_bytes() == before
        assert os.listdir(disk.folder) == [file.name]


def test_notes_on_a_disk_that_becomes_full_are_those_of_the_export_before() -> None:
    with small_disk(1) as disk:
        folder = disk.folder / "notes"
        export.write_notes(letters(3), DOCUMENT, folder, None)
        with pytest.raises(SettingsError, match=r"No space left on device; choose another place"):
            export.write_notes(letters(1_000), DOCUMENT, folder, None)
        found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
        assert found == {export.MANIFEST, *(f"letters/{number}.txt.md" for number in range(3))}
        assert export.write_notes(letters(5), DOCUMENT, folder, None) == export.Exported(5, 2, 0)


def test_notes_of_an_export_that_broke_off_are_kept_and_removed_once_their_record_is_gone(tmp_path: Path) -> None:
    def breaking() -> Iterator[dict[str, Any]]:
        yield from letters(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.write_notes(breaking(), DOCUMENT, tmp_path, None)
    assert export.write_notes(letters(2), DOCUMENT, tmp_path, None) == export.Exported(2, 0, 1)
    assert not (tmp_path / "letters/2.txt.md").exists()


def test_a_disk_that_becomes_read_only_is_named_and_the_next_export_goes_on() -> None:
    with small_disk(1) as disk:

        def remounting() -> Iterator[dict[str, Any]]:
            yield from letters(2)
            subprocess.run(["mount", "-o", "remount,ro", disk.folder], check=True)
            yield from letters(3)[2:]

        with pytest.raises(SettingsError, match=r"Read-only file system; choose another place"):
            export.write_notes(remounting(), DOCUMENT, disk.folder / "notes", None)
        subprocess.run(["mount", "-o", "remount,rw", disk.folder], check=True)
        assert export.write_notes(letters(3), DOCUMENT, disk.folder / "notes", None) == export.Exported(3, 1, 0)
        assert not list(disk.folder.rglob("*.new"))
