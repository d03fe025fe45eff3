"""Every error this project raises, and the one question that decides about a document's fate: is it deferrable?

OffloadError
├── SettingsError            a setting is missing or wrong; names it
├── DrainRefused             a drain that must not start: no deep slot, or not a drain stage
├── SlotLost                 the ledger has seen a deep slot and the settings have none
├── SlotForgotten            a slot that is in the ledger no more: forgotten while work was under way
├── NeedsPatience            a trial had too little time for a verdict
├── StageDeferred            the slot is away: try again after `retry_after_minutes`
├── SlotFault                an answer that did not come from the slot we meant
│   ├── CutAnswer            200, but the body is not whole JSON               (deferrable)
│   ├── SlotFrozen           three probes beside an open call went unanswered  (deferrable)
│   └── WrongModel           another model answered                            (deferrable)
├── MalformedAnswer          whole JSON that is no chat completion
│   └── ErrorAsAnswer        a 200 whose JSON is an error's
├── DocumentFault            the document's own fault; costs an attempt
│   ├── UnusableAnswer       an answer that is none: empty, cut by its bound, not what the stage accepts
│   └── ExtractionFailed     no text could be taken from the file
├── ScanRefused              a scan that would change what it must not
│   └── LibraryMissing       the folder is not there
├── ExtractorUnavailable     the extractor's process cannot be started, or was closed
├── MachineFault             this machine cannot read such a file as it is; the document waits
└── LedgerUnavailable        Postgres cannot be reached, started or used
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

DEFAULT_RETRY_AFTER_MINUTES = 30


class OffloadError(Exception):
    """Base of every error of this project."""


class SettingsError(OffloadError):
    """A setting is missing or wrong. The message names the variable and what to put there."""


class DrainRefused(OffloadError):
    """A drain that must not start. The message says why, in one line."""


class SlotLost(OffloadError):
    """The ledger has seen a deep slot and the settings have none: LLM work is refused, not sent to `primary`."""


class SlotForgotten(OffloadError):
    """A slot that is in the ledger no more. A person said so while work was under way, which ends here."""


class NeedsPatience(OffloadError):
    """A trial got no answer in the time its caller had, which is less than a call may take: no verdict."""


class StageDeferred(OffloadError):
    """A stage put off because its slot is away: not a failure, costs no attempt.

    `retry_after_minutes` is 30 unless the slot named a time itself (`Retry-After`).
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
    """An answer arrived that is not the slot's: the slot pays, never the document."""


class CutAnswer(SlotFault):
    """A 200 whose body is not whole JSON, or has no end: the generation was cut on its way. The message says which."""


class SlotFrozen(SlotFault):
    """The slot's process answers nothing any more, while its connections stay open."""


class WrongModel(SlotFault):
    """Another model answered than the one we expect."""


class MalformedAnswer(OffloadError):
    """Whole JSON that is no chat completion. Not deferrable; a trial decides whether the slot is at fault."""


class ErrorAsAnswer(MalformedAnswer):
    """A 200 whose JSON is an error's. `body` is for reading numbers out of, and is never shown: it may echo a document."""

    def __init__(self, message: str, body: object = None) -> None:
        super().__init__(message)
        self.body = body

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self),))


class DocumentFault(OffloadError):
    """A fault of the document itself; `code` is one word, equal for equal faults.

    `is_final` says that trying again cannot help (a file the extractor calls broken).
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
    """The slot answered, and the answer is no record: empty, only thinking, cut by its bound, or unfit for the stage."""


class ExtractionFailed(DocumentFault):
    """No text could be taken from the file."""


class ScanRefused(OffloadError):
    """A scan that would change what it must not; `--accept-vanished` confirms that it is meant."""


class LibraryMissing(ScanRefused):
    """The library folder is not there (unmounted?). Nothing was changed."""


class LedgerUnavailable(OffloadError):
    """Postgres cannot be reached, started or used; the message says what to do."""


# The router's meaning: 503 = cold, warming or its owner is working; 502 = the connection behind it failed or the
# generation was cut; 504 = too slow. 408 and 429 are the server asking for another time (RFC 9110, RFC 6585).
DEFERRABLE_STATUS_CODES = frozenset({408, 429, 502, 503, 504})


def is_deferrable_error(exc: BaseException) -> bool:
    """Whether `exc` means that the slot is away: put the work off, blame no document."""
    # Not at the top: commands that only read the ledger use this file, too, and httpx takes longer to import than they
    # may. Whoever has an error of httpx in hand has paid for it.
    import httpx

    if isinstance(exc, httpx.HTTPStatusError):
        return exc.response.status_code in DEFERRABLE_STATUS_CODES
    # Faults between us and the slot. Everything else that httpx has is never deferrable (a test holds us to it).
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
    """A file whose stat or bytes changed under us: leave it for the next scan."""


class ExtractorUnavailable(OffloadError):
    """The child cannot be started, or was closed under us. No document's fault."""


class MachineFault(OffloadError):
    """This machine, as it is, cannot read such a file. No document's fault: it waits. The message says what to change."""


class NoSuchDocument(OffloadError):
    """A key that is no document present in the library."""
