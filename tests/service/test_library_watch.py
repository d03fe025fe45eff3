"""What `up` says about a library that is missing or back."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.library import missing
from dagster_offload.service import library_watch
from dagster_offload.service.library_watch import LibraryWatch
from tests.support.ledger import Bench


class Watched:
    """A watch, and what it said. `ledger`: only a library that is empty is compared with it."""

    def __init__(self, ledger: Any = None) -> None:
        self.said: list[str] = []
        no_documents: Any = SimpleNamespace(run=lambda _query: False)
        self.watch = LibraryWatch(self.said.append, ledger or no_documents)

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
    assert line.endswith("Mount it, or set library.path (OFFLOAD_LIBRARY) to the folder of documents")
    assert watched.look(library) == []
    away.rename(library)
    assert watched.look(library) == [f"library: {library} is back"]
    assert watched.look(library) == []


def test_a_mount_point_whose_disk_is_gone_is_missing_though_it_can_be_listed(tmp_path: Path, ledger_url: str) -> None:
    library = tmp_path / "library"
    library.mkdir()
    with Ledger(ledger_url) as ledger:
        watched = Watched(ledger)
        assert watched.look(library) == [], "a new ledger has nothing to lose"
        Bench(ledger).put("letter.txt")
        (line,) = watched.look(library)
    assert line.startswith(f"library: {library} is empty, while the ledger has documents (if it is to be empty: ")
    assert "--accept-vanished). Nothing changes until its files are back. Mount it, or" in line
    (library / "letter.txt").touch()
    assert watched.look(library) == [f"library: {library} is back"]


def test_an_empty_library_stays_as_it_was_while_the_ledger_is_away(tmp_path: Path) -> None:
    def away(_query: object) -> None:
        raise LedgerUnavailable("Postgres is away")

    assert Watched(SimpleNamespace(run=away)).look(tmp_path) == []


def test_another_library_is_looked_at_by_itself(tmp_path: Path) -> None:
    watched = Watched()
    assert watched.look(None) == []
    assert len(watched.look(tmp_path / "gone")) == 1
    assert watched.look(tmp_path) == [], "it was never missing"
    assert len(watched.look(tmp_path / "gone")) == 1, "an edit to a missing library is told each time"
    assert watched.look(None) == []


def test_a_library_that_hangs_holds_up_nothing_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(missing, "_look", lambda _library: end.wait())
    monkeypatch.setattr(library_watch, "PATIENCE_SECONDS", 0.01)
    watched = Watched()
    (line,) = watched.look(tmp_path)
    assert "cannot be listed: no answer within" in line
    end.set()
    missing._looks[tmp_path].result()
    assert watched.look(tmp_path) == [f"library: {tmp_path} is back"]
