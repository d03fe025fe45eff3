"""Detect a file's type from its bytes. File names can be wrong (.doc files that are RTF, .xls files that are HTML).

If the bytes do not identify the type, the name does (`readers`).
"""

import re

import olefile

from dagster_offload.extraction.file_types import (
    APPLE_MAIL,
    CALENDAR,
    CONTACTS,
    DOCX,
    EPUB,
    EXCEL,
    EXCEL_2003,
    FICTION_BOOK,
    FLAT_WORD,
    HTML,
    HWP,
    HWPX,
    IWORK,
    MAIL,
    MBOX,
    ODG,
    ODP,
    ODS,
    ODT,
    OFFICE,
    OPEN_DOCUMENT,
    OUTLOOK,
    PDF,
    POWERPOINT,
    PPTX,
    RTF,
    WORD,
    WORD_2003,
    XLSB,
    XLSX,
)
from dagster_offload.extraction.file_types.containers import (
    OfficeArchive,
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
# The same by the content type of the main part, which has another name in files of some programs. Bounded: the patterns
# backtrack.
_MAIN_PARTS = (
    (re.compile(rb'"application/[^"]{0,200}(?:wordprocessingml|ms-word)\.[^"]{0,200}main\+xml"'), DOCX),
    (re.compile(rb'"application/vnd\.ms-excel\.sheet\.binary\.[^"]{0,200}main"'), XLSB),
    (re.compile(rb'"application/[^"]{0,200}(?:spreadsheetml|ms-excel)\.[^"]{0,200}main\+xml"'), XLSX),
    (re.compile(rb'"application/[^"]{0,200}(?:presentationml|ms-powerpoint)\.[^"]{0,200}main\+xml"'), PPTX),
)
_CONTENT_TYPES = "[Content_Types].xml"
_IWORK_PARTS = frozenset({"Index.zip", "index.apxl", "index.apxl.gz", "QuickLook/Preview.pdf"})
# The type that an archive declares in its member `mimetype` -> our name of the type.
_DECLARED_TYPES = {
    **{kind + end: kind for kind in (ODT, ODS, ODP, ODG) for end in ("", "-template")},
    **dict.fromkeys((f"{ODT}-master", f"{ODT}-master-template", f"{ODT}-web"), ODT),
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

_PROLOG = rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?"
_FICTION_BOOK = re.compile(_PROLOG + rb"<FictionBook\b", re.DOTALL)
# Pages that programs save without a head begin with the table or the heading that they consist of.
_HTML = re.compile(_PROLOG + rb"<(?:!doctype\s+html|html|head|body|meta|title|table)\b", re.DOTALL | re.IGNORECASE)
# XML files of Office 2003, and of OpenDocument ("flat").
_XML = re.compile(_PROLOG + rb"(?:<\?[^>]*>\s*)*<(?:\w+:)?(wordDocument|Workbook|package|document)\b([^>]*)", re.DOTALL)
_XML_KINDS = {
    b"wordDocument": (b"schemas.microsoft.com/office/word/2003/wordml", WORD_2003),
    b"Workbook": (b"urn:schemas-microsoft-com:office:spreadsheet", EXCEL_2003),
    b"package": (b"schemas.microsoft.com/office/2006/xmlPackage", FLAT_WORD),
}
_FLAT_KIND = re.compile(rb"""\boffice:mimetype\s*=\s*["']([^"']+)""")
_HEADER = re.compile(rb"([A-Za-z][A-Za-z-]{1,60}):")
_MAIL_HEADERS = frozenset(
    b"return-path received delivered-to from to subject date message-id mime-version content-type x-mozilla-status".split()
)


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
    if data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _xml_kind(data)
    if _MAIL_BOX.match(data[:2000]):  # bounded: the pattern backtracks
        return MBOX
    return MAIL if looks_like_mail(data) else None


def begins_as(kind: str, data: bytes) -> bool:
    """Whether the first bytes are those of the type. True for types without known first bytes."""
    if kind in (WORD, EXCEL, POWERPOINT, OUTLOOK, HWP):
        return is_compound(data)
    if kind.startswith(OPEN_DOCUMENT):
        return is_archive(data) or _xml_kind(data) == kind
    if kind in (HWPX, EPUB, XLSB, IWORK) or kind.startswith(OFFICE):
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
    return _HTML.match(data[:2000]) is not None


def looks_like_mail(data: bytes) -> bool:
    """Whether the bytes begin with headers of a mail: a MIME version and a type, or a sender and two others."""
    names = set()
    for line in data[:4000].lstrip(b"\xef\xbb\xbf").split(b"\n"):
        header = _HEADER.match(line)
        if header is not None:
            names.add(header[1].lower())
        elif not line.startswith((b" ", b"\t")):
            break
    known = names & _MAIL_HEADERS
    return {b"mime-version", b"content-type"} <= known or (b"from" in known and len(known) > 3)


def _xml_kind(data: bytes) -> str | None:
    """Return the type of an XML file whose root identifies it, else None."""
    head = data[:20_000]  # an OpenDocument root has many namespaces
    if _FICTION_BOOK.match(head):
        return FICTION_BOOK
    root = _XML.match(head)
    if root is None:
        return None
    if root[1] == b"document":
        flat = _FLAT_KIND.search(root[2])
        return _DECLARED_TYPES.get(flat[1].decode("ascii", "replace")) if flat else None
    namespace, kind = _XML_KINDS[root[1]]
    return kind if namespace in root[2] else None


def is_old_hangul(data: bytes) -> bool:
    """Whether this is HWP 3 or older, which is another format than HWP 5."""
    return data.startswith(b"HWP Document File V")


def is_old_word(data: bytes) -> bool:
    """Whether this is a document of Word 1 or 2, for DOS, or of Word 4 or 5 for the Mac: other formats than Word 6."""
    return data.startswith(
        (b"\x31\xbe\0\0", b"\x9b\xa5\x21\0", b"\xdb\xa5\x2d\0", b"\xfe\x37\0\x1c", b"\xfe\x37\0\x23")
    )


def is_old_powerpoint(data: bytes) -> bool:
    """Whether this is PowerPoint 4 or older, which is another format than PowerPoint 95 and 97."""
    return data.startswith(b"\xed\xde\xad\x0b") or (is_compound(data) and bool(opened_compound(data, _has_old_slides)))


def _has_old_slides(file: olefile.OleFileIO) -> bool:
    return bool(file.exists("PP40") or file.exists("PowerPoint Document 95"))


def _archive_kind(archive: OfficeArchive) -> str | None:
    names = set(archive.namelist())
    if "mimetype" in names:
        named = head_of(archive, "mimetype", 100).decode("ascii", "replace").strip()
        if named in _DECLARED_TYPES:
            return _DECLARED_TYPES[named]
    if not names.isdisjoint(_IWORK_PARTS) or any(name.endswith(".iwa") for name in names):
        return IWORK
    usual = next((kind for part, kind in _OFFICE_PARTS if archive.has(part)), None)
    if usual is not None or not archive.has(_CONTENT_TYPES):
        return usual
    content_types = head_of(archive, _CONTENT_TYPES, 1_000_000)
    return next((kind for pattern, kind in _MAIN_PARTS if pattern.search(content_types)), None)


def _compound_kind(file: olefile.OleFileIO) -> str | None:
    if is_hangul(file):
        return HWP
    return next((kind for stream, kind in _OLE_STREAMS if file.exists(stream)), None)


def is_hangul(file: olefile.OleFileIO) -> bool:
    """Whether a compound file is an HWP 5 document."""
    return bool(file.exists("FileHeader")) and file.openstream("FileHeader").read(17) == b"HWP Document File"
