"""Lanes that extract text from files. Each lane is a thread with its own extractor process.

Documents are read before pages that need OCR. The pages of a document are read one at a time by all lanes, so a book of
scanned pages uses every core and holds up a letter for one page at most.

This module does not use the ledger: the caller gives claimed documents to the lanes and fetches the outcomes.
"""

import errno
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from dagster_offload.engine.extraction.tasks import Document, Tasks
from dagster_offload.errors import ChangedWhileRead, DocumentFault, MachineFault, OcrWanted
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.limits import Children
from dagster_offload.extraction.ocr.tesseract import Reader
from dagster_offload.extraction.protocol import PageRead
from dagster_offload.ledger.core.rows import Claim, ClaimedItem, NewResult
from dagster_offload.ledger.work.finish import output_digest
from dagster_offload.library.digests import locate
from dagster_offload.library.files import SeenFile, seen_as
from dagster_offload.library.handles import stat_file
from dagster_offload.library.placeholders import HAS_DATALESS_FILES, NOT_DOWNLOADED, is_not_downloaded
from dagster_offload.text.system_errors import words_of

# A file that changed while it was read waits for the next scan, which stores its new digest.
CHANGED_FILE_PAUSE_SECONDS = 60.0
# A document that waits for a download or for a repair of this machine is not retried while the others are read.
LONG_PAUSE_SECONDS = 600.0

OnPage = Callable[[Claim, PageRead, float], None]  # a page was read by OCR, in this many seconds


@dataclass(frozen=True)
class Waits:
    """The document could not be read: it waits for the next scan, for its download, or for a repair of this machine.

    It is not claimed again for `pause_seconds`.
    """

    reason: str
    pause_seconds: float = CHANGED_FILE_PAUSE_SECONDS
    is_for_machine: bool = False


@dataclass(frozen=True)
class Unread:
    """The file exists and its bytes cannot be read. It waits for the next scan if that would read the file again.

    If `seen` is the same as at the last scan, no scan would. Then `fault` is the document's fault.
    """

    reason: str
    fault: DocumentFault
    seen: SeenFile


@dataclass(frozen=True)
class Ended:
    """The outcome of one claimed document."""

    claim: Claim
    found: "Found"
    known_pages: Mapping[int, str] = field(default_factory=dict, repr=False)

    @property
    def item(self) -> ClaimedItem:
        """The claim's only work item."""
        (item,) = self.claim.items
        return item


# `OcrWanted`: the document has not ended. The caller gives it back with `read_pages`, or releases its claim.
Found = NewResult | DocumentFault | Waits | Unread | OcrWanted


class TextLanes:
    """Lanes as a context manager. An error in the block kills the running extractors.

    `held` counts the documents given and not yet fetched or taken back. `on_page` is called in the lanes' threads.
    `fetch` raises its errors, and every error of a lane that is not a document's fault.
    """

    def __init__(
        self,
        children: Children,
        library: Path | None,
        reader: Reader,
        on_page: OnPage,
        home: Path | None = None,
        *,
        max_bytes: int,
    ) -> None:
        """One lane for each of `children`. Files larger than `max_bytes` are not read. `home`: see `Extractor`."""
        self.count = children.count
        self.library = library
        self.on_page = on_page
        self.held = 0
        self._extractors = [
            Extractor(memory_limit_bytes=children.memory_limit_bytes, most_bytes=max_bytes, reader=reader, home=home)
            for _ in range(self.count)
        ]
        self._tasks = Tasks[DocumentFault | Waits | Unread]()
        self._ended: queue.SimpleQueue[Ended | BaseException] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(self.count, thread_name_prefix="extract")

    def __enter__(self) -> Self:
        for extractor in self._extractors:
            self._threads.submit(self._work, extractor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for extractor in self._extractors:
                extractor.close()
        self._tasks.close()
        self._threads.shutdown()

    def give(self, claim: Claim, known_pages: Mapping[int, str]) -> None:
        """Give a document to the next free lane. `known_pages`: the text of pages that OCR has already read, by number."""
        self.held += 1
        self._tasks.add(Document(claim, dict(known_pages)))

    def read_pages(self, claim: Claim, known_pages: Mapping[int, str], numbers: Sequence[int]) -> None:
        """Give a document whose pages `numbers` need OCR. All lanes read its pages when they have no documents to read."""
        self.held += 1
        self._tasks.add_pages(Document(claim, dict(known_pages)), numbers)

    @property
    def in_pages(self) -> int:
        """How many of the documents that are held have pages that are not read yet."""
        return self._tasks.in_pages

    @property
    def has_pages_for_all(self) -> bool:
        """Whether enough pages wait for every lane to begin one."""
        return self._tasks.pages >= self.count

    def take_unstarted(self) -> list[Claim]:
        """Take back the documents that no lane has started, without those given by `read_pages`."""
        unstarted = self._tasks.take_unstarted()
        self.held -= len(unstarted)
        return unstarted

    def end_pages(self) -> list[Claim]:
        """Begin no further page. Returns the documents of which no lane reads a page; the others end with `Waits`."""
        ended = self._tasks.end_pages(Waits("this worker is lost", pause_seconds=0.0))
        self.held -= len(ended)
        return [document.claim for document in ended]

    def fetch(self, timeout: float | None) -> Ended | None:
        """Wait up to `timeout` seconds for the next document to end; None if none did. `timeout` None = no limit."""
        try:
            ended = self._ended.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(ended, BaseException):
            raise ended
        self.held -= 1
        return ended

    def _work(self, extractor: Extractor) -> None:
        try:
            with extractor:
                while (task := self._tasks.take()) is not None:
                    self._do(*task, extractor)
        except BaseException as error:  # noqa: BLE001 - `fetch` raises it
            self._ended.put(error)

    def _do(self, document: Document, page: int | None, extractor: Extractor) -> None:
        began = time.monotonic()
        found = self._extract(document, page, extractor)
        seconds = time.monotonic() - began
        if page is not None:
            fault = None if isinstance(found, (NewResult, OcrWanted)) else found
            ended = self._tasks.page_ended(document, fault, seconds)
            if ended is not None:
                self._ended.put(Ended(document.claim, ended))
            return
        if isinstance(found, NewResult):
            found = replace(found, seconds=document.seconds + seconds)
        elif isinstance(found, OcrWanted) and document.seconds:  # otherwise its pages would be read for ever
            found = DocumentFault("ocr_crash", f"OCR returned nothing for {len(found.numbers)} pages that it has read")
        self._ended.put(Ended(document.claim, found, document.known))

    def _extract(self, document: Document, page: int | None, extractor: Extractor) -> Found:
        """Read a document without OCR, or, if `page` is a number, one page with it."""
        claim = document.claim
        (item,) = claim.items
        try:
            path = None if self.library is None else locate(self.library, claim.document)
        except OSError as error:
            return Waits(words_of(error))
        may_lack_bytes = path is None or HAS_DATALESS_FILES
        if self.library is not None and may_lack_bytes and is_not_downloaded(self.library, claim.document):
            return Waits(f"{NOT_DOWNLOADED.reason}: {NOT_DOWNLOADED.advice}", LONG_PAUSE_SECONDS)
        if self.library is None or path is None:
            return Waits("the file is gone, or in a folder that cannot be entered")

        began = time.monotonic()

        def on_page(read: PageRead) -> None:
            if read.text is not None:
                document.known[read.number] = read.text
                self.on_page(claim, read, time.monotonic() - began)

        try:
            found = extractor.extract(
                path,
                item.input_digest,
                library=self.library,
                known_pages=document.known if page is None else {},
                on_page=on_page,
                pages=() if page is None else (page,),
            )
        except MachineFault as fault:
            return Waits(str(fault), LONG_PAUSE_SECONDS, is_for_machine=True)
        except ChangedWhileRead:
            return _unread(claim.document, self.library, path, "the file changed", _OTHER_BYTES)
        except OSError as error:
            cause = f"{words_of(error)} ({errno.errorcode.get(error.errno or 0, 'no number')})"
            return _unread(claim.document, self.library, path, words_of(error), f"{cause}, {_SAME_FILE}")
        except (DocumentFault, OcrWanted) as answer:
            return answer
        return NewResult(found.outcome, output_digest(found.outcome, found.text), text=found.text, value=found.metadata)


_OTHER_BYTES = (
    "the file's bytes differ from those of the last scan, and its size and times do not: "
    "check its disk, save the file again, then scan"
)
_SAME_FILE = "and the file has not changed since the last scan: check its disk and its permissions, then retry it"


def _unread(key: str, library: Path, path: Path, reason: str, message: str) -> Unread | Waits:
    try:
        seen = seen_as(key, stat_file(library, path.relative_to(library).as_posix()))
    except OSError:
        return Waits(reason)
    return Unread(reason, DocumentFault("unreadable", message), seen)
