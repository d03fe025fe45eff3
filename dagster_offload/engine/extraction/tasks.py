"""What the extractors' lanes do next: documents first, in the order given, then pages that need OCR.

The lanes' threads and the caller's thread share one `Tasks`. It does no I/O and knows neither files nor the ledger.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dagster_offload.ledger.core.rows import Claim

Fault = TypeVar("Fault")


@dataclass
class Document:
    """A claimed document on its way through the lanes.

    `known` are the texts of the pages that OCR has read, by number from 1. `seconds` is the time of all lanes for them.
    """

    claim: Claim
    known: dict[int, str] = field(repr=False)
    seconds: float = 0.0


Task = tuple[Document, int | None]  # None = the document, a number = one of its pages


@dataclass
class _Pages(Generic[Fault]):
    to_read: deque[int]
    being_read: int = 0
    fault: Fault | None = None


class Tasks(Generic[Fault]):
    """The tasks of all lanes. `take` blocks until there is one."""

    def __init__(self) -> None:
        self._documents: deque[Document] = deque()
        self._in_pages: dict[int, tuple[Document, _Pages[Fault]]] = {}  # by the claim's token, in the order given
        self._is_closed = False
        self._changed = threading.Condition()

    def add(self, document: Document) -> None:
        """Add a document, to be read without OCR."""
        with self._changed:
            self._documents.append(document)
            self._changed.notify()

    def add_pages(self, document: Document, numbers: Sequence[int]) -> None:
        """Add a document whose pages `numbers` must be read by OCR. When all are read, the document is a task again."""
        with self._changed:
            self._in_pages[document.claim.token] = document, _Pages(deque(numbers))
            self._changed.notify_all()

    @property
    def in_pages(self) -> int:
        """How many documents have pages that are not read yet."""
        with self._changed:
            return len(self._in_pages)

    @property
    def pages(self) -> int:
        """How many pages no lane has begun."""
        with self._changed:
            return sum(len(pages.to_read) for _, pages in self._in_pages.values())

    def take(self) -> Task | None:
        """Wait for the next task. None when the tasks are closed."""
        with self._changed:
            while not self._is_closed:
                if self._documents:
                    return self._documents.popleft(), None
                for document, pages in self._in_pages.values():
                    if pages.to_read:
                        pages.being_read += 1
                        return document, pages.to_read.popleft()
                self._changed.wait()
            return None

    def page_ended(self, document: Document, fault: Fault | None, seconds: float) -> Fault | None:
        """Note that a lane has ended a page, after `seconds`. A fault ends the document: no further page of it begins.

        Returns the document's fault when its last page has ended, else None.
        """
        with self._changed:
            _, pages = self._in_pages[document.claim.token]
            pages.being_read -= 1
            document.seconds += seconds
            if fault is not None:
                pages.fault = pages.fault or fault
                pages.to_read.clear()
            if pages.to_read or pages.being_read:
                return None
            del self._in_pages[document.claim.token]
            if pages.fault is None:
                self._documents.appendleft(document)  # its text is put together from the pages
                self._changed.notify()
            return pages.fault

    def end_pages(self, fault: Fault) -> list[Document]:
        """End every document with pages by this fault: no further page begins.

        Returns those of which no lane reads a page. For the others, `page_ended` returns the fault.
        """
        with self._changed:
            for _, pages in self._in_pages.values():
                pages.fault = pages.fault or fault
                pages.to_read.clear()
            ended = [document for document, pages in self._in_pages.values() if not pages.being_read]
            for document in ended:
                del self._in_pages[document.claim.token]
            return ended

    def take_unstarted(self) -> list[Claim]:
        """Take back the documents that no lane has begun. Those with pages are not among them."""
        with self._changed:
            unstarted = [document.claim for document in self._documents if not document.seconds]
            self._documents = deque(document for document in self._documents if document.seconds)
            return unstarted

    def close(self) -> None:
        """Make every `take` return None, even if tasks are left."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
