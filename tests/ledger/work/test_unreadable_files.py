"""Files that a scan could not read, and when it tries again."""

import errno
import os
from typing import Any

import pytest

from dagster_offload.engine import scan as scanning
from dagster_offload.ledger.core.rows import State
from dagster_offload.library.digests import digest
from dagster_offload.library.files import FileStat
from dagster_offload.library.walk import UnreadableFolder, Walk, walk
from dagster_offload.stages.graph import EXTRACT
from tests.support.ledger import Bench
from tests.support.scanned_library import Library


def test_an_unreadable_file_fails_with_the_next_step_and_never_aborts_a_scan(
    library: Library, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(file: FileStat) -> str:
        if file.key == "locked.txt":
            raise PermissionError(13, "Permission denied")
        return digest(file)

    library.write("locked.txt", "text")
    library.write("open.txt", "other")
    monkeypatch.setattr(scanning, "digest", refusing)
    assert library.scan().unreadable == 1
    item = bench.item("locked.txt", EXTRACT)
    assert (item["state"], item["attempts"]) == (State.FAILED, 0)
    assert item["reason"] == "unreadable: Permission denied: check the file's permissions, then scan again"
    assert bench.take(bench.worker(), [EXTRACT], keys=["locked.txt"]) is None
    monkeypatch.setattr(scanning, "digest", digest)
    os.chmod(library.folder / "locked.txt", 0o600)  # the changed ctime makes the scan read it again
    library.scan()
    assert bench.state("locked.txt", EXTRACT) == State.PENDING


@pytest.mark.rule("library-2")
def test_a_scan_tries_again_to_read_a_file_that_it_could_not_read_though_the_file_is_the_same(
    library: Library, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(file: FileStat) -> str:
        raise PermissionError(13, "Permission denied")

    library.write("shared.txt", "text")
    with monkeypatch.context() as refused:
        refused.setattr(scanning, "digest", refusing)
        assert library.scan().unreadable == 1
        assert library.scan().unreadable == 1
        assert library.differs() is None, "no scan is launched for it"
    report = library.scan()
    assert (report.changed, report.unreadable) == (1, 0)
    assert bench.state("shared.txt", EXTRACT) == State.PENDING


@pytest.mark.rule("library-2")
@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.ENFILE])
def test_a_machine_that_lacks_means_leaves_the_file_for_the_next_scan(
    library: Library, bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def failing(file: FileStat) -> str:
        raise OSError(code, os.strerror(code))

    library.write("a.txt", "text")
    with monkeypatch.context() as short:
        short.setattr(scanning, "digest", failing)
        report = library.scan()
    assert (report.unreadable, report.left_for_next_scan) == (0, 1)
    assert bench.sql("select key from documents") == []
    assert library.scan().added == 1


def test_a_broken_entry_keeps_only_itself_and_what_is_below_it(
    library: Library, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("Scan/a.txt", "Scan1.txt", "other.txt"):
        library.write(key, key)
    library.scan()
    for key in ("Scan/a.txt", "Scan1.txt"):
        (library.folder / key).unlink()

    def walk_of_a_damaged_folder(*arguments: Any) -> Walk:
        found = walk(*arguments)
        found.unreadable.append(UnreadableFolder("Scan", "input/output error"))
        return found

    monkeypatch.setattr(scanning, "walk", walk_of_a_damaged_folder)
    assert library.scan(accept_vanished=True).vanished == 1
    present = bench.sql("select key from documents where is_present order by key")
    assert [row["key"] for row in present] == ["Scan/a.txt", "other.txt"]
