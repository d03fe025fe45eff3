"""Lanes that take texts out of files: a thread each with its own killable extractor. No ledger here.

Whoever keeps the books gives claimed documents and fetches what became of them; the lanes take them as they come.
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
    """Nothing was found out about the document: it waits for the next scan, or for this machine to be put right."""

    reason: str
    is_for_machine: bool = False


@dataclass(frozen=True)
class Unread:
    """The file is there and its bytes are not: it waits for the next scan, if that has a reason to look at it again.

    Where it is `seen` as the last scan saw it, none will: then the document has this `fault`.
    """

    reason: str
    fault: DocumentFault
    seen: SeenFile


@dataclass(frozen=True)
class Ended:
    """What became of a claimed document."""

    claim: Claim
    found: NewResult | DocumentFault | Waits | Unread

    @property
    def item(self) -> ClaimedItem:
        (item,) = self.claim.items
        return item


@dataclass(frozen=True)
class _Given:
    claim: Claim
    known_pages: Mapping[int, str] = field(repr=False)


class TextLanes:
    """Lanes as a context manager; leaving it by an error kills the extractors at work.

    `held` counts the documents that were given and not fetched again. `on_page` is called in the lanes' threads; what it
    raises, and what no document is to blame for, is raised by `fetch`.
    """

    def __init__(
        self,
        children: Children,
        library: Path | None,
        reader: Reader,
        on_page: OnPage,
        home: Path | None = None,
        *,
        most_bytes: int,
    ) -> None:
        """A lane for each of `children`; files of more than `most_bytes` are not read. `home`: see `Extractor`."""
        self.width = width = children.count
        self.library = library
        self.on_page = on_page
        self.held = 0
        self._extractors = [
            Extractor(memory_limit_bytes=children.memory_limit_bytes, most_bytes=most_bytes, reader=reader, home=home)
            for _ in range(width)
        ]
        self._given: queue.SimpleQueue[_Given | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Ended | BaseException] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(width, thread_name_prefix="extract")

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
        """A document for the next lane that is free; `known_pages` of it were read by OCR before."""
        self.held += 1
        self._given.put(_Given(claim, known_pages))

    def take_back(self) -> list[Claim]:
        """The documents that no lane has begun."""
        back: list[Claim] = []
        while (given := _next(self._given, 0.0)) is not None:
            back.append(given.claim)
        self.held -= len(back)
        return back

    def fetch(self, timeout: float | None) -> Ended | None:
        """The next document that ended, None where none does within `timeout` seconds (None: however long it takes)."""
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
        except BaseException as error:  # noqa: BLE001 - raised where the books are kept
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
    "its bytes are not those the last scan read, though its size and times are: "
    "check its disk, save the file again, then scan"
)
_SAME_FILE = "and the file is as the last scan saw it: check its disk and its permissions, then dagster-offload retry"


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
