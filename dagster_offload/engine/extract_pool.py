"""Lanes that extract text from files. Each lane is a thread with its own extractor process.

This module does not use the ledger: the caller gives claimed documents to the lanes and fetches the outcomes.
"""

import errno
import queue
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from dagster_offload.errors import ChangedWhileRead, DocumentFault, MachineFault
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.limits import Children
from dagster_offload.extraction.protocol import PageRead
from dagster_offload.extraction.tesseract import Reader
from dagster_offload.ledger.core.rows import Claim, ClaimedItem, NewResult
from dagster_offload.ledger.work.finish import output_digest
from dagster_offload.library.digests import locate
from dagster_offload.library.files import SeenFile, seen_as
from dagster_offload.library.handles import stat_file

T = TypeVar("T")

OnPage = Callable[[Claim, PageRead], None]


@dataclass(frozen=True)
class Waits:
    """The document could not be read: it waits for the next scan, or for a repair of this machine."""

    reason: str
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
    found: NewResult | DocumentFault | Waits | Unread

    @property
    def item(self) -> ClaimedItem:
        """The claim's only work item."""
        (item,) = self.claim.items
        return item


@dataclass(frozen=True)
class _Given:
    claim: Claim
    known_pages: Mapping[int, str] = field(repr=False)


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
        self._given: queue.SimpleQueue[_Given | None] = queue.SimpleQueue()
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
        for _ in self._extractors:
            self._given.put(None)
        self._threads.shutdown()

    def give(self, claim: Claim, known_pages: Mapping[int, str]) -> None:
        """Give a document to the next free lane. `known_pages`: the text of pages that OCR has already read, by number."""
        self.held += 1
        self._given.put(_Given(claim, known_pages))

    def take_unstarted(self) -> list[Claim]:
        """Take back the documents that no lane has started."""
        unstarted: list[Claim] = []
        while (given := _next(self._given, 0.0)) is not None:
            unstarted.append(given.claim)
        self.held -= len(unstarted)
        return unstarted

    def fetch(self, timeout: float | None) -> Ended | None:
        """Wait up to `timeout` seconds for the next document to end; None if none did. `timeout` None = no limit."""
        ended = _next(self._ended, timeout)
        if isinstance(ended, BaseException):
            raise ended
        self.held -= ended is not None
        return ended

    def _work(self, extractor: Extractor) -> None:
        try:
            with extractor:
                while (given := self._given.get()) is not None:
                    self._ended.put(Ended(given.claim, self._extract(given, extractor)))
        except BaseException as error:  # noqa: BLE001 - `fetch` raises it
            self._ended.put(error)

    def _extract(self, given: _Given, extractor: Extractor) -> NewResult | DocumentFault | Waits | Unread:
        claim = given.claim
        (item,) = claim.items
        try:
            path = None if self.library is None else locate(self.library, claim.document)
        except OSError as error:
            return Waits(_message(error))
        if self.library is None or path is None:
            return Waits("the file is gone, or in a folder that cannot be entered")
        began = time.monotonic()
        try:
            found = extractor.extract(
                path,
                item.input_digest,
                library=self.library,
                known_pages=given.known_pages,
                on_page=lambda page: self.on_page(claim, page),
            )
        except MachineFault as fault:
            return Waits(str(fault), is_for_machine=True)
        except ChangedWhileRead:
            return _unread(claim.document, self.library, path, "the file changed", _OTHER_BYTES)
        except OSError as error:
            cause = f"{_message(error)} ({errno.errorcode.get(error.errno or 0, 'no number')})"
            return _unread(claim.document, self.library, path, _message(error), f"{cause}, {_SAME_FILE}")
        except DocumentFault as fault:
            return fault
        digest = output_digest(found.outcome, found.text)
        seconds = time.monotonic() - began
        return NewResult(found.outcome, digest, text=found.text, value=found.metadata, seconds=seconds)


_OTHER_BYTES = (
    "the file's bytes differ from those of the last scan, and its size and times do not: "
    "check its disk, save the file again, then scan"
)
_SAME_FILE = (
    "and the file has not changed since the last scan: check its disk and its permissions, then dagster-offload retry"
)


def _unread(key: str, library: Path, path: Path, reason: str, message: str) -> Unread | Waits:
    try:
        seen = seen_as(key, stat_file(library, path.relative_to(library).as_posix()))
    except OSError:
        return Waits(reason)
    return Unread(reason, DocumentFault("unreadable", message), seen)


def _message(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _next(waiting: "queue.SimpleQueue[T]", timeout: float | None) -> T | None:
    try:
        return waiting.get(timeout=timeout)
    except queue.Empty:
        return None
