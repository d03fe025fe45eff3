"""Whether the library is missing, with its reason, and how a look that hangs is left to itself."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.library import missing
from dagster_offload.library.missing import is_empty, is_no_folder, why_missing
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A library whose listing hangs until this is set, as on a network drive that is cut off."""
    end, real = threading.Event(), missing._look

    def hang(library: Path) -> OSError | bool:
        end.wait()
        return real(library)

    monkeypatch.setattr(missing, "_look", hang)
    yield end
    end.set()


def test_a_library_that_can_be_listed_is_not_missing(tmp_path: Path) -> None:
    assert why_missing(tmp_path, PATIENCE_SECONDS) is None, "also if it is empty"
    (tmp_path / "letter.txt").touch()
    assert why_missing(tmp_path, PATIENCE_SECONDS) is None


def test_a_missing_library_has_the_reason_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert why_missing(tmp_path / "gone", PATIENCE_SECONDS) == "cannot be listed: no such file or directory"
    assert why_missing(tmp_path / "file", PATIENCE_SECONDS) == "cannot be listed: not a directory"


def test_a_library_that_hangs_is_missing_and_holds_one_thread_until_it_answers(
    tmp_path: Path, ends: threading.Event
) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        assert (why_missing(tmp_path, 0.01) or "").startswith("cannot be listed: no answer within")
    assert len(set(threading.enumerate()) - before) == 1
    ends.set()
    missing._looks[tmp_path].result()
    assert why_missing(tmp_path, PATIENCE_SECONDS) is None, "the look that hung is over"
    tmp_path.rename(f"{tmp_path}-away")
    assert why_missing(tmp_path, PATIENCE_SECONDS) == "cannot be listed: no such file or directory", (
        "each call looks again"
    )


def test_a_folder_without_any_entry_is_empty(tmp_path: Path) -> None:
    assert is_empty(tmp_path)
    (tmp_path / ".hidden").touch()
    assert not is_empty(tmp_path)
    assert not is_empty(tmp_path / "gone")


def test_what_is_not_there_or_is_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_no_folder(tmp_path / "gone")
    assert is_no_folder(tmp_path / "file")
    assert not is_no_folder(tmp_path)


def test_a_library_that_hangs_may_be_a_folder(
    tmp_path: Path, ends: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing, "PATIENCE_SECONDS", 0.01)
    assert not is_no_folder(tmp_path)
    ends.set()
