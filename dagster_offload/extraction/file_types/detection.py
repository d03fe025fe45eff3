"""Detect a file's type from its bytes. File names can be wrong (.doc files that are RTF, .xls files that are HTML).

If the bytes do not identify the type, the name does (`readers`).
"""

import re
import zipfile

import olefile

from dagster_offload.extraction.file_types import (
    APPLE_MAIL,
    CALENDAR,
    CONTACTS,
    DOCX,
    EPUB,
    EXCEL,
    FICTION_BOOK,
    HTML,
    HWP,
    HWPX,
    IWORK,
    MBOX,
    OFFICE,
    OPEN_DOCUMENT,
    OUTLOOK,
    PDF,
    POWERPOINT,
    PPTX,
    RTF,
    WORD,
    XLSB,
    XLSX,
)
from dagster_offload.extraction.file_types.containers import (
    head_of,
    is_archive,
    is_compound,
    opened_archive,
    opened_compound,
)
from dagster_offload.extraction.file_types.images import BMP, GIF, HEIC, JPEG, PNG, TIFF, WEBP, is_heic

_MAGIC_NUMBERS = (
    (b"%PDF-", PDF),
    (b"{\\rtf", RTF),
    (b"\x89PNG\r\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF8", GIF),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    # Excel 2 to 4, and 5 without its container.
    *((beginning, EXCEL) for beginning in (b"\t\0\4\0", b"\t\2\6\0", b"\t\4\6\0", b"\t\b\b\0", b"\t\b\20\0")),
)
_OFFICE_PARTS = (
    ("word/document.xml", DOCX),
    ("xl/workbook.xml", XLSX),
    ("xl/workbook.bin", XLSB),
    ("ppt/presentation.xml", PPTX),
    ("Contents/content.hpf", HWPX),
)
_IWORK_PARTS = frozenset({"Index.zip", "index.apxl", "index.apxl.gz", "QuickLook/Preview.pdf"})
# The type that an archive declares in its member `mimetype` -> our name of the type.
_DECLARED_TYPES = {
    **{OPEN_DOCUMENT + kind: OPEN_DOCUMENT + kind for kind in ("text", "spreadsheet", "presentation")},
    EPUB: EPUB,
    "application/hwp+zip": HWPX,
    "application/haansofthwpx": HWPX,
}
_OLE_STREAMS = (
    ("__properties_version1.0", OUTLOOK),
    ("WordDocument", WORD),
    ("Workbook", EXCEL),
    ("Book", EXCEL),
    ("PowerPoint Document", POWERPOINT),
)
# `From ` alone could begin a letter. With a time on the line and a header below, it is a mailbox (RFC 4155).
_MAIL_BOX = re.compile(rb"From \S+ [^\n]*\d\d:\d\d[^\n]*\r?\n[A-Za-z-]+:")

_FICTION_BOOK = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<FictionBook\b", re.DOTALL)


def detect_type(data: bytes) -> str | None:
    """Return the MIME type that the bytes identify, or None for plain text, unknown types and truncated archives."""
    for beginning, kind in _MAGIC_NUMBERS:
        if data.startswith(beginning):
            return kind
    if data.startswith(b"BM") and data[6:10] == bytes(4):  # the reserved bytes of a bitmap
        return BMP
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if is_heic(data):
        return HEIC
    if is_archive(data):
        return opened_archive(data, _archive_kind)
    if is_compound(data):
        return opened_compound(data, _compound_kind)
    if looks_like_html(data):
        return HTML
    if _FICTION_BOOK.match(data[:2000]):
        return FICTION_BOOK
    return MBOX if _MAIL_BOX.match(data[:2000]) else None  # bounded: the pattern backtracks


def begins_as(kind: str, data: bytes) -> bool:
    """Whether the first bytes are those of the type. True for types without known first bytes."""
    if kind in (WORD, EXCEL, POWERPOINT, OUTLOOK, HWP):
        return is_compound(data)
    if kind in (HWPX, EPUB, XLSB, IWORK) or kind.startswith((OFFICE, OPEN_DOCUMENT)):
        return is_archive(data)
    if kind in (CALENDAR, CONTACTS):
        return data.lstrip().upper().startswith(b"BEGIN:V")
    return {
        PDF: b"%PDF-" in data[:1024],
        RTF: data.startswith(b"{\\rtf"),
        MBOX: data.startswith(b"From "),
        APPLE_MAIL: data[:1].isdigit(),
    }.get(kind, True)


def looks_like_html(data: bytes) -> bool:
    """Whether the bytes begin with an HTML tag or doctype."""
    return data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


def is_old_hangul(data: bytes) -> bool:
    """Whether this is HWP 3 or older, which is another format than HWP 5."""
    return data.startswith(b"HWP Document File V")


def is_old_powerpoint(data: bytes) -> bool:
    """Whether this is PowerPoint 95 or older, which is another format in the same container as PowerPoint 97."""
    return is_compound(data) and opened_compound(data, _old_powerpoint) is not None


def _old_powerpoint(file: olefile.OleFileIO) -> str | None:
    return POWERPOINT if file.exists("PP40") or file.exists("PowerPoint Document 95") else None


def _archive_kind(archive: zipfile.ZipFile) -> str | None:
    names = set(archive.namelist())
    if "mimetype" in names:
        named = head_of(archive, "mimetype", 100).decode("ascii", "replace").strip()
        if named in _DECLARED_TYPES:
            return _DECLARED_TYPES[named]
    if not names.isdisjoint(_IWORK_PARTS) or any(name.endswith(".iwa") for name in names):
        return IWORK
    return next((kind for part, kind in _OFFICE_PARTS if part in names), None)


def _compound_kind(file: olefile.OleFileIO) -> str | None:
    if is_hangul(file):
        return HWP
    return next((kind for stream, kind in _OLE_STREAMS if file.exists(stream)), None)


def is_hangul(file: olefile.OleFileIO) -> bool:
    """Whether a compound file is an HWP 5 document."""
    return bool(file.exists("FileHeader")) and file.openstream("FileHeader").read(17) == b"HWP Document File"
