"""Files that are too large or take too long: they fail with a reason, and no other document waits for them."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.engine.extraction import pool, run
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.scan import library_differs, scan
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.limits import Children
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.work import redo
from dagster_offload.stages.graph import EXTRACT
from tests.support.engine import Engine
from tests.support.patience import PATIENCE_SECONDS

LETTER = "Dear landlord, the heating has been cold since Monday. Yours, Ada Lovelace."
TEBIBYTE = 1024**4


def sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


@pytest.mark.rule("library-6")
def test_a_huge_file_fails_with_a_reason_and_is_never_read(engine: Engine) -> None:
    """Computing its digest alone would take an hour."""
    sparse(engine.library / "a huge disk image.txt", TEBIBYTE)
    (engine.library / "letter.txt").write_text(LETTER)
    report = engine.scan()
    assert (report.found, report.added, report.unreadable) == (2, 2, 1)
    assert engine.state("letter.txt", EXTRACT) == State.DONE
    (problem,) = engine.ledger.run(status.problems, 10)
    assert (problem.document, problem.stage, problem.state) == ("a huge disk image.txt", EXTRACT, "failed")
    assert problem.reason is not None
    assert problem.reason.startswith("too_large: the file has 1 TiB, and the limit is 512 MiB")
    assert "OFFLOAD_MAX_FILE_SIZE" in problem.reason
    assert engine.ledger.run(redo.retry, [EXTRACT]) == []  # a retry would reach the same limit


def test_a_huge_file_is_not_scanned_again_until_the_limit_allows_it(engine: Engine) -> None:
    path = engine.library / "minutes.txt"
    path.write_text(LETTER * 100)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    small, large = engine.settings(max_file_size="1KiB"), engine.settings(max_file_size="1MiB")
    assert scan(small, engine.ledger).unreadable == 1
    assert library_differs(small, engine.ledger) is None
    assert scan(small, engine.ledger).unreadable == 0
    assert engine.state("minutes.txt", EXTRACT) == State.FAILED
    assert library_differs(large, engine.ledger) is not None
    assert scan(large, engine.ledger).changed == 1
    run_extraction(large, engine.ledger)
    assert engine.state("minutes.txt", EXTRACT) == State.DONE
    assert library_differs(large, engine.ledger) is None


def test_a_file_that_times_out_is_reported_and_the_others_continue_meanwhile(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters_are_read = threading.Event()

    class Limited(Extractor):
        """An extractor with a short time limit for a.html, whose outcome is kept until the letters are read."""

        def extract(self, path: Path, *given: Any, **options: Any) -> Extracted:
            is_slow = path.name == "a.html"
            self.time_limit_seconds = 5.0 if is_slow else PATIENCE_SECONDS
            try:
                return super().extract(path, *given, **options)
            finally:
                assert not is_slow or letters_are_read.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(pool, "Extractor", Limited)
    monkeypatch.setattr(run, "children_for", lambda wanted, _: Children(min(wanted, 2), 2 * 1024**3))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (engine.library / "a.html").write_text("<div>" * 300_000)  # takes the extractor minutes
    letters = [f"letter {number}.txt" for number in range(5)]
    for name in letters:
        (engine.library / name).write_text(f"{LETTER} {name}")
    scan(engine.settings(), engine.ledger)
    beside = engine.beside(run_extraction, engine.settings(), engine.ledger)
    engine.wait_until(
        "select 1 from work_items where stage = 'extract' having count(*) filter (where state = 'done') = 5 "
        "and count(*) filter (where state = 'claimed') = 1"
    )
    letters_are_read.set()
    beside.result()
    item = engine.item("a.html", EXTRACT)
    assert (item["state"], item["attempts"]) == (State.PENDING, 1)
    assert "no text after 5 s: the extractor was stopped" in item["reason"]
