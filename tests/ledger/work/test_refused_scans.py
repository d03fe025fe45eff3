"""Scans that would lose many documents are refused; what rules and names leave out is reported and keeps its results."""

import os
from typing import Any

import pytest

from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.scan import scan
from dagster_offload.engine.scan_report import KindLeftOut
from dagster_offload.errors import LibraryMissing, ScanRefused
from dagster_offload.host.machine import host_name
from dagster_offload.ledger.core import identity
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.identity import ScannedLibrary
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.work import documents
from dagster_offload.library.files import UnusableName
from dagster_offload.library.walk import Walk, walk
from dagster_offload.settings import load_settings
from dagster_offload.stages.graph import BUILT_IN, EXTRACT
from tests.support.ledger import Bench
from tests.support.scanned_library import Library


def test_a_library_that_is_not_there_changes_nothing(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text")
    library.scan()
    os.rename(library.folder, library.folder.parent / "elsewhere")
    with pytest.raises(LibraryMissing):
        library.scan()
    with pytest.raises(LibraryMissing):
        library.scan(accept_vanished=True)
    assert bench.ledger.run(documents.present_keys) == ["a.txt"]


@pytest.mark.rule("library-1")
def test_an_empty_library_with_a_full_ledger_is_refused_until_confirmed(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text")
    library.scan()
    (library.folder / "a.txt").unlink()
    with pytest.raises(ScanRefused, match="while the ledger has 1"):
        library.scan()
    assert bench.ledger.run(documents.present_keys) == ["a.txt"]
    assert library.scan(accept_vanished=True).vanished == 1
    assert bench.ledger.run(documents.present_keys) == []


@pytest.mark.rule("library-1")
@pytest.mark.parametrize(
    ("present", "gone", "is_refused"),
    [(50, 10, False), (50, 11, True), (55, 11, False), (54, 11, True), (12, 8, False)],
)
def test_a_scan_that_misses_more_than_a_fifth_and_more_than_ten_files_is_refused(
    library: Library, present: int, gone: int, is_refused: bool
) -> None:
    for number in range(present):
        library.write(f"{number:02}.txt", str(number))
    library.scan()
    for number in range(gone):
        (library.folder / f"{number:02}.txt").unlink()
    if is_refused:
        with pytest.raises(ScanRefused, match=rf"{gone} of {present} documents are gone"):
            library.scan()
        library.scan(accept_vanished=True)
    else:
        assert library.scan().vanished == gone


@pytest.mark.rule("library-3")
def test_names_that_cannot_be_keys_are_reported_and_make_no_documents(library: Library, bench: Bench) -> None:
    library.write("fine.txt", "text")
    library.write("a...b.txt", "text")
    report = library.scan()
    assert list(report.unusable_names) == ["a...b.txt"]
    assert list(bench.ledger.run(status.unusable_names)) == ["a...b.txt"]
    assert bench.ledger.run(documents.present_keys) == ["fine.txt"]
    bench.ledger.run(documents.replace_unusable_names, [UnusableName("x", "why"), UnusableName("x", "twice")])
    assert bench.ledger.run(status.unusable_names) == {"x": "why"}


def test_a_home_inside_the_library_is_left_out_and_reported(library: Library) -> None:
    library.write("a.txt", "a")
    library.write("home/logs/up.txt", "a log")
    settings = load_settings(library=library.folder, home=library.folder / "home")
    report = scan(settings, library.bench.ledger)
    assert (report.found, report.left_out) == (1, {"home": KindLeftOut(1, ["home/"])})


@pytest.mark.rule("library-8")
def test_a_document_that_a_new_rule_leaves_out_keeps_its_results_and_returns_without_a_call(
    library: Library, bench: Bench
) -> None:
    library.write("archive/old.txt", "an old letter")
    library.write("new.txt", "a new letter")
    library.scan()
    run_extraction(library.settings, bench.ledger)
    library.write(".offloadignore", "archive/\n")
    report = library.scan()
    reason = "the pattern archive/ in .offloadignore matches it"
    assert (report.found, report.vanished) == (1, 1)
    assert report.no_longer_documents == {"archive/old.txt": reason}
    assert bench.item("archive/old.txt", EXTRACT)["reason"] == f"left out: {reason}"
    assert bench.state("archive/old.txt", EXTRACT) == State.GONE
    assert library.differs() is None
    (library.folder / ".offloadignore").unlink()
    assert library.scan().returned == 1
    assert bench.state("archive/old.txt", EXTRACT) == State.DONE
    assert len(bench.sql("select 1 from results where stage = 'extract'")) == 2


@pytest.mark.rule("library-1")
def test_rules_that_would_leave_out_most_documents_are_refused_and_named_until_confirmed(
    library: Library, bench: Bench
) -> None:
    for number in range(12):
        library.write(f"archive/{number:02}.txt", str(number))
    library.write("letter.txt", "a letter")
    library.scan()
    library.write(".offloadignore", "archive/\n")
    with pytest.raises(ScanRefused, match="12 of 13 documents are now left out") as refused:
        library.scan()
    assert "Left out: 12 because the pattern archive/ in .offloadignore matches it." in str(refused.value)
    assert "--accept-vanished" in str(refused.value)
    assert bench.state("archive/00.txt", EXTRACT) == State.PENDING
    assert library.scan(accept_vanished=True).vanished == 12


@pytest.mark.rule("library-9")
def test_a_document_that_icloud_has_removed_from_this_machine_stays_present(library: Library, bench: Bench) -> None:
    path = library.write("letters/a.txt", "a letter")
    library.scan()
    path.rename(path.with_name(".a.txt.icloud"))  # now the library has no other document
    report = library.scan()
    assert (report.found, report.vanished) == (0, 0)
    assert report.left_out == {"not_downloaded": KindLeftOut(1, ["letters/a.txt"])}
    assert bench.ledger.run(documents.present_keys) == ["letters/a.txt"]
    assert bench.state("letters/a.txt", EXTRACT) == State.PENDING
    assert library.differs() is None


def move_library(library: Library, name: str) -> None:
    """Work with another path from now on."""
    library.folder = library.folder.parent / name


@pytest.mark.rule("library-13")
def test_another_library_is_refused_and_changes_nothing_until_a_person_says_that_it_has_moved(
    library: Library, bench: Bench
) -> None:
    for number in range(8):
        library.write(f"paper-{number}.txt", str(number))
    library.scan()
    papers = library.folder
    move_library(library, "letters")
    for number in range(8):
        library.write(f"letter-{number}.txt", str(number))
    with pytest.raises(ScanRefused, match=f"holds the library {papers} .*{library.folder} has 0 of its 8") as refused:
        library.scan()
    assert "another home (OFFLOAD_HOME)" in str(refused.value)
    assert str(refused.value).endswith(f"confirm it: dagster-offload scan --library {library.folder} --accept-vanished")
    move_library(library, papers.name)
    assert (library.scan().found, library.scan().returned) == (8, 0)
    move_library(library, "letters")
    assert library.scan(accept_vanished=True).vanished == 8
    assert library.scan().vanished == 0


@pytest.mark.rule("library-13")
@pytest.mark.parametrize(("kept", "is_refused"), [(2, False), (1, True)])
def test_a_library_that_has_moved_is_known_by_half_of_its_documents(
    library: Library, kept: int, is_refused: bool
) -> None:
    for number in range(4):
        library.write(f"{number}.txt", str(number))
    library.scan()
    move_library(library, "moved")
    for number in range(kept):
        library.write(f"{number}.txt", str(number))
    if is_refused:
        with pytest.raises(ScanRefused, match="has 1 of its 4 documents"):
            library.scan()
    else:
        assert library.scan().vanished == 2


@pytest.mark.rule("library-13")
def test_a_library_under_another_path_that_is_not_mounted_is_said_to_be_empty(library: Library) -> None:
    library.write("a.txt", "a")
    library.scan()
    move_library(library, "moved")
    library.folder.mkdir()
    with pytest.raises(ScanRefused, match=f"no document was found in {library.folder}.*Is it mounted") as refused:
        library.scan()
    assert f"holds the library {library.folder.parent / 'library'}" in str(refused.value)


@pytest.mark.rule("library-13")
def test_the_same_folder_under_another_path_is_the_same_library(library: Library) -> None:
    library.write("a.txt", "a")
    library.write("b.txt", "b")
    library.write("c.txt", "c")
    library.scan()
    link = library.folder.parent / "link"
    link.symlink_to(library.folder)
    (library.folder / "a.txt").unlink()
    (library.folder / "b.txt").unlink()
    library.folder = link
    assert library.scan().vanished == 2


def test_an_empty_ledger_takes_any_library(library: Library) -> None:
    library.scan()
    move_library(library, "another")
    library.write("a.txt", "a")
    assert library.scan().added == 1


@pytest.mark.rule("library-13")
def test_of_two_libraries_that_are_first_scanned_at_one_moment_the_ledger_takes_one(
    library: Library, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ScannedLibrary("/letters", "attic")

    def walk_meanwhile(*args: Any, **kwargs: Any) -> Walk:
        bench.ledger.run(identity.note_library, first, None)
        return walk(*args, **kwargs)

    library.write("a.txt", "a")
    monkeypatch.setattr("dagster_offload.engine.scan.walk", walk_meanwhile)
    with pytest.raises(ScanRefused, match=r"library /letters \(on attic\) began .* Nothing was changed: scan again"):
        library.scan()
    monkeypatch.undo()
    with bench.ledger.transaction() as cur:
        cur.execute(  # in another container, whose processes have the ids of ours
            "insert into workers (kind, host, boot_id, pid) values ('scan', %s, 'b', %s)", [host_name(), os.getpid()]
        )
    with pytest.raises(ScanRefused, match=r"holds the library /letters .*, and another scan is running. Nothing was"):
        library.scan()
    assert bench.ledger.run(identity.scanned_library) == first
    with bench.ledger.transaction() as cur:
        cur.execute("update workers set ended_at = now()")
    assert library.scan().added == 1


def test_a_scan_of_a_project_that_is_refused_names_what_a_project_has(library: Library, bench: Bench) -> None:
    with Ledger(bench.ledger.conninfo, "offload_papers") as ledger:
        migrate(ledger, BUILT_IN)
        library.write("a.txt", "a")
        scan(library.settings, ledger)
        move_library(library, "another")
        library.write("b.txt", "b")
        with pytest.raises(ScanRefused) as refused:
            scan(library.settings, ledger)
    assert "another `name` of the component" in str(refused.value)
    assert "accept_vanished: true" in str(refused.value)
    assert "dagster-offload" not in str(refused.value)
