"""Extracts the text of every due document on all cores. Each core has a lane with its own extractor process.

The caller's thread uses the ledger: it claims documents slightly ahead of the lanes and stores their results in groups,
so that no extractor waits for the ledger. Claims that no lane has started are released with the worker's other claims.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dagster_offload import timing
from dagster_offload.engine.extraction.pool import CHANGED_FILE_PAUSE_SECONDS, Ended, TextLanes, Unread, Waits
from dagster_offload.engine.progress import DocumentEnd, PartsRead, Progress, ProgressCounts
from dagster_offload.errors import DocumentFault, OcrWanted, OffloadError
from dagster_offload.extraction.limits import children_for, memory_of_this_machine
from dagster_offload.extraction.ocr.tesseract import Reader, find_reader
from dagster_offload.extraction.protocol import PageRead
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.rows import Claim, NewResult, State
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.work import claims, deferrals, documents, ocr_pages
from dagster_offload.ledger.work.finish import Finish, finish
from dagster_offload.ledger.work.ocr_pages import ReadPage, Turn
from dagster_offload.postgres.room import shortage_of
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.plain_text import escaped

logger = logging.getLogger(__name__)

# How much is claimed ahead of the lanes: what they do in this time at the pace of the last group, up to so many each.
AHEAD_SECONDS = 0.5
MOST_AHEAD_PER_LANE = 32
# A text waits at most this long for others to share its transaction.
GROUP_WAIT_SECONDS = 0.25
WATCH_SECONDS = 1.0


def run_extraction(
    settings: Settings,
    ledger: Ledger,
    run_id: str | None = None,
    on_progress: Progress | None = None,
    look_for_files: Callable[[], None] | None = None,
) -> ProgressCounts:
    """Extract everything that is due, on all cores. Returns the documents counted by outcome.

    OCR may take days. Meanwhile `look_for_files` is called every OFFLOAD_SCAN_INTERVAL seconds; the documents that it
    adds are read before the next pages.
    """
    with Worker(ledger, "scan", [EXTRACT], run_id) as worker:
        return extract_due(settings, ledger, worker, on_progress=on_progress, look_for_files=look_for_files)


def extract_due(
    settings: Settings,
    ledger: Ledger,
    worker: Worker,
    keys: Sequence[str] | None = None,
    on_progress: Progress | None = None,
    look_for_files: Callable[[], None] | None = None,
    watch: Callable[[], None] | None = None,
) -> ProgressCounts:
    """Extract what is due of the documents with these keys, or of all, until nothing is. An exception stops the extractors.

    `watch` is called about every second. It may raise.
    """
    counts = ProgressCounts(total=ledger.run(claims.count_due, [EXTRACT], keys))
    if counts.total:
        reader = find_reader(settings.ocr, settings.ocr_languages)
        # All cores read the pages of one document, but one document without OCR is read by one.
        cores = (os.cpu_count() or 1) if reader.can_read else min(os.cpu_count() or 1, counts.total)
        between_looks = (
            None if look_for_files is None else _Every(settings.library_section.scan_interval, look_for_files)
        )
        writer = _ResultWriter(
            settings,
            ledger,
            worker,
            recipes(settings),
            keys,
            counts,
            on_progress,
            reader,
            between_looks,
            None if watch is None else _Every(WATCH_SECONDS, watch),
        )
        memory, max_bytes = memory_of_this_machine(), settings.library_section.max_file_size
        for children, alone in ((children_for(cores, memory), False), (children_for(1, memory), True)):
            with TextLanes(
                children, settings.library, reader, writer.store_page, settings.home, max_bytes=max_bytes
            ) as lanes:
                writer.lane_count = lanes.count
                writer.run(lanes, alone=alone)
        ledger.run(ocr_pages.forget_unwanted)
    return counts


class _Every:
    """Calls `act` at once, and again when it was not called for `seconds`."""

    def __init__(self, seconds: float, act: Callable[[], None]) -> None:
        self._seconds = seconds
        self._act = act
        self._last = -math.inf

    def __call__(self) -> None:
        if time.monotonic() - self._last >= self._seconds:
            self.at_once()

    def at_once(self) -> None:
        """Call `act`, whenever it was called before."""
        self._act()
        self._last = time.monotonic()


class _Written(NamedTuple):
    """The outcome of one transaction: how documents ended, new claims, and documents whose pages are to be read now."""

    ends: list[DocumentEnd]
    taken: list[Claim]
    in_pages: list[Ended]


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
    look_for_files: _Every | None = None
    watch: _Every | None = None
    lane_count: int = 1
    shortage: str | None = None  # of space on the disk, when it was last looked at
    _report_lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, lanes: TextLanes, *, alone: bool = False) -> None:
        """Work until nothing is due. `alone`: the documents that must run alone, one after the other."""
        ahead, ended = 0, list[Ended]()
        while True:
            began = time.monotonic()
            if self.watch is not None and any(isinstance(end.found, Waits | Unread) for end in ended):
                self.watch.at_once()  # the library may be what is missing, so postpone no document for it
            taken = self._commit(ended, self._wanted(lanes, ahead, alone=alone), lanes, alone=alone)
            if self.worker.is_lost:
                # Another worker may have its documents by now, and the pages of a book take hours.
                self._release([*lanes.take_unstarted(), *lanes.end_pages(), *taken])
            else:
                self._give(lanes, taken)
                if any(not claim.items for claim in taken):  # done without extraction: a lane still waits for work
                    ended = []
                    continue
            if not lanes.held:
                self.counts.machine_fault = self.shortage or self.counts.machine_fault
                return
            if self.watch is not None:
                self.watch()
            ended = self._fetch(lanes, enough=min(max(1, ahead // 2), lanes.held))
            if lanes.in_pages and self.look_for_files is not None:
                self.look_for_files()
            if not alone:
                pace = len(ended) / (time.monotonic() - began)
                ahead = min(int(pace * AHEAD_SECONDS), MOST_AHEAD_PER_LANE * lanes.count)

    def _wanted(self, lanes: TextLanes, ahead: int, *, alone: bool) -> int:
        """How many documents to claim. While OCR reads pages: those without OCR, or the next one with it."""
        if not self._may_claim():
            return 0
        if not lanes.in_pages or alone:
            return lanes.count + ahead - lanes.held
        wanted = lanes.count + ahead - (lanes.held - lanes.in_pages)
        without_ocr = self.ledger.run(ocr_pages.count_without_ocr, self.documents, wanted)
        return without_ocr if without_ocr or lanes.has_pages_for_all else 1

    def _may_claim(self) -> bool:
        """Whether more documents may be claimed: the worker is not lost, and their texts fit on the disk."""
        self.shortage = shortage_of(self.settings)
        return not (self.worker.is_lost or self.shortage)

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
        """Wait for `enough` documents to end, or for those that end soon. [] if the lanes hold none."""
        while (first := lanes.fetch(timing.current().extraction_idle)) is None:
            if self.watch is not None:
                self.watch()
            if lanes.in_pages:  # new documents go before the next pages, so the caller looks for them
                return []
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

    def _commit(self, ended: Sequence[Ended], wanted: int, lanes: TextLanes, *, alone: bool) -> list[Claim]:
        """Store what ended and claim up to `wanted` documents, in one transaction."""
        try:
            ends, taken, in_pages = self.ledger.run(self._write, ended, wanted, alone=alone)
        except OffloadError:  # Postgres stays unavailable
            raise
        except Exception:
            if len(ended) < 2:
                raise
            self._commit_one_by_one(ended, lanes)
            return self._commit([], wanted, lanes, alone=alone)
        for end in in_pages:
            self._read_pages(end, lanes)
        self._count([*ends, *(DocumentEnd.DONE for claim in taken if not claim.items)])
        return taken

    def _read_pages(self, end: Ended, lanes: TextLanes) -> None:
        assert isinstance(end.found, OcrWanted)  # noqa: S101 - for the type checker
        if lanes.has_pages_for_all:  # it was claimed beside others whose pages come first
            self._release([end.claim])
        else:
            lanes.read_pages(end.claim, end.known_pages, end.found.numbers)

    def _commit_one_by_one(self, ended: Sequence[Ended], lanes: TextLanes) -> None:
        """Store each outcome in its own transaction, so that one that Postgres refuses does not lose the others.

        Raises the last error.
        """
        refused: Exception | None = None
        for one in ended:
            try:
                self._commit([one], 0, lanes, alone=False)
            except Exception as error:  # noqa: BLE001 - raised when the others are written
                refused = error
        if refused is not None:
            raise refused

    def _write(self, cur: Cursor, ended: Sequence[Ended], wanted: int, *, alone: bool) -> _Written:
        finishes = [Finish(end.claim, end.item, end.found) for end in ended if isinstance(end.found, NewResult)]
        held = finish(cur, self.worker.id, finishes, self.recipes, self.worker.run_id)
        ends = [DocumentEnd.DONE if was_held else DocumentEnd.LEFT for was_held in held]
        for entry in finishes:
            if "ocr_pages" in (entry.result.value or {}):
                ocr_pages.forget(cur, entry.item)
        in_pages: list[Ended] = []
        for end in ended:
            if isinstance(end.found, OcrWanted):
                known, wanted_pages = len(end.known_pages), len(end.found.numbers)
                turn = ocr_pages.put_behind(cur, self.worker.id, end.claim, end.item, known, wanted_pages)
                if turn is Turn.NOW:
                    in_pages.append(end)
            elif isinstance(end.found, DocumentFault):
                ends.append(self._fail(cur, end, end.found))
            elif isinstance(end.found, Unread) and documents.is_settled_as(cur, end.found.seen):
                ends.append(self._fail(cur, end, end.found.fault))
            elif isinstance(end.found, Waits) and end.found.is_for_machine:
                self.counts.machine_fault = end.found.reason
                ends.append(self._postpone(cur, end.claim, f"waits: {end.found.reason}", end.found.pause_seconds))
            elif isinstance(end.found, Waits):
                message = f"waits for the next scan: {end.found.reason}"
                ends.append(self._postpone(cur, end.claim, message, end.found.pause_seconds))
            elif isinstance(end.found, Unread):
                message = f"waits for the next scan: {end.found.reason}"
                ends.append(self._postpone(cur, end.claim, message, CHANGED_FILE_PAUSE_SECONDS))
        if wanted <= 0:
            return _Written(ends, [], in_pages)
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
        return _Written(ends, taken, in_pages)

    def _fail(self, cur: Cursor, end: Ended, fault: DocumentFault) -> DocumentEnd:
        state = deferrals.fail(
            cur, self.worker.id, end.claim, end.item, fault.code, fault.message, None, is_final=fault.is_final
        )
        logger.info("extract of %s: %s (%s)", escaped(end.claim.document), fault.message, state)
        return DocumentEnd.FAILED if state is State.FAILED else DocumentEnd.PUT_BACK

    def _postpone(self, cur: Cursor, claim: Claim, message: str, seconds: float) -> DocumentEnd:
        claims.postpone(cur, self.worker.id, claim, message, seconds)
        return DocumentEnd.LEFT

    def store_page(self, claim: Claim, page: PageRead, seconds: float) -> None:
        """Store a page that OCR has read in `seconds`, and report the progress."""
        (item,) = claim.items
        read = ReadPage(page.number, page.text or "", self.reader.languages, seconds, self.lane_count)
        done, total, per_minute = self.ledger.run(ocr_pages.keep, self.worker.id, claim, item, read)
        with self._report_lock:
            self.counts.reading = PartsRead(claim.document, EXTRACT, done, total, per_minute)
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
