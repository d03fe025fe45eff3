"""The progress of a worker, in documents, and the callback that reports it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class DocumentEnd(StrEnum):
    """How a worker's work on one document ended."""

    DONE = "done"
    FAILED = "failed"  # a document fault, and no attempt is left
    PUT_BACK = "put back"  # a document fault, and attempts are left
    DEFERRED = "deferred"  # a slot fault
    LEFT = "left"  # released unchanged, or the claim was lost
    MADE_WAY = "made way"  # released between two parts, because shorter documents are due


@dataclass(frozen=True)
class PartsRead:
    """How far a long document has been read for a stage, in parts; for `extract`, in pages read by OCR."""

    document: str
    stage: str
    done: int
    total: int
    pages_per_minute: float | None = None  # of this machine, for `extract`


def describe_parts_read(stage: str, done: int, total: int, pages_per_minute: float | None = None) -> str:
    """Progress in one long document, as a phrase: pages for `extract`, parts for the other stages."""
    pace = "" if pages_per_minute is None else f", {pages_per_minute:.1f} pages a minute"
    return f"page {done} of {total}{pace}" if stage == "extract" else f"{done} of {total} parts"


@dataclass
class ProgressCounts:
    """What a worker has done so far, in documents."""

    total: int = 0  # due at the start, or more if more became due
    done: int = 0
    failed: int = 0
    deferred: int = 0
    started: int = 0
    machine_fault: str | None = None  # the fault of this machine that documents wait for
    reading: PartsRead | None = None  # the long document reported last

    @property
    def ended(self) -> int:
        """Documents done, failed or deferred."""
        return self.done + self.failed + self.deferred

    def count(self, end: DocumentEnd) -> None:
        """Add one document."""
        if end is DocumentEnd.DONE:
            self.done += 1
        elif end is DocumentEnd.FAILED:
            self.failed += 1
        elif end is DocumentEnd.DEFERRED:
            self.deferred += 1
        self.total = max(self.total, self.ended)

    def add(self, other: "ProgressCounts") -> None:
        """Add what the same worker did afterwards."""
        self.total += other.total
        self.done += other.done
        self.failed += other.failed
        self.deferred += other.deferred
        self.started += other.started
        self.machine_fault, self.reading = other.machine_fault, other.reading


Progress = Callable[[ProgressCounts], None]
