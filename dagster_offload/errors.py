"""Every error this project raises, and `is_deferrable_error`, which decides whether work is deferred.

OffloadError
├── SettingsError            a setting is missing or wrong; the message names it
├── DrainRefused             a drain that must not start: no deep slot, or not a drain stage
├── OtherPipeline            the running `up` of this ledger works with other recipes
├── SlotLost                 the ledger knows a deep slot, but the settings have none
├── SlotForgotten            the slot was removed from the ledger while it was in use
├── NeedsPatience            a trial had too little time for a verdict
├── StageDeferred            the slot is unavailable: retry after `retry_after_minutes`
├── SlotFault                the slot did not give a valid answer of the expected model
│   ├── CutAnswer            HTTP 200, but not a complete answer                   (deferrable)
│   ├── SlotFrozen           three probes during an open call got no answer        (deferrable)
│   └── WrongModel           another model answered                                (deferrable)
├── CutBySleep               this machine slept during a call, which was then cut
├── MalformedAnswer          complete JSON, but not a chat completion
│   └── ErrorAsAnswer        HTTP 200 with an error in the body that names no status
├── DocumentFault            a fault of the document itself; costs an attempt
│   ├── UnusableAnswer       an answer without a record: empty, cut at its token limit, or rejected by the stage
│   └── ExtractionFailed     no text could be extracted from the file
├── ScanRefused              a scan that would make a change that needs confirmation
│   └── LibraryMissing       the library folder does not exist
├── ChangedWhileRead         the file changed while it was read
├── OcrWanted                the file has pages that OCR must read first; not a fault
├── ExtractorUnavailable     the extractor process cannot be started, or was closed
├── MachineFault             this machine cannot read such a file in its present setup; the document waits
├── HostRefused              this host may not take part in an extraction on several hosts; the message says why
├── StillLooking             a look at the library has not ended yet; a later call gets its result
├── NoSuchDocument           no document of the library has this key
├── BackupError              a backup cannot be written, read or restored, or a ledger cannot be moved
├── LedgerUnavailable        Postgres cannot be reached, started or used
│   ├── NoLedger             Postgres can be used, and has no ledger yet
│   └── LedgerAway           it can be used later: Postgres does not answer
│       └── LedgerBusy       another process is preparing the ledger
├── HomeStopped              the home's Postgres does not run, and a look that repeats does not start it
├── StoppedWaiting           a stop was requested before the ledger was ready
└── NoRoom                   the disk has too little free space to start work
"""

from collections.abc import Mapping
from typing import Any

DEFAULT_RETRY_AFTER_MINUTES = 30


class OffloadError(Exception):
    """Base of every error of this project."""


class SettingsError(OffloadError):
    """A setting is missing or wrong. The message names the variable and what to put there.

    Several faults are several arguments: commands show each on a line of its own.
    """

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class DrainRefused(OffloadError):
    """A drain must not start. The message gives the reason in one line."""


class OtherPipeline(OffloadError):
    """The running `up` of this ledger works with other recipes. The message names the stages and what differs."""


class SlotLost(OffloadError):
    """The ledger knows a deep slot, but the settings have none. LLM work is refused, not sent to `primary`."""


class SlotForgotten(OffloadError):
    """The slot is no longer in the ledger: a person removed it while it was in use. The work on it ends."""


class NeedsPatience(OffloadError):
    """A trial got no answer within its caller's limit, which is shorter than a call may take. There is no verdict."""


class StageDeferred(OffloadError):
    """A stage is deferred because its slot is unavailable. This is not a failure and costs no attempt.

    `retry_after_minutes` is 30 unless the slot sent a time itself (`Retry-After`).
    """

    retry_after_minutes: float = DEFAULT_RETRY_AFTER_MINUTES

    def __init__(self, reason: str, retry_after_minutes: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        if retry_after_minutes is not None:
            self.retry_after_minutes = retry_after_minutes

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.reason, self.__dict__.get("retry_after_minutes")))


class SlotFault(OffloadError):
    """The slot failed, or something else answered in its place. This never costs the document an attempt."""


class CutAnswer(SlotFault):
    """An HTTP 200 whose body is not complete JSON or is too long, or whose choice failed: the generation was cut. The message
    says which."""


class SlotFrozen(SlotFault):
    """The slot's process no longer answers any request, but its connections stay open."""


class WrongModel(SlotFault):
    """A model other than the expected one answered."""


class CutBySleep(OffloadError):
    """A call was cut, and this machine slept while it was open. Neither the slot nor the document is at fault."""


class MalformedAnswer(OffloadError):
    """Complete JSON that is not a chat completion. Not deferrable; a trial decides whether the slot is at fault."""


class ErrorAsAnswer(MalformedAnswer):
    """An HTTP 200 whose JSON is an error.

    `words`: the server's own short message, safe to show. `body`: numbers are read from it; it is never shown, as it may
    echo a document.
    """

    def __init__(self, message: str, body: object = None, words: str | None = None) -> None:
        super().__init__(message)
        self.body = body
        self.words = words

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), None, self.words))


class DocumentFault(OffloadError):
    """A fault of the document itself. `code` is one word, the same for the same kind of fault.

    `is_final` means that a retry cannot help, for example because the file is broken.
    """

    def __init__(self, code: str, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.is_final = is_final

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_document_fault, (type(self), self.code, self.message, self.is_final))


def _rebuild_document_fault(cls: type[DocumentFault], code: str, message: str, is_final: bool) -> DocumentFault:
    return cls(code, message, is_final=is_final)


class UnusableAnswer(DocumentFault):
    """The slot's answer holds no record: it is empty, only thinking, cut at its token limit, or rejected by the stage."""


class ExtractionFailed(DocumentFault):
    """No text could be extracted from the file."""


class ScanRefused(OffloadError):
    """A scan would make a change that needs confirmation. The message says how to confirm it."""


class LibraryMissing(ScanRefused):
    """The library folder does not exist (unmounted?), or got lost during a scan. No document was marked as gone."""


class BackupError(OffloadError):
    """A backup cannot be written, read or restored, or a ledger cannot be moved. The message says what to do."""


class LedgerUnavailable(OffloadError):
    """Postgres cannot be reached, started or used. The message says what to do."""


class NoLedger(LedgerUnavailable):
    """Postgres can be used, and has no ledger yet."""


class LedgerAway(LedgerUnavailable):
    """The ledger cannot be used now and can be used later: Postgres does not answer."""


class LedgerBusy(LedgerAway):
    """Another process is preparing the ledger."""


class HomeStopped(OffloadError):
    """The Postgres of the home does not run, and a look that repeats does not start it. The message says what does."""


class StoppedWaiting(OffloadError):
    """A stop was requested before the ledger was ready. The message names the Postgres."""


class NoRoom(OffloadError):
    """The disk has less free space than OFFLOAD_MIN_FREE_DISK, so no work is started. The message names the folder."""


# What the router means: 503 = cold, warming up or in use by its owner; 502 = its backend connection failed or the
# generation was cut; 504 = too slow. With 408 and 429, a server requests a later retry (RFC 9110, RFC 6585).
# Anthropic and OpenRouter answer 529 if they are overloaded. Cloudflare answers 520 to 524 and 530 if the slot behind it
# cannot be reached or does not answer; its 525 and 526 are about the slot's certificate, which a person must correct.
# 499: a server or a proxy on the way took the call for one that its client has left (Ollama that is stopped; nginx).
# 423 (locked) and 425 (too early) ask for a later retry, too (RFC 4918, RFC 8470).
DEFERRABLE_STATUS_CODES = frozenset({408, 423, 425, 429, 499, 502, 503, 504, *range(520, 525), 529, 530})
# Cloudflare has found no way to the slot's machine: down, no connection in time, no route, no tunnel.
_UNREACHED_STATUS_CODES = frozenset({521, 522, 523, 530})


def is_unreached(status_code: int, headers: Mapping[str, str]) -> bool:
    """Whether a tunnel says for certain that it has not reached the slot's machine. `headers` are found by
    lower-case names."""
    return status_code in _UNREACHED_STATUS_CODES or is_offline_at_ngrok(status_code, headers)


def is_offline_at_ngrok(status_code: int, headers: Mapping[str, str]) -> bool:
    """Whether ngrok answers itself, because no machine is connected under the slot's name: its 404 has this header."""
    return status_code == 404 and "ngrok-error-code" in headers


def is_deferrable_error(exc: BaseException) -> bool:
    """Whether `exc` means that the slot is unavailable: the work is deferred, and no document is at fault."""
    # Imported here because commands that only read the ledger also use this file, and importing httpx would make them
    # too slow. A caller with an httpx error has imported it already.
    import httpx

    if isinstance(exc, httpx.HTTPStatusError):
        response = exc.response
        return response.status_code in DEFERRABLE_STATUS_CODES or is_unreached(response.status_code, response.headers)
    # Faults on the way to the slot. No other httpx error is deferrable (a test checks this).
    return isinstance(
        exc,
        (
            SlotFault,
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.ReadError,
            httpx.ReadTimeout,
            httpx.WriteError,
            httpx.WriteTimeout,
            httpx.CloseError,
            httpx.ProxyError,
            httpx.RemoteProtocolError,
            httpx.DecodingError,
        ),
    )


class ChangedWhileRead(OffloadError):
    """The file's stat or bytes changed while it was read. The next scan reads it again."""


class OcrWanted(OffloadError):
    """The file has pages that only OCR can read, and OCR was not allowed to read them now: their numbers, of `of` pages."""

    def __init__(self, numbers: tuple[int, ...], of: int) -> None:
        super().__init__(f"OCR must read {len(numbers)} of {of} pages first")
        self.numbers = numbers
        self.of = of

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.numbers, self.of))


class ExtractorUnavailable(OffloadError):
    """The extractor process cannot be started, or was closed during use. No document is at fault."""


class MachineFault(OffloadError):
    """This machine cannot read such a file in its present setup. The document waits; the message says what to change."""


class HostRefused(OffloadError):
    """This host may not take part in an extraction on several hosts. The message says why, and what to change."""


class StillLooking(OffloadError):
    """A look at the library has not ended yet. It goes on, and a later call gets its result."""


class NoSuchDocument(OffloadError):
    """No document that is present in the library has this key."""
