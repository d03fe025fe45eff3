"""The messages between `extractor.Extractor` (the parent) and `child` (the process that reads files).

The parent sends one `Request` for each file, as a line of JSON on the child's stdin. The child replies on stdout in
frames: eight bytes of length, then JSON. It sends `Ready` once, then for each request any number of `PageRead`
messages and exactly one `Answer`. Both sides build and match these classes, so a message that one side does not know is an error.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster_offload.extraction.ocr.tesseract import Reader
from dagster_offload.stages.graph import Outcome

HEADER = struct.Struct(">Q")

CRASH, OUT_OF_MEMORY = "extraction_crash", "extraction_memory"


@dataclass(frozen=True)
class Request:
    """A file to read.

    A file of a `library` is opened below that folder, without following links. `digest` is the SHA-256 its bytes must
    have (None: any). A file larger than `most_bytes` is refused. `file_type` is its lower-case extension without the
    dot. `known_pages` maps page numbers, from 1, to the texts that OCR has already read. `pages` are those that OCR may
    read now. None: all, and the answer is the document's text. Empty: the answer is `PagesWanted` if OCR must read pages
    that are not known, else the text. Others: they are read, and the answer is `PagesWanted`.
    """

    path: str
    library: str | None
    digest: str | None
    most_bytes: int
    file_type: str
    reader: Reader
    known_pages: Mapping[int, str] = field(repr=False)
    pages: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Ready:
    """The child has started and waits for requests."""


@dataclass(frozen=True)
class PageRead:
    """OCR progress on page `number` (from 1) of `of`. The page has begun if `text` is None, else it is read."""

    number: int
    of: int
    text: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Extracted:
    """The content of a file. `text` is "" unless the outcome is OK. `metadata`: mime, pages, encoding, title if known."""

    outcome: Outcome
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PagesWanted:
    """The document's text is not put together, because the request did not allow OCR of these pages, of `of` pages."""

    numbers: tuple[int, ...]
    of: int


@dataclass(frozen=True)
class Refused:
    """The file gives no text, and the child knows why. `is_final`: a retry would end the same way."""

    code: str
    message: str
    is_final: bool


@dataclass(frozen=True)
class Crashed:
    """The reader failed unexpectedly or ran out of memory. The child exits after this message.

    `code` is `CRASH` or `OUT_OF_MEMORY`; `kind` names the error and never quotes the document.
    """

    code: str
    kind: str = ""


@dataclass(frozen=True)
class Changed:
    """The file's bytes do not match the request's digest, or it is no longer a regular file."""


@dataclass(frozen=True)
class Unopened:
    """The operating system refused to open or read the file, with this error number."""

    errno: int


@dataclass(frozen=True)
class MachineFailed:
    """This machine cannot read such a file in its present state. `reason` says why and what to change."""

    reason: str


Answer = MachineFailed | Extracted | PagesWanted | Refused | Crashed | Changed | Unopened
Message = Ready | PageRead | Answer

_CLASSES: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (Ready, PageRead, Extracted, PagesWanted, Refused, Crashed, Changed, Unopened, MachineFailed)
}


def request_line(request: Request) -> bytes:
    """Encode a request as one line of JSON."""
    return json.dumps(vars(request) | {"reader": vars(request.reader)}).encode() + b"\n"


def parse_request(line: bytes) -> Request:
    """Decode a line that `request_line` made."""
    fields = json.loads(line)
    reader = fields["reader"]
    return Request(
        **fields
        | {
            "reader": Reader(**reader | {"missing": tuple(reader["missing"])}),
            "known_pages": {int(number): text for number, text in fields["known_pages"].items()},
            "pages": None if fields["pages"] is None else tuple(fields["pages"]),
        }
    )


def frame(message: Message) -> bytes:
    """Encode a message with its header, as sent over the pipe."""
    content = json.dumps([type(message).__name__, vars(message)], ensure_ascii=False).encode()
    return HEADER.pack(len(content)) + content


def take_message(received: bytearray) -> Message | None:
    """Remove the first message from what was received, and return it. None if it is not complete."""
    if len(received) < HEADER.size:
        return None
    end = HEADER.size + HEADER.unpack_from(received)[0]
    if len(received) < end:
        return None
    content = bytes(received[HEADER.size : end])
    del received[:end]
    return parse_message(content)


def parse_message(content: bytes) -> Message:
    """Decode the content of a frame. Raises `KeyError` for an unknown kind of message."""
    name, fields = json.loads(content)
    if name == Extracted.__name__:
        fields["outcome"] = Outcome(fields["outcome"])
    elif name == PagesWanted.__name__:
        fields["numbers"] = tuple(fields["numbers"])
    return _CLASSES[name](**fields)
