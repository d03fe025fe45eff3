"""The extractor keeps temporary files only where no other user could read them or plant others."""

import gc
import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest

from dagster_offload.errors import ExtractorUnavailable
from dagster_offload.extraction import private_folder
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.private_folder import CandidateFolder, best_first, inspect_folder, make_private_folder
from dagster_offload.host.ownership import Me, me, others_may_write, stranger
from dagster_offload.host.python_process import python_command

PDF = Path(__file__).parents[2] / "fixtures" / "library" / "reading" / "greenhouse-controller-manual.pdf"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as another user")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the temporary folder of the system in these tests."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(private_folder, "SYSTEM_FOLDERS", ())
    return folder


def test_the_folder_of_the_child_is_private_and_removed_with_the_child(shared: Path) -> None:
    with Extractor() as extractor:
        extractor.extract(PDF)
        (folder,) = shared.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert list(folder.iterdir()) == []
    assert list(shared.iterdir()) == []


MAKE_A_FOLDER = """
import sys
from pathlib import Path
from dagster_offload.extraction.private_folder import make_private_folder

folder = make_private_folder()
Path(folder.name, "page.png").write_text("a page")
print(folder.name, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_a_folder_in_use_is_not(shared: Path) -> None:
    owner = subprocess.Popen(
        python_command("-c", MAKE_A_FOLDER), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        page = Path(owner.stdout.readline().strip(), "page.png")
        with make_private_folder():
            assert page.exists()
        owner.kill()
    with make_private_folder() as folder:
        assert list(shared.iterdir()) == [Path(folder)]


def test_a_folder_is_closed_once_and_also_if_nobody_cleans_it_up(shared: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    folder = make_private_folder()
    folder.cleanup()
    folder.cleanup()
    assert open_files() == before

    def forget() -> None:
        make_private_folder()
        gc.collect()

    with pytest.warns(ResourceWarning, match="Implicitly cleaning up"):
        forget()
    assert open_files() == before
    assert list(shared.iterdir()) == []


def test_a_temporary_folder_in_which_others_may_rename_files_is_not_used(shared: Path, tmp_path: Path) -> None:
    shared.chmod(0o777)  # not sticky: every user may replace its files
    with make_private_folder(tmp_path) as folder:
        assert Path(folder).parent == tmp_path
    with pytest.raises(ExtractorUnavailable, match=r"shared can be written by everybody.*TMPDIR"):
        make_private_folder()


@needs_root
def test_a_temporary_folder_of_another_user_is_not_used(shared: Path, tmp_path: Path) -> None:
    os.chown(shared, pwd.getpwnam("daemon").pw_uid, -1)
    assert "belongs to daemon" in inspect_folder(shared).danger
    with make_private_folder(tmp_path) as folder:
        assert Path(folder).parent == tmp_path


def test_suitable_folders_are_tried_first() -> None:
    noexec, full = CandidateFolder(Path("/a"), runs_programs=False), CandidateFolder(Path("/b"), free_bytes=0)
    good, foreign = CandidateFolder(Path("/c")), CandidateFolder(Path("/d"), danger="belongs to daemon")
    assert best_first([foreign, noexec, full, good]) == [good, full, noexec, foreign]
    assert best_first([noexec, full]) == [full, noexec]


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "words"),
    [
        (1000, 1000, 0o600, None),
        (0, 0, 0o644, None),
        (1000, 1000, 0o664, None),  # a group with no other members
        (1000, 50, 0o664, "can be written by the group"),
        (1000, 1000, 0o606, "can be written by everybody"),
        (1001, 1000, 0o600, "belongs to"),
    ],
)
def test_a_file_that_others_may_have_written_is_recognized(uid: int, gid: int, mode: int, words: str | None) -> None:
    status = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))
    found = stranger(status, Me(1000, 1000))
    assert found == words if words is None else words in str(found)
    assert others_may_write(status, me()) is None or mode & 0o022
