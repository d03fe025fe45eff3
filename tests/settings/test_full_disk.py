"""Files of settings on a full disk: the old file stays whole, the error names it, and nothing is left beside it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.service.ui.passwords import write_password_file
from dagster_offload.settings.writing import write_private
from tests.support.disks import small_disk


@pytest.mark.root
@pytest.mark.parametrize("write", [write_private, write_password_file])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(write: Callable[[Path, str], None]) -> None:
    with small_disk(1) as disk:
        file = disk.folder / "settings"
        write(file, "old")
        before = file.read_text()
        disk.fill()
        with pytest.raises(SettingsError, match=r"settings cannot be written: No space left on device"):
            write(file, "new" * 100_000)
        assert file.read_text() == before
        disk.free()
        assert os.listdir(disk.folder) == ["settings"]
        assert file.stat().st_mode & 0o777 == 0o600
