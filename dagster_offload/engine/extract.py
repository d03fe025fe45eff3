"""Extracts the text of every due document on all cores. Each core has a lane with its own extractor process.

The caller's thread uses the ledger: it claims documents slightly ahead of the lanes and stores their results in groups,
so that no extractor waits for the ledger. Claims that no lane has started are released with the worker's other claims.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dagster_offload import timing
from dagster_offload.engine.extract_pool import Ended, TextLanes, Unread, Waits
from dagster_offload.engine.progress import DocumentEnd, PartsRead, Progress, ProgressCounts
from dagster_offload.errors import DocumentFault, OffloadError
from dagster_offload.extraction.limits import children_for, memory_of_this_machine
from dagster_offload.extraction.protocol import PageRead
from dagster_offload.extraction.tesseract import Reader, find_reader
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.rows import Claim, NewResult, State
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.work import claims, deferrals, documents, ocr_pages
from dagster_offload.ledger.work.finish import Finish, finish
from dagster_offload.postgres.room import shortage_of
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import EXTRACT

logger = logging.getLogger(__name__)

# A file that changed while it was read waits for the next scan, which stores its new digest.
CHANGED_FILE_PAUSE_SECONDS = 60.0
# A document that waits for a repair of this machine is not retried while the others are read.
MACHINE_PAUSE_SECONDS = 600.0
# How much is claimed ahead of the lanes: what they do in this time at the pace of the last group, up to so many each.
AHEAD_SECONDS = 0.5
MOST_AHEAD_PER_LANE = 32
# A text waits at most this long for others to share its transaction.
GROUP_WAIT_SECONDS = 0.25


def run_extraction(
    settings: Settings, ledger: Ledger, run_id: str | None = None, on_progress: Progress | None = None
) -> ProgressCounts:
    """Extract everything that is due, on all cores. Returns the documents counted by outcome."""
    with Worker(ledger, "scan", [EXTRACT], run_id) as worker:
        return extract_due(settings, ledger, worker, on_progress=on_progress)


def extract_due(
    settings: Settings,
    ledger: Ledger,
    worker: Worker,
    documents: Sequence[str] | None = None,
    on_progress: Progress | None = None,
) -> ProgressCounts:
    """Extract what is due of these documents, or of all, until nothing is. An exception stops the extractors."""
    counts = ProgressCounts(total=ledger.run(claims.count_due, [EXTRACT], documents))
    cores = min(os.cpu_count() or 1, counts.total)
    if cores:
        reader = find_reader(settings.ocr, settings.ocr_languages)
        writer = _ResultWriter(settings, ledger, worker, recipes(settings), documents, counts, on_progress, reader)
        memory, max_bytes = memory_of_this_machine(), settings.max_file_size
        for children, alone in ((children_for(cores, memory), False), (children_for(1, memory), True)):
            with TextLanes(
                children, settings.library, reader, writer.store_page, settings.home, max_bytes=max_bytes
            ) as lanes:
                writer.run(lanes, alone=alone)
        ledger.run(ocr_pages.forget_unwanted)
    return counts


@dataclass
class _ResultWriter:
    """Claims documents for the lanes and stores the outcomes."""

    settings: Settings
    ledger: Ledger
    worker: Worker
    recipes: Mapping[str, str]
    documents: Sequence[str] | None
    counts: ProgressCounts
    on_progress: Progress | None
    reader: Reader
    _report_lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, lanes: TextLanes, *, alone: bool = False) -> None:
        """Work until nothing is due. `alone`: the documents that must run alone, one after the other."""
        ahead, ended = 0, list[Ended]()
        while True:
            began = time.monotonic()
            wanted = lanes.count + ahead - lanes.held if self._may_claim() else 0
            taken = self._commit(ended, wanted, alone=alone)
            if self.worker.is_lost:
                self._release([*lanes.take_unstarted(), *taken])
            else:
                self._give(lanes, taken)
                if any(not claim.items for claim in taken):  # done without extraction: a lane still waits for work
                    ended = []
                    continue
            if not lanes.held:
                return
            ended = self._fetch(lanes, enough=min(max(1, ahead // 2), lanes.held))
            if not alone:
                pace = len(ended) / (time.monotonic() - began)
                ahead = min(int(pace * AHEAD_SECONDS), MOST_AHEAD_PER_LANE * lanes.count)

    def _may_claim(self) -> bool:
        """Whether more documents may be claimed: the worker is not lost, and their texts fit on the disk."""
        if (shortage := shortage_of(self.settings)) is not None:
            self.counts.machine_fault = shortage
        return not (self.worker.is_lost or shortage)

    def _give(self, lanes: TextLanes, taken: Sequence[Claim]) -> None:
        known = self._known_pages([claim for claim in taken if claim.items])
        for claim in taken:
            if claim.items:
                lanes.give(claim, known.get(claim.items[0].input_digest, {}))

    def _known_pages(self, taken: Sequence[Claim]) -> Mapping[str, Mapping[int, str]]:
        if not taken or not self.reader.can_read:
            return {}
        return self.ledger.run(ocr_pages.known, [claim.items[0].input_digest for claim in taken], self.reader.languages)

    def _fetch(self, lanes: TextLanes, enough: int) -> list[Ended]:
        """Wait for `enough` documents to end, or for those that end soon. [] if the lanes hold none any more."""
        while (first := lanes.fetch(timing.current().extraction_idle)) is None:
            self._release(lanes.take_unstarted())
            if not lanes.held:
                return []
        ended = [first]
        until = time.monotonic() + GROUP_WAIT_SECONDS
        while len(ended) < enough and (more := lanes.fetch(max(0.0, until - time.monotonic()))) is not None:
            ended.append(more)
        return ended

    def _release(self, unread: Sequence[Claim]) -> None:
        for claim in unread:
            self.ledger.run(claims.release, self.worker.id, claim, "not started")

    def _commit(self, ended: Sequence[Ended], wanted: int, *, alone: bool) -> list[Claim]:
        """Store what ended and claim up to `wanted` documents, in one transaction."""
        try:
            ends, taken = self.ledger.run(self._write, ended, wanted, alone=alone)
        except OffloadError:  # Postgres stays unavailable
            raise
        except Exception:
            if len(ended) < 2:
                raise
            self._commit_one_by_one(ended)
            return self._commit([], wanted, alone=alone)
        self._count([*ends, *(DocumentEnd.DONE for claim in taken if not claim.items)])
        return taken

    def _commit_one_by_one(self, ended: Sequence[Ended]) -> None:
        """Store each outcome in its own transaction, so that one that Postgres refuses does not lose the others.

        Raises the last error.
        """
        refused: Exception | None = None
        for one in ended:
            try:
                self._commit([one], 0, alone=False)
            except Exception as error:  # noqa: BLE001 - raised when the others are written
                refused = error
        if refused is not None:
            raise refused

    def _write(
        self, cur: Cursor, ended: Sequence[Ended], wanted: int, *, alone: bool
    ) -> tuple[list[DocumentEnd], list[Claim]]:
        finishes = [Finish(end.claim, end.item, end.found) for end in ended if isinstance(end.found, NewResult)]
        held = finish(cur, self.worker.id, finishes, self.recipes, self.worker.run_id)
        ends = [DocumentEnd.DONE if was_held else DocumentEnd.LEFT for was_held in held]
        for entry in finishes:
            self.counts.to_retry.pop(entry.claim.document, None)
            if "ocr_pages" in (entry.result.value or {}):
                ocr_pages.forget(cur, entry.item)
        for end in ended:
            if isinstance(end.found, DocumentFault):
                ends.append(self._fail(cur, end, end.found))
            elif isinstance(end.found, Unread) and documents.is_settled_as(cur, end.found.seen):
                ends.append(self._fail(cur, end, end.found.fault))
            elif isinstance(end.found, Waits) and end.found.is_for_machine:
                self.counts.machine_fault = end.found.reason
                claims.postpone(cur, self.worker.id, end.claim, f"waits: {end.found.reason}", MACHINE_PAUSE_SECONDS)
                ends.append(DocumentEnd.LEFT)
            elif isinstance(end.found, (Waits, Unread)):
                ends.append(self._postpone(cur, end.claim, end.found.reason))
        if wanted <= 0:
            return ends, []
        taken = claims.take(
            cur,
            self.worker.id,
            [EXTRACT],
            self.recipes,
            self.documents,
            count=wanted,
            alone=alone,
            run_id=self.worker.run_id,
        )
        return ends, taken

    def _fail(self, cur: Cursor, end: Ended, fault: DocumentFault) -> DocumentEnd:
        state = deferrals.fail(
            cur, self.worker.id, end.claim, end.item, fault.code, fault.message, None, is_final=fault.is_final
        )
        logger.info("extract of %s: %s (%s)", end.claim.document, fault.message, state)
        if state is State.FAILED:
            self.counts.to_retry.pop(end.claim.document, None)
            return DocumentEnd.FAILED
        self.counts.to_retry[end.claim.document] = fault.message
        return DocumentEnd.PUT_BACK

    def _postpone(self, cur: Cursor, claim: Claim, reason: str) -> DocumentEnd:
        message = f"waits for the next scan: {reason}"
        claims.postpone(cur, self.worker.id, claim, message, CHANGED_FILE_PAUSE_SECONDS)
        return DocumentEnd.LEFT

    def store_page(self, claim: Claim, page: PageRead) -> None:
        """Store a page that OCR has read, or note that it begins, and report the progress."""
        (item,) = claim.items
        if page.text is None:
            self.ledger.run(ocr_pages.begin, claim, item, page.number, page.of)
            return
        languages = self.reader.languages
        self.ledger.run(ocr_pages.keep, claim, item, languages, page.number, page.of, page.text)
        with self._report_lock:
            self.counts.reading = PartsRead(claim.document, EXTRACT, page.number, page.of)
            self._report()

    def _count(self, ends: Sequence[DocumentEnd]) -> None:
        with self._report_lock:
            for end in ends:
                self.counts.count(end)
            if ends:
                self._report()

    def _report(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.counts)
