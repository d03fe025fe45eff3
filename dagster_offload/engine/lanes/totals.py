"""What one worker has started and done, over all its lanes at all its slots. The limit counts each document once."""

from dataclasses import dataclass, field

from dagster_offload.engine.progress import DocumentEnd, PartsRead, Progress, ProgressCounts
from dagster_offload.ledger.core.rows import Claim


@dataclass
class Totals:
    """The counts of one worker, and the largest number of documents that it may start. Belongs to one event loop."""

    limit: int | None = None
    on_progress: Progress | None = None
    counts: ProgressCounts = field(default_factory=ProgressCounts)
    ended: int = 0  # the number of documents whose work ended, however it ended
    done: set[int] = field(default_factory=set)  # the documents whose last work ended as done
    failed: set[int] = field(default_factory=set)  # the documents of which a stage failed
    _claimed: dict[int, int] = field(default_factory=dict)  # by document: the token of its first claim

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.counts.started >= self.limit

    def within_limit(self, documents: int) -> int:
        """How many of so many documents the limit allows."""
        return documents if self.limit is None else min(documents, self.limit)

    def note_due(self, documents: int) -> None:
        """Raise the total: so many documents are due beside those that were started."""
        self.counts.total = max(self.counts.total, self.within_limit(self.counts.started + documents))

    def count_ahead(self) -> None:
        """Count a document before it is claimed, so that lanes that claim at the same time cannot exceed the limit."""
        self.counts.started += 1

    def note_claim(self, claim: Claim | None) -> None:
        """Undo `count_ahead` if no document was claimed, or one that is counted already: the limit counts documents."""
        if claim is None or claim.document_id in self._claimed:
            self.counts.started -= 1
        else:
            self._claimed[claim.document_id] = claim.token

    def note_release(self, claim: Claim) -> None:
        """Undo `note_claim` for a document that was not started."""
        if self._claimed.get(claim.document_id) == claim.token:
            del self._claimed[claim.document_id]
            self.counts.started -= 1

    def count(self, document_id: int, end: DocumentEnd) -> None:
        """Count one document and report the progress. A document whose work ends twice as done, or as failed, counts once."""
        self.ended += 1
        if document_id in self.done:
            self.done.remove(document_id)
            self.counts.done -= 1
        if end is DocumentEnd.DONE:
            self.done.add(document_id)
        if end is not DocumentEnd.FAILED or document_id not in self.failed:
            self.counts.count(end)
        if end is DocumentEnd.FAILED:
            self.failed.add(document_id)
        self._report()

    def report_part(self, read: PartsRead) -> None:
        """Report progress within a long document."""
        self.counts.reading = read
        self._report()

    def _report(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.counts)
