"""What `up` says about a library that is missing or back."""

import threading
from pathlib import Path

import pytest

from dagster_offload.library import missing
from dagster_offload.service import library_watch
from dagster_offload.service.library_watch import LibraryWatch


class Watched:
    """A watch, and what it said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.watch = LibraryWatch(self.said.append)

    def look(self, library: Path | None) -> list[str]:
        """One whole look. Returns what was said because of it."""
        self.said.clear()
        if self.watch.errand is not None:
            self.watch.errand.due_at = float("-inf")
        self.watch.check(library)
        if self.watch.errand is not None:
            self.watch.errand.wait()
        self.watch.check(library)
        return list(self.said)


@pytest.mark.rule("pipeline-5")
def test_a_library_that_becomes_missing_is_told_once_and_so_is_its_return(tmp_path: Path) -> None:
    watched, library, away = Watched(), tmp_path / "library", tmp_path / "away"
    library.mkdir()
    assert watched.look(library) == []
    library.rename(away)
    (line,) = watched.look(library)
    assert line.startswith(f"library: {library} cannot be listed: no such file or directory. Nothing changes until")
    assert line.endswith("Mount it, or set OFFLOAD_LIBRARY (--library) to the folder of documents")
    assert watched.look(library) == []
    away.rename(library)
    assert watched.look(library) == [f"library: {library} is back"]
    assert watched.look(library) == []


def test_another_library_is_looked_at_by_itself(tmp_path: Path) -> None:
    watched = Watched()
    assert watched.look(None) == []
    assert len(watched.look(tmp_path / "gone")) == 1
    assert watched.look(tmp_path) == [], "it was never missing"
    assert len(watched.look(tmp_path / "gone")) == 1, "an edit to a missing library is told each time"
    assert watched.look(None) == []


def test_a_library_that_hangs_holds_up_nothing_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(missing, "_look", lambda _library: end.wait() and None)
    monkeypatch.setattr(library_watch, "PATIENCE_SECONDS", 0.01)
    watched = Watched()
    (line,) = watched.look(tmp_path)
    assert "cannot be listed: no answer within" in line
    end.set()
    missing._looks[tmp_path].result()
    assert watched.look(tmp_path) == [f"library: {tmp_path} is back"]
