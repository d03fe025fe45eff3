"""What a worker has done so far, in documents, and who is told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class DocumentEnd(StrEnum):
    """How a worker's turn at one document ended."""

    DONE = "done"
    FAILED = "failed"  # a fault of the document, and no attempt is left
    PUT_BACK = "put back"  # a fault of the document, which has attempts left
    DEFERRED = "deferred"  # a fault of the slot
    LEFT = "left"  # given back as it was, or no longer ours


@dataclass(frozen=True)
class PartsRead:
    """How far a long document has been read for a stage: parts, and for `extract` pages by OCR."""

    document: str
    stage: str
    done: int
    total: int


def describe_parts_read(stage: str, done: int, total: int) -> str:
    """How far a long document has come: its pages are read for `extract`, its parts for the other stages."""
    return f"page {done} of {total}" if stage == "extract" else f"{done} of {total} parts"


@dataclass
class ProgressCounts:
    """What a worker did so far, in documents."""

    total: int = 0  # due when it began; more where more came due meanwhile
    done: int = 0
    failed: int = 0
    deferred: int = 0
    started: int = 0
    machine_fault: str | None = None  # why documents wait for this machine to be put right
    reading: PartsRead | None = None  # the long document that was told of last
    # Extraction only: documents that failed and will be tried again, each with its reason. They are not in `ended`.
    to_retry: dict[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.deferred

    def count(self, end: DocumentEnd) -> None:
        if end is DocumentEnd.DONE:
            self.done += 1
        elif end is DocumentEnd.FAILED:
            self.failed += 1
        elif end is DocumentEnd.DEFERRED:
            self.deferred += 1
        self.total = max(self.total, self.ended)


Progress = Callable[[ProgressCounts], None]
