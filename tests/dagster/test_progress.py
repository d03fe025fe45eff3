"""The progress lines in a run's log."""

from types import SimpleNamespace
from typing import Any

from dagster_offload.defs.progress import parts_progress, progress
from dagster_offload.engine.progress import PartsRead, ProgressCounts


def context_with(lines: list[str]) -> Any:
    return SimpleNamespace(log=SimpleNamespace(info=lines.append))


def test_each_tenth_of_a_long_documents_parts_is_logged() -> None:
    lines: list[str] = []
    log, counts = parts_progress(context_with(lines)), ProgressCounts(total=1)
    for done in range(401):
        counts.reading = PartsRead("book.pdf", "summarize", done, 400)
        log(counts)
    assert lines == [f"book.pdf: summarize: {40 * tenth} of 400 parts" for tenth in range(1, 11)]


def test_each_tenth_of_the_documents_is_logged_beside_parts() -> None:
    lines: list[str] = []
    log, counts = progress(context_with(lines)), ProgressCounts(total=100)
    counts.reading = PartsRead("book.pdf", "summarize", 200, 400)
    for done in range(1, 101):
        counts.done = done
        log(counts)
    assert lines[0] == "book.pdf: summarize: 200 of 400 parts"
    assert lines[1:] == [f"{10 * tenth} done, 0 failed, 0 deferred of 100 documents" for tenth in range(1, 11)]


def test_each_tenth_of_a_documents_pages_is_logged() -> None:
    lines: list[str] = []
    log, counts = parts_progress(context_with(lines)), ProgressCounts(total=1)
    for page in range(1, 301):
        counts.reading = PartsRead("scan.pdf", "extract", page, 300)
        log(counts)
    assert lines == [f"extracting scan.pdf: page {30 * tenth} of 300" for tenth in range(1, 11)]
