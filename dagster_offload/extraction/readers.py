"""Choose the reader of a file by its bytes, or by its name if the bytes do not identify the type."""

import contextlib
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from dagster_offload.extraction import file_types
from dagster_offload.extraction.cleaning import clean_title, extracted
from dagster_offload.extraction.encodings.decoding import declared_encoding, decode
from dagster_offload.extraction.file_types import archives, detection, well_known_password
from dagster_offload.extraction.file_types.containers import is_compound
from dagster_offload.extraction.file_types.images import is_whole_image
from dagster_offload.extraction.file_types.protection import protection_of
from dagster_offload.extraction.formats.content_lines import entries_text
from dagster_offload.extraction.formats.epub import epub_text
from dagster_offload.extraction.formats.fiction_book import fiction_book_text
from dagster_offload.extraction.formats.hangul.hwp import NotHangul, hwp_pictures, hwp_text
from dagster_offload.extraction.formats.hangul.hwpx import hwpx_text
from dagster_offload.extraction.formats.html import html_bytes_text, html_text, html_text_and_title
from dagster_offload.extraction.formats.mail.eml import mail_box_text, mail_text, secured_text, subject
from dagster_offload.extraction.formats.mail.emlx import mail_in
from dagster_offload.extraction.formats.mail.msg import NotOutlook, OutlookReaders, outlook_text
from dagster_offload.extraction.formats.mail.secured import EncryptedMail
from dagster_offload.extraction.formats.notebook import notebook_text
from dagster_offload.extraction.formats.office.docx import docx_text
from dagster_offload.extraction.formats.office.odf import open_document_text
from dagster_offload.extraction.formats.office.office_xml import excel_2003_text, flat_word_text, word_2003_text
from dagster_offload.extraction.formats.office.pptx import pptx_text
from dagster_offload.extraction.formats.office.xlsx import xlsx_text
from dagster_offload.extraction.formats.office97.ppt import ppt_text
from dagster_offload.extraction.formats.office97.word import doc_text
from dagster_offload.extraction.formats.office97.xls import xls_text
from dagster_offload.extraction.formats.office97.xlsb import xlsb_text
from dagster_offload.extraction.formats.parts.picture_marks import filled, marked_pictures
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive, members_of
from dagster_offload.extraction.formats.rtf import is_whole, rtf_text
from dagster_offload.extraction.legibility import share_of_wrong_letters
from dagster_offload.extraction.machine import import_pdfium
from dagster_offload.extraction.no_text import NO_BYTES, ONLY_BLANKS, why_no_text
from dagster_offload.extraction.ocr.pictures_inside import words_of_pictures
from dagster_offload.extraction.ocr.scans import PictureReader
from dagster_offload.extraction.ocr.tesseract import Unreadable
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.extraction.refusals import FileRefused, broken, is_placeholder, protected, unsupported
from dagster_offload.library.files import CODE_TYPES, extension
from dagster_offload.stages.graph import Outcome
from dagster_offload.text.sizes import shown_size, shown_size_above

_SOME_WRONG = 0.02  # of a page's letters

Metadata = dict[str, str | int]

T = TypeVar("T")

# These are read unchanged: their markup is readable, and a model gains nothing from a conversion.
TEXT_TYPES = CODE_TYPES | frozenset(
    "txt text md markdown mdx rst adoc asciidoc org tex typ xml json yaml yml csv tsv srt vtt".split()  # noqa: SIM905
)
# A Graphviz graph, whose files have the same extension as Word templates.
_DOT_GRAPH = re.compile(rb"\s*(?://[^\n]*\n\s*|/\*(?:[^*]|\*(?!/))*+\*/\s*)*+(?:strict\s+)?(?:di)?graph\b[^{]*\{")
# Many programs export text under these names, because Word and Excel open it.
_TEXT_IN_OFFICE = frozenset({"doc", "xls"})
HTML_TYPES = frozenset({"html", "htm", "xhtml"})
MAIL_TYPES = frozenset({"eml", "mht", "mhtml"})
MAIL_BOX_TYPES = frozenset({"mbox", "mbx"})
ENTRY_TYPES = {"ics": file_types.CALENDAR, "vcf": file_types.CONTACTS}


def read_file(data: bytes, path: str, file_type: str, pictures: PictureReader) -> Extracted:
    """Read a file. `file_type` is its extension; `pictures` reads its pictures of text.

    Raises `FileRefused`.
    """
    found = _read_file(data, path, file_type, pictures)
    if "reason" in found.metadata or found.outcome not in (Outcome.NO_TEXT, Outcome.EMPTY):
        return found
    blank = ONLY_BLANKS if data else NO_BYTES
    reason = blank if found.outcome is Outcome.EMPTY else why_no_text(found.metadata["mime"])
    return replace(found, metadata={**found.metadata, "reason": reason})


def _read_file(data: bytes, path: str, file_type: str, pictures: PictureReader) -> Extracted:
    if not data:
        return extracted("", {}, when_blank=Outcome.EMPTY)
    data = well_known_password.opened(data)
    _refuse_unsupported(data)
    kind = detection.detect_type(data)
    if kind in (file_types.HTML, file_types.MAIL) and file_type in TEXT_TYPES:  # source code, such as .php or .vue
        kind = None
    if kind in _READERS:
        return _READERS[kind](data)
    if kind is not None and kind in _ILLUSTRATED:
        return _illustrated(data, kind, pictures)
    if kind is None and file_type in MAIL_TYPES:
        return _mail(data)
    if kind is None and file_type == "emlx":
        return _apple_mail(data)
    if kind is None and file_type in ENTRY_TYPES:
        return _entries(data, file_type)
    if kind is None and file_type in MAIL_BOX_TYPES:
        return _mail_box(data)
    if kind is None and file_type in HTML_TYPES:
        return _html(data)
    if kind is None and (file_type in TEXT_TYPES or not file_type):
        return _plain(data, file_type)
    if kind is None and file_type == "dot" and _DOT_GRAPH.match(data):
        return _plain(data, file_type)
    if kind is None and file_type in _TEXT_IN_OFFICE and not is_compound(data) and not is_placeholder(data):
        with contextlib.suppress(FileRefused):
            return _plain(data, file_type)
    return _document(data, kind or file_types.type_by_extension(extension(path)), pictures)


def _refuse_unsupported(data: bytes) -> None:
    protection = protection_of(data)
    if protection is not None:
        raise protected(protection)
    if detection.is_old_hangul(data):
        raise unsupported("Hangul documents of version 3 and older are not supported: save it as HWP 5 or HWPX")
    if detection.is_old_word(data):
        raise unsupported("Word documents of version 2 and older are not supported: save it as DOCX")
    if detection.is_old_powerpoint(data):
        raise unsupported("PowerPoint presentations of version 4 and older are not supported: save it as PPTX")
    unpacked = archives.unpacked_bytes(data)
    if unpacked > archives.UNPACKED_LIMIT_BYTES:
        limit = shown_size(archives.UNPACKED_LIMIT_BYTES)
        message = f"the file unpacks to {shown_size_above(unpacked)}, and the limit is {limit}: split the file"
        raise FileRefused("unpacks_too_large", message, is_final=True)


def _plain(data: bytes, file_type: str) -> Extracted:
    decoded = decode(data, declared_encoding(data) if file_type == "xml" else None)
    if decoded is None:
        raise unsupported(
            "the file is neither text in a known encoding nor a document of a known type: save it as PDF, or as text in UTF-8"
        )
    return extracted(decoded.text, {"mime": "text/plain", "encoding": decoded.encoding}, when_blank=Outcome.EMPTY)


def _html(data: bytes) -> Extracted:
    # Browsers skip stray NULs in a page. In other text files, NULs mean binary data.
    decoded = decode(data, declared_encoding(data)) or decode(data.replace(b"\0", b""), declared_encoding(data))
    if decoded is None:
        raise unsupported("the encoding of this HTML page cannot be recognized: save it in UTF-8, or print it to PDF")
    text, title = html_text_and_title(decoded.text)
    metadata = {"mime": file_types.HTML, "title": clean_title(title), "encoding": decoded.encoding}
    return extracted(text, metadata)


def _mail(data: bytes) -> Extracted:
    text = _mail_text(data, file_types.MAIL, mail_text)
    return extracted(text, {"mime": file_types.MAIL, "title": clean_title(subject(data))})


def _apple_mail(data: bytes) -> Extracted:
    mail = mail_in(data)
    if mail is None:
        raise broken(file_types.APPLE_MAIL, data)
    return _mail(mail)


def _entries(data: bytes, file_type: str) -> Extracted:
    kind = ENTRY_TYPES[file_type]
    text = entries_text(data)
    if text is None:
        raise broken(kind, data)
    return extracted(text, {"mime": kind})


def _mail_box(data: bytes) -> Extracted:
    return extracted(_mail_text(data, file_types.MBOX, mail_box_text), {"mime": file_types.MBOX})


def _mail_text(data: bytes, kind: str, read: Callable[[bytes, Callable[[str], str]], str | None]) -> str:
    try:
        text = read(data, html_text)
    except RecursionError:  # deeply nested mails
        text = None
    except EncryptedMail:
        raise protected("by encryption") from None
    if text is None:
        raise broken(kind, data)
    return text


_OUTLOOK_READERS = OutlookReaders(
    html=html_bytes_text, rtf=rtf_text, secured=functools.partial(secured_text, html_to_text=html_text)
)


def _outlook(data: bytes) -> Extracted:
    try:
        text, about = outlook_text(data, _OUTLOOK_READERS)
    except EncryptedMail:
        raise protected("by encryption") from None
    except NotOutlook:
        raise broken(file_types.OUTLOOK, data) from None
    return extracted(text, {"mime": file_types.OUTLOOK, "title": clean_title(about)})


def _rtf(data: bytes) -> Extracted:
    answer = extracted(rtf_text(data), {"mime": file_types.RTF})
    if not answer.text and not is_whole(data):
        raise broken(file_types.RTF, data)
    return answer


def _read_with(kind: str, read: Callable[[bytes], str], data: bytes) -> Extracted:
    """Return the answer of one of our own readers for a file of type `kind`."""
    return extracted(_text_of(kind, read, data), {"mime": kind, "title": clean_title(archives.title(data))})


def _text_of(kind: str, read: Callable[[bytes], str], data: bytes) -> str:
    try:
        return read(data)
    except (NotHangul, BrokenArchive, RecursionError):  # of a file whose elements are nested thousands deep
        raise broken(kind, data) from None


def _illustrated(data: bytes, kind: str, pictures: PictureReader) -> Extracted:
    """Read a document whose reader marks the places of its pictures."""
    read, pictures_of = _ILLUSTRATED[kind]
    marked = _text_of(kind, read, data)
    names = marked_pictures(marked)
    found = words_of_pictures(pictures_of(data, names) if names else {}, pictures)
    metadata: Metadata = {"mime": kind, "title": clean_title(archives.title(data))}
    answer = extracted(filled(marked, found.words), {**metadata, **found.metadata})
    if found.unread and not answer.text:
        reason = f"this {file_types.describe_type(kind)} contains only pictures. {pictures.reader.advice}"
        return replace(answer, outcome=Outcome.NEEDS_OCR, metadata={**answer.metadata, "reason": reason})
    return answer


# The reader of each type that its bytes identify (docs/decisions/0007-extractors.md). PDF and pictures may need OCR.
_READERS: dict[str | None, Callable[[bytes], Extracted]] = {
    file_types.HTML: _html,
    file_types.RTF: _rtf,
    file_types.MAIL: _mail,
    file_types.MBOX: _mail_box,
    file_types.OUTLOOK: _outlook,
    **{
        kind: functools.partial(_read_with, kind, read)
        for kind, read in {
            file_types.XLSX: xlsx_text,
            file_types.WORD: doc_text,
            file_types.POWERPOINT: ppt_text,
            file_types.EXCEL: xls_text,
            file_types.XLSB: xlsb_text,
            file_types.ODS: open_document_text,
            file_types.EPUB: epub_text,
            file_types.WORD_2003: word_2003_text,
            file_types.FLAT_WORD: flat_word_text,
            file_types.EXCEL_2003: excel_2003_text,
            file_types.FICTION_BOOK: fiction_book_text,
        }.items()
    },
}


# The readers that mark the places of pictures, and what returns pictures by their names.
_ILLUSTRATED: dict[str, tuple[Callable[[bytes], str], Callable[[bytes, Sequence[str]], dict[str, bytes]]]] = {
    file_types.DOCX: (docx_text, members_of),
    file_types.PPTX: (pptx_text, members_of),
    file_types.ODT: (open_document_text, members_of),
    file_types.ODP: (open_document_text, members_of),
    file_types.ODG: (open_document_text, members_of),
    file_types.HWPX: (hwpx_text, members_of),
    file_types.HWP: (hwp_text, hwp_pictures),
}


def _document(data: bytes, kind: str | None, pictures: PictureReader) -> Extracted:
    if kind is None and archives.is_readable(data):
        raise unsupported("archives are not read: unpack it into the library")
    if kind is None:
        raise unsupported(
            "the extractor does not recognize the type of this file: give it the extension of its type, or export it as PDF"
        )
    if kind in _READERS or kind in _ILLUSTRATED:  # the name has this type, the bytes do not
        raise broken(kind, data)
    if kind == file_types.NOTEBOOK:
        return _read_with(kind, notebook_text, data)
    if kind == file_types.PDF:
        return _pdf(data, pictures)
    if kind == file_types.IWORK:
        if not archives.is_readable(data):
            raise broken(kind, data)
        preview = archives.iwork_preview(data)
        if preview is None:
            raise unsupported(
                f"a {file_types.describe_type(kind)} without a preview is not supported: export it as PDF"
            )
        read = _pdf(preview, pictures)
        return replace(read, metadata={**read.metadata, "mime": kind})
    return _image(data, kind, pictures)


def _image(data: bytes, kind: str, pictures: PictureReader) -> Extracted:
    import_pdfium()
    from dagster_offload.extraction.ocr.photos import refuse_huge, refuse_undecodable

    if not is_whole_image(data, kind):
        raise broken(kind, data)
    refuse_undecodable(data, kind)
    refuse_huge(data, kind)
    return _with_metadata(_ocr(lambda: pictures.read_image(data, kind)), {"mime": kind})


def _pdf(data: bytes, pictures: PictureReader) -> Extracted:
    import_pdfium()
    from dagster_offload.extraction.formats.pdf import pdf_text

    if pictures.allowed:  # the text of a thousand pages is not read again for each of them
        return _ocr(lambda: pictures.read_pages(data))
    found = pdf_text(data)
    pages = len(found.pages)
    metadata: Metadata = {"mime": file_types.PDF, "pages": pages, "title": clean_title(found.title)}
    if found.broken_pages:
        metadata["reason"] = f"{found.broken_pages} of {pages} pages are broken and cannot be read"
    attached = ["Attachments: " + ", ".join(found.attached)] if found.attached else []
    read = _ocr(lambda: pictures.read_pdf(found.data, found.pages))
    if read is not None:
        text = "\n\n".join([read.text, *attached]) if read.outcome is Outcome.OK else ""
        return _with_metadata(replace(read, text=text), metadata)
    wrong = [number for number, page in enumerate(found.pages, 1) if share_of_wrong_letters(page) >= _SOME_WRONG]
    if wrong:
        metadata["reason"] = f"some words of page {wrong[0]} are wrong: a font of the file maps glyphs to wrong letters"
    return extracted("\n\n".join([*(page for page in found.pages if page), *attached]), metadata)


def _ocr(read: Callable[[], T]) -> T:
    try:
        return read()
    except Unreadable as unreadable:
        message = (
            f"Tesseract cannot read a picture of the file ({unreadable.ending}): if a viewer shows it, save it again"
        )
        raise FileRefused("ocr_crash", message, is_final=False) from None


def _with_metadata(found: Extracted, metadata: Metadata) -> Extracted:
    """Return the answer with this metadata added. The answer's own metadata takes precedence."""
    kept = {name: value for name, value in metadata.items() if value != ""}
    return replace(found, metadata={**kept, **found.metadata})
