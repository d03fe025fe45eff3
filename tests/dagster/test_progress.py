"""What a run's log says of how far it is."""

from types import SimpleNamespace
from typing import Any

from dagster_offload.defs.progress import parts_progress, progress
from dagster_offload.engine.progress import PartsRead, ProgressCounts


def context_with(lines: list[str]) -> Any:
    return SimpleNamespace(log=SimpleNamespace(info=lines.append))


def test_a_long_documents_parts_are_told_by_tenths() -> None:
    lines: list[str] = []
    tell, counts = parts_progress(context_with(lines)), ProgressCounts(total=1)
    for done in range(401):
        counts.reading = PartsRead("book.pdf", "summarize", done, 400)
        tell(counts)
    assert lines == [f"book.pdf: summarize: {40 * tenth} of 400 parts" for tenth in range(1, 11)]


def test_documents_are_told_by_tenths_beside_parts() -> None:
    lines: list[str] = []
    tell, counts = progress(context_with(lines)), ProgressCounts(total=100)
    counts.reading = PartsRead("book.pdf", "summarize", 200, 400)
    for done in range(1, 101):
        counts.done = done
        tell(counts)
    assert lines[0] == "book.pdf: summarize: 200 of 400 parts"
    assert lines[1:] == [f"{10 * tenth} done, 0 failed, 0 deferred of 100 documents" for tenth in range(1, 11)]


def test_a_scans_pages_are_told_by_tenths() -> None:
    lines: list[str] = []
    tell, counts = parts_progress(context_with(lines)), ProgressCounts(total=1)
    for page in range(1, 301):
        counts.reading = PartsRead("scan.pdf", "extract", page, 300)
        tell(counts)
    assert lines == [f"extracting scan.pdf: page {30 * tenth} of 300" for tenth in range(1, 11)]
