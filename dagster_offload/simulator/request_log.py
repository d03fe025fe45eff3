"""The stand-in router's log: the newest requests, and totals of all. It keeps fingerprints of documents, never their text."""

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Any

COMPLETIONS = "/v1/chat/completions"
MOST_KEPT = 100_000  # requests: a router may run for months


def fingerprint(document: str) -> str:
    """Return the first 16 hexadecimal digits of the document's SHA-256."""
    return hashlib.sha256(document.encode()).hexdigest()[:16]


def count_tokens(text: str) -> int:
    """Estimate tokens: one per four ASCII characters, and one for every other character."""
    ascii_characters = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    return -(-ascii_characters // 4) + len(text) - ascii_characters


@dataclass
class Entry:
    """One request. Times in seconds since the router's start; `ended` is None while it is open."""

    number: int
    path: str
    started: float
    ended: float | None = None
    status: int | None = None  # None: the connection was closed without an answer
    outcome: str = "open"  # answered | refused | cut | left (the client disconnected)
    document: str | None = None  # fingerprint
    document_tokens: int = 0
    stage: str | None = None
    asked_about: str | None = None  # part | merge; null = a whole document
    model: str | None = None  # the requested model
    max_tokens: int | None = None
    parts: tuple[str, ...] = ()  # the request's optional fields
    response_format: str | None = None  # its type
    prompt_tokens: int = 0
    cached_tokens: int = 0
    document_tokens_read: int = 0  # of the document alone


class RequestLog:
    """The newest requests, and the totals of all."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=MOST_KEPT)
        self.requests = 0
        self.open = 0
        self.max_open = 0
        self.answers = 0
        self.refusals = 0

    def begin(self, path: str, now: float) -> Entry:
        """Add a request that starts at `now`, in seconds since the router's start."""
        self.requests += 1
        entry = Entry(number=self.requests, path=path, started=now)
        self.entries.append(entry)
        if path == COMPLETIONS:
            self.open += 1
            self.max_open = max(self.max_open, self.open)
        return entry

    def end(self, entry: Entry, now: float, status: int | None, outcome: str) -> None:
        """Record the end of a request."""
        entry.ended, entry.status, entry.outcome = now, status, outcome
        if entry.path == COMPLETIONS:
            self.open -= 1
            self.answers += outcome == "answered"
            self.refusals += outcome == "refused"

    def summary(self) -> dict[str, Any]:
        """Return the content of `/admin/log`. `read_ratio`: document tokens read / tokens of the same documents once.

        The document tokens are those of the kept requests.
        """
        answered = [entry for entry in self.entries if entry.outcome == "answered" and entry.document is not None]
        read = sum(entry.document_tokens_read for entry in answered)
        once = sum({entry.document: entry.document_tokens for entry in answered}.values())
        return {
            "requests": [vars(entry) for entry in self.entries],
            "open": self.open,
            "max_open": self.max_open,
            "answers": self.answers,
            "refusals": self.refusals,
            "document_tokens_read": read,
            "document_tokens_once": once,
            "read_ratio": round(read / once, 3) if once else None,
        }
