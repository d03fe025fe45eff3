"""The text of every due document, on all cores: a thread each with its own killable extractor. No slot, no permits."""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dagster_offload.documents import ChangedWhileRead, locate
from dagster_offload.errors import DocumentFault
from dagster_offload.extraction import Extractor, PageRead
from dagster_offload.ledger import Ledger, claims, deferrals, ocr_pages, results
from dagster_offload.ledger.records import Claim, ClaimedItem, NewResult, State
from dagster_offload.ledger.results import output_digest
from dagster_offload.ledger.workers import Worker
from dagster_offload.ocr import Reader, find_reader
from dagster_offload.settings import Settings
from dagster_offload.stages import EXTRACT, recipes
from dagster_offload.tally import PartsRead, Progress, Tally, WalkEnd

logger = logging.getLogger(__name__)

# A file that changed under us is the next scan's: by then the ledger has its new digest.
CHANGED_FILE_PAUSE_SECONDS = 60.0


def run_extraction(
    settings: Settings, ledger: Ledger, run_id: str | None = None, on_progress: Progress | None = None
) -> Tally:
    """Extract everything that is due, on all cores."""
    with Worker(ledger, "scan", [EXTRACT], run_id) as worker:
        return extract_due(settings, ledger, worker, on_progress=on_progress)


def extract_due(
    settings: Settings,
    ledger: Ledger,
    worker: Worker,
    documents: Sequence[str] | None = None,
    on_progress: Progress | None = None,
) -> Tally:
    """Extract what is due, of these documents or of all; returns once nothing is. What stops it stops the extractors."""
    tally = Tally(total=ledger.run(claims.count_due, [EXTRACT], documents))
    width = min(os.cpu_count() or 1, tally.total)
    if width:
        reader = find_reader(settings.ocr, settings.ocr_languages)
        work = _Extraction(settings, ledger, worker, recipes(settings), documents, tally, on_progress, reader)
        with ThreadPoolExecutor(width, thread_name_prefix="extract") as threads:
            try:
                for lane in [threads.submit(work.lane) for _ in range(width)]:
                    lane.result()
            except BaseException:
                work.stop()
                raise
        work.lane(alone=True)
        ledger.run(ocr_pages.forget_unwanted)
    return tally


@dataclass
class _Extraction:
    """What the threads share."""

    settings: Settings
    ledger: Ledger
    worker: Worker
    recipes: Mapping[str, str]
    documents: Sequence[str] | None
    tally: Tally
    on_progress: Progress | None
    reader: Reader
    _extractors: list[Extractor] = field(default_factory=list)
    _is_stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stop(self) -> None:
        """Nothing new is begun, and what is being extracted is given back."""
        self._is_stopped = True
        for extractor in self._extractors:
            extractor.close()

    def lane(self, *, alone: bool = False) -> None:
        """Documents one after the other; `alone` those that must have no other beside them."""
        with Extractor(reader=self.reader) as extractor:
            self._extractors.append(extractor)
            while not (self._is_stopped or self.worker.is_lost):
                claim = self.ledger.run(
                    claims.take,
                    self.worker.id,
                    [EXTRACT],
                    self.recipes,
                    self.documents,
                    alone=alone,
                    run_id=self.worker.run_id,
                )
                if claim is None:
                    return
                self._count(self._extract(claim, extractor) if claim.items else WalkEnd.DONE)

    def _extract(self, claim: Claim, extractor: Extractor) -> WalkEnd:
        (item,) = claim.items
        library = self.settings.library
        path = None if library is None else locate(library, claim.document)
        if path is None:
            return self._leave_for_next_scan(claim, "the file is gone")
        try:
            found = extractor.extract(
                path,
                item.input_digest,
                known_pages=self.ledger.run(ocr_pages.known, item, self.reader.languages),
                on_page=lambda page: self._tell_page(claim, item, page),
            )
        except ChangedWhileRead:
            return self._leave_for_next_scan(claim, "the file changed")
        except OSError as error:
            return self._leave_for_next_scan(claim, error.strerror or type(error).__name__)
        except DocumentFault as fault:
            state = self.ledger.run(
                deferrals.fail, self.worker.id, claim, item, fault.code, fault.message, None, is_final=fault.is_final
            )
            logger.info("extract of %s: %s (%s)", claim.document, fault.message, state)
            return WalkEnd.FAILED if state is State.FAILED else WalkEnd.PUT_BACK
        digest = output_digest(found.outcome, found.text)
        result = NewResult(found.outcome, digest, text=found.text, value=found.metadata)
        was_held = self.ledger.run(
            results.finish, self.worker.id, claim, item, result, self.recipes, self.worker.run_id
        )
        if "ocr_pages" in found.metadata:
            self.ledger.run(ocr_pages.forget, item)
        return WalkEnd.DONE if was_held else WalkEnd.LEFT

    def _tell_page(self, claim: Claim, item: ClaimedItem, page: PageRead) -> None:
        """Keep a page that is read, and say how far the document has come."""
        if page.text is None:
            self.ledger.run(ocr_pages.begin, claim, item, page.number, page.of)
            return
        languages = self.reader.languages
        self.ledger.run(ocr_pages.keep, claim, item, languages, page.number, page.of, page.text)
        with self._lock:
            self.tally.reading = PartsRead(claim.document, EXTRACT, page.number, page.of)
            if self.on_progress is not None:
                self.on_progress(self.tally)

    def _leave_for_next_scan(self, claim: Claim, reason: str) -> WalkEnd:
        words = f"waits for the next scan: {reason}"
        self.ledger.run(claims.postpone, self.worker.id, claim, words, CHANGED_FILE_PAUSE_SECONDS)
        return WalkEnd.LEFT

    def _count(self, end: WalkEnd) -> None:
        with self._lock:
            self.tally.count(end)
            if self.on_progress is not None:
                self.on_progress(self.tally)
