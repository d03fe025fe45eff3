"""The child process of `extraction.Extractor`: reads one file at a time, answers with its text, may be killed.

Requests are JSON lines on stdin, answers are frames on stdout (eight bytes of length, then JSON). It holds itself to a
memory limit and ends when its parent does. What kreuzberg says about a fault is never passed on, because it may quote
the document; only the kind of fault is.
"""

import errno
import hashlib
import html
import json
import os
import re
import resource
import select
import stat
import struct
import sys
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kreuzberg
from kreuzberg.exceptions import KreuzbergError, MissingDependencyError, OCRError, ParsingError, ValidationError

from dagster_offload.extraction import file_types, pdf_library
from dagster_offload.extraction.encodings import declared_encoding, decode
from dagster_offload.extraction.formats.docx import docx_text
from dagster_offload.extraction.formats.hwp import NotHangul, hwp_text, hwpx_text
from dagster_offload.extraction.formats.mail import mail_box_text, mail_text, subject
from dagster_offload.extraction.formats.msg import NotOutlook, OutlookReaders, outlook_text
from dagster_offload.extraction.formats.odf import open_document_text
from dagster_offload.extraction.formats.pptx import pptx_text
from dagster_offload.extraction.formats.zip_xml import BrokenArchive
from dagster_offload.extraction.legibility import why_worthless
from dagster_offload.extraction.scans import Found, Pictures
from dagster_offload.extraction.tesseract import Reader, Unreadable, death_with_parent
from dagster_offload.library.files import CODE_TYPES
from dagster_offload.library.handles import open_file

Answer = dict[str, Any]

# Read as they are: their markup is readable, and a model gets nothing from another form of it.
TEXT_TYPES = CODE_TYPES | frozenset(
    "txt text md markdown mdx rst adoc asciidoc org tex typ xml json yaml yml csv tsv".split()  # noqa: SIM905
)
HTML_TYPES = frozenset({"html", "htm", "xhtml"})
MAIL_TYPES = frozenset({"eml", "mht", "mhtml"})
MAIL_BOX_TYPES = frozenset({"mbox", "mbx"})

# Cells stay apart in Markdown. Not for PDF: its Markdown loses words (kreuzberg 4.10.4).
_AS_MARKDOWN = ("spreadsheet", "excel", "rtf", "epub", "html")
_MARKDOWN_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!~<>&])")  # "1\\. Rent" is harder to read than "1. Rent"
_EMPTY_ROW = re.compile(r"^\|[ |]*\|\n", re.MULTILINE)
_ONLY_MARKUP = re.compile(r"(?:[\s|:#>*_\-\\]|\[\^\d+\])*")
# What a page says of itself comes out as text above it, and drawings as long lines of base64.
_HTML_HEAD = re.compile(r"<title\b.*?</title\s*>|<(?:meta|base)\b[^>]*>|<svg\b.*?</svg\s*>", re.IGNORECASE | re.DOTALL)
_HTML_TITLE = re.compile(r"<title\b[^>]*>(.*?)</title\s*>", re.IGNORECASE | re.DOTALL)
# The extractor drops footnotes of RTF; as plain groups they stand where they are referred to.
_RTF_NOTE = re.compile(rb"\{(?:\\\*)?\\footnote\b(?:\\ftnalt)?")

_LINE_ENDS = re.compile("[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# NUL is what Postgres cannot store; a lone surrogate is what UTF-8 cannot; the others are no text.
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]")
_BLANK_LINES = re.compile("\n{4,}")

_OUT_OF_MEMORY_SCORE = 500  # of -1000 (never ended) to 1000 (first of all)


class Fault(Exception):  # noqa: N818 - an answer, not an error of the child
    """No text: the code, the message and whether trying again is of no use."""

    def __init__(self, code: str, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.answer: Answer = {"failed": code, "message": message, "is_final": is_final}


def main() -> None:
    """Serve requests until the parent closes stdin. Arguments: the parent's pid and the memory limit in bytes."""
    parent, memory_limit = int(sys.argv[1]), int(sys.argv[2])
    _end_with(parent)
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _limit_memory(memory_limit)
    _send(answers, {"ready": True})
    for line in sys.stdin.buffer:
        answer = _answer(json.loads(line), lambda page: _send(answers, page))
        _send(answers, answer)
        if answer.get("is_spent"):
            return


def _answer(request: Answer, tell: Callable[[Answer], None]) -> Answer:
    try:
        try:
            data = _read(request["path"], request.get("library"))
        except OSError as error:
            return {"errno": error.errno or errno.EIO}
        if data is None or request["digest"] not in (None, hashlib.sha256(data).hexdigest()):
            return {"changed": True}
        return _extract(data, request["path"], request["type"], _pictures(request, tell))
    except Fault as fault:
        return fault.answer
    except pdf_library.MachineUnfit as unfit:
        return {"machine": str(unfit)}
    except MemoryError:
        return {"failed": "extraction_memory", "is_spent": True}
    except BaseException as error:  # noqa: BLE001 - all of them are told to the parent
        number = (error.errno or 0) if isinstance(error, OSError) else 0
        if number == errno.ENOMEM:
            return {"failed": "extraction_memory", "is_spent": True}
        if number in pdf_library.MACHINE_ERRNOS:
            return {"machine": pdf_library.in_words(number)}
        # A panic of the Rust core is a BaseException; whatever it is, only its kind is told.
        kind = f"{type(error).__name__} {errno.errorcode.get(number, '')}".rstrip()
        return {"failed": "extraction_crash", "kind": kind, "is_spent": True}


def _read(path: str, library: str | None) -> bytes | None:
    """The file's bytes, None where it is no regular file (any more). Its errors are the only ones told by number."""
    if library is None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    else:
        descriptor = open_file(library, os.path.relpath(path, library))
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read()


def _extract(data: bytes, path: str, file_type: str, pictures: Pictures) -> Answer:
    """The answer for a file that could be read. Raises `Fault`."""
    if not data:
        return _text("", {}, when_blank="empty")
    _refuse_locked(data)
    kind = file_types.sniffed(data)
    if kind == file_types.HTML and file_type in TEXT_TYPES:  # a page's source that is meant as text: .php, .vue, .txt
        kind = None
    if kind in _READERS:
        return _READERS[kind](data)
    if kind is None and file_type in MAIL_TYPES:
        return _mail(data)
    if kind is None and file_type in MAIL_BOX_TYPES:
        return _mail_box(data)
    if kind is None and file_type in HTML_TYPES:
        return _html(data)
    if kind is None and (file_type in TEXT_TYPES or not file_type):
        return _plain(data, file_type)
    return _document(data, kind or _named_type(path), pictures)


def _refuse_locked(data: bytes) -> None:
    lock = file_types.lock(data)
    if lock is not None:
        raise Fault("password_protected", f"the file is {lock}: save it without", is_final=True)
    if file_types.is_old_hangul(data):
        message = "Hangul documents of version 3 and older are not read: save it as HWP 5 or HWPX"
        raise Fault("unsupported_type", message, is_final=True)
    unpacked = file_types.unpacked_bytes(data)
    if unpacked > file_types.UNPACKED_LIMIT_BYTES:
        raise Fault(
            "unpacks_too_large", f"the file unpacks to {unpacked / 1024**3:.1f} GiB: it is not read", is_final=True
        )


def _plain(data: bytes, file_type: str) -> Answer:
    decoded = decode(data, declared_encoding(data) if file_type == "xml" else None)
    if decoded is None:
        raise Fault("unsupported_type", "no text in an encoding we know, and no document type we know", is_final=True)
    return _text(decoded.text, {"mime": "text/plain", "encoding": decoded.encoding}, when_blank="empty")


def _html(data: bytes) -> Answer:
    decoded = decode(data, declared_encoding(data))
    if decoded is None:
        raise Fault("unsupported_type", "HTML in an encoding we cannot tell", is_final=True)
    title = _HTML_TITLE.search(decoded.text)
    told = {"title": _short(html.unescape(title[1]))} if title else {}
    return _text(
        _html_text(decoded.text), {"mime": file_types.HTML, **told, "encoding": decoded.encoding}, when_blank="no_text"
    )


def _html_text(page: str) -> str:
    return _markdown(_kreuzberg(_HTML_HEAD.sub("", page).encode("utf-8", "ignore"), file_types.HTML).content)


def _html_part_text(page: str) -> str:
    try:
        return _html_text(page)
    except Fault:  # one part that is not what it says must not lose a mail, nor a box of mails
        return ""


def _mail(data: bytes) -> Answer:
    text = _letters(data, file_types.MAIL, mail_text)
    return _text(text, {"mime": file_types.MAIL, "title": _short(subject(data))}, when_blank="no_text")


def _mail_box(data: bytes) -> Answer:
    text = _letters(data, file_types.MBOX, mail_box_text)
    return _text(text, {"mime": file_types.MBOX}, when_blank="no_text")


def _letters(data: bytes, kind: str, read: Callable[[bytes, Callable[[str], str]], str | None]) -> str:
    try:
        text = read(data, _html_part_text)
    except RecursionError:  # mails in mails in mails
        text = None
    if text is None:
        raise _broken(kind, data)
    return text


def _outlook(data: bytes) -> Answer:
    def page_text(page: bytes) -> str:
        decoded = decode(page, declared_encoding(page))
        return "" if decoded is None else _html_part_text(decoded.text)

    try:
        text, about = outlook_text(data, OutlookReaders(html=page_text, rtf=_rtf_text))
    except NotOutlook:
        raise _broken(file_types.OUTLOOK, data) from None
    return _text(text, {"mime": file_types.OUTLOOK, "title": _short(about)}, when_blank="no_text")


def _rtf_text(data: bytes) -> str:
    return _markdown(_kreuzberg(_RTF_NOTE.sub(b"{ ", data), file_types.RTF).content)


def _rtf(data: bytes) -> Answer:
    answer = _text(_rtf_text(data), {"mime": file_types.RTF}, when_blank="no_text")
    if not answer["text"] and not data.rstrip(b"\0\r\n ").endswith(b"}"):
        raise _broken(file_types.RTF, data)
    return answer


def _own(kind: str, read: Callable[[bytes], str]) -> Callable[[bytes], Answer]:
    """A reader of ours for files of one type."""

    def answer(data: bytes) -> Answer:
        try:
            text = read(data)
        except (NotHangul, BrokenArchive):
            raise _broken(kind, data) from None
        return _text(text, {"mime": kind, "title": _short(file_types.title(data))}, when_blank="no_text")

    return answer


# What the extractor reads wrongly or not at all is read by us (docs/extractors.md).
_READERS: dict[str | None, Callable[[bytes], Answer]] = {
    file_types.HTML: _html,
    file_types.RTF: _rtf,
    file_types.MBOX: _mail_box,
    file_types.OUTLOOK: _outlook,
    file_types.HWP: _own(file_types.HWP, hwp_text),
    file_types.HWPX: _own(file_types.HWPX, hwpx_text),
    file_types.DOCX: _own(file_types.DOCX, docx_text),
    file_types.PPTX: _own(file_types.PPTX, pptx_text),
    file_types.ODT: _own(file_types.ODT, open_document_text),
    file_types.ODP: _own(file_types.ODP, open_document_text),
}


def _document(data: bytes, kind: str | None, pictures: Pictures) -> Answer:
    if kind is None:
        raise Fault("unsupported_type", "the extractor knows no document type for this file", is_final=True)
    if kind in _READERS:  # by its name; its bytes say nothing of the sort
        raise _broken(kind, data)
    result = _kreuzberg(data, kind)
    told = _metadata(result)
    try:
        if kind.startswith("image/"):
            return _found(pictures.of_image(data, kind), told)
        if kind == file_types.PDF:
            own_texts = [clean(page["content"]) for page in result.pages or ()]
            found = pictures.of_pdf(data, own_texts)
            if found is not None:
                return _found(found, told)
    except Unreadable as unreadable:
        message = f"Tesseract does not get through a page ({unreadable.ending})"
        raise Fault("ocr_crash", message, is_final=False) from None
    text = _markdown(result.content) if _is_asked_as_markdown(kind) else result.content
    return _text(text, told, when_blank="no_text")


def _pictures(request: Answer, tell: Callable[[Answer], None]) -> Pictures:
    """How this request's pictures of text are read; `tell` says how far it has come."""
    pages = 0

    def announce(number: int, of: int) -> None:
        nonlocal pages
        pages = of
        tell({"page": number, "pages": of})

    return Pictures(
        reader=Reader(**request["reader"]),
        known={int(number): text for number, text in request["known_pages"].items()},
        announce=announce,
        tell=lambda number, text: tell({"page": number, "pages": pages, "text": text}),
        clean=clean,
    )


def _found(found: Found, told: Answer) -> Answer:
    return {"outcome": found.outcome, "text": found.text, "metadata": {**told, **found.told}}


def _kreuzberg(data: bytes, mime: str) -> kreuzberg.ExtractionResult:
    if mime == file_types.PDF:
        pdf_library.require()
    config = kreuzberg.ExtractionConfig(
        use_cache=False,  # it would keep documents' texts in a folder of its own
        enable_quality_processing=False,  # rewrites text; digests of texts are to be stable
        pages=kreuzberg.PageConfig(extract_pages=True) if mime == file_types.PDF else None,
        output_format="markdown" if _is_asked_as_markdown(mime) else "plain",
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),  # one child per core is what uses the cores
        disable_ocr=True,  # type: ignore[call-arg] # missing in its stubs
        html_options={"strip_tags": ["a", "img"]},  # type: ignore[arg-type] # addresses are noise; its stubs are wrong
    )
    try:
        return kreuzberg.extract_bytes_sync(data, mime, config)
    except (ValidationError, MissingDependencyError, OCRError) as error:
        kind = type(error).__name__
        raise Fault(
            "unsupported_type", f"the extractor cannot read {file_types.in_words(mime)} ({kind})", is_final=True
        ) from None
    except ParsingError as error:
        pdf_library.refuse_machine_fault(error)
        if "password" in str(error).lower() or "encrypted" in str(error).lower():
            raise Fault(
                "password_protected", "the file is protected by a password: save it without", is_final=True
            ) from None
        raise _broken(mime, data) from None
    except KreuzbergError as error:
        pdf_library.refuse_machine_fault(error)
        kind = type(error).__name__
        raise Fault(
            "extraction_crash", f"the extractor failed on this {file_types.in_words(mime)} ({kind})", is_final=False
        ) from None


def _is_asked_as_markdown(mime: str) -> bool:
    return any(part in mime for part in _AS_MARKDOWN)


def _markdown(text: str) -> str:
    """Markdown as a person writes it; "" where it is an empty form: table borders, bullets and marks of footnotes."""
    return "" if _ONLY_MARKUP.fullmatch(text) else _MARKDOWN_ESCAPE.sub(r"\1", _EMPTY_ROW.sub("", text))


def _broken(kind: str, data: bytes) -> Fault:
    name = file_types.in_words(kind)
    if file_types.begins_like(kind, data):
        return Fault("broken_file", f"the file is broken or cut off: it cannot be read as {name}", is_final=True)
    return Fault("broken_file", f"the file's name says {name}, but it is something else", is_final=True)


def _named_type(path: str) -> str | None:
    try:
        return kreuzberg.detect_mime_type_from_path(path)
    except (KreuzbergError, OSError):
        return None


def _metadata(result: kreuzberg.ExtractionResult) -> Answer:
    told = result.metadata
    pages = told.get("page_count") if result.mime_type == "application/pdf" else None
    title = told.get("title")
    return {
        "mime": result.mime_type,
        **({"pages": pages} if isinstance(pages, int) else {}),
        **({"title": _short(title)} if isinstance(title, str) else {}),
    }


def _short(title: str) -> str:
    return " ".join(clean(title).split())[:300]


def _text(text: str, metadata: Answer, when_blank: str) -> Answer:
    text = clean(text)
    told = {name: value for name, value in metadata.items() if value != ""}
    why = why_worthless(text)
    if why is not None:
        return {"outcome": "no_text", "text": "", "metadata": {**told, "reason": why}}
    return {"outcome": "ok" if text else when_blank, "text": text, "metadata": told}


def clean(text: str) -> str:
    """Text that Postgres stores and whose digest is stable: NFC, one kind of line end, no blanks at line ends."""
    text = _NO_TEXT.sub("", _LINE_ENDS.sub("\n", text.replace("\r\n", "\n")))
    text = "\n".join(line.rstrip() for line in unicodedata.normalize("NFC", text).split("\n"))
    return (_BLANK_LINES.sub("\n\n\n", text) if "\n" * 4 in text else text).strip("\n")


def _send(answers: Any, answer: Answer) -> None:
    frame = json.dumps(answer, ensure_ascii=False).encode()
    answers.write(struct.pack(">Q", len(frame)))
    answers.write(frame)
    answers.flush()


def _end_with(parent: int) -> None:
    """Die with the parent: at once on Linux, and everywhere when the pipe to us is closed."""
    if (die_with_it := death_with_parent()) is not None:
        die_with_it()
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)
    threading.Thread(target=_watch_stdin, daemon=True).start()


def _watch_stdin() -> None:
    hang_up = select.poll()
    hang_up.register(0, select.POLLHUP)
    hang_up.poll()
    os._exit(0)


def _limit_memory(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold documents
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        go_first_when_memory_runs_out(Path("/proc/self/oom_score_adj"))


def go_first_when_memory_runs_out(score: Path) -> None:
    """Where memory runs out all the same, the kernel should take us and not the parent."""
    try:
        if int(score.read_text()) < _OUT_OF_MEMORY_SCORE:  # lowering it takes a right that most have not
            score.write_text(str(_OUT_OF_MEMORY_SCORE))
    except OSError:  # /proc is read-only or not there: a courtesy not granted keeps no file from being read
        pass


if __name__ == "__main__":
    main()
