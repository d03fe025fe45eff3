"""Detect a file's type from its bytes, and whether a password, rights management or its size prevents reading it.

File names can be wrong (.doc files that are RTF, .xls files that are HTML), so the bytes come first. If the bytes do
not identify the type, the name does (`readers`). This module does not read a document's text.
"""

import html
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

import olefile

from dagster_offload.extraction.image_files import BMP, GIF, JPEG, PNG, TIFF, WEBP

PDF, RTF, HTML = "application/pdf", "application/rtf", "text/html"
WORD, EXCEL, POWERPOINT = "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"
OUTLOOK, MAIL, MBOX = "application/vnd.ms-outlook", "message/rfc822", "application/mbox"
APPLE_MAIL, CALENDAR, CONTACTS = "message/x-emlx", "text/calendar", "text/vcard"
IWORK = "application/x-iwork"
FICTION_BOOK, NOTEBOOK = "application/x-fictionbook+xml", "application/x-ipynb+json"
HWP, HWPX, EPUB = "application/x-hwp", "application/haansofthwpx", "application/epub+zip"
OFFICE = "application/vnd.openxmlformats-officedocument."
OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
DOCX, PPTX = OFFICE + "wordprocessingml.document", OFFICE + "presentationml.presentation"
XLSX = OFFICE + "spreadsheetml.sheet"
XLSB = "application/vnd.ms-excel.sheet.binary.macroenabled.12"
ODT, ODP, ODS = (OPEN_DOCUMENT + kind for kind in ("text", "presentation", "spreadsheet"))

_NAMES = {
    PDF: "PDF",
    RTF: "RTF text",
    WORD: "Word document (97-2003)",
    EXCEL: "Excel workbook (97-2003)",
    POWERPOINT: "PowerPoint presentation (97-2003)",
    OUTLOOK: "Outlook message",
    MAIL: "mail",
    MBOX: "mailbox",
    APPLE_MAIL: "message of Apple Mail",
    CALENDAR: "calendar",
    CONTACTS: "list of contacts",
    HWP: "Hangul document (HWP)",
    HWPX: "Hangul document (HWPX)",
    EPUB: "EPUB book",
    FICTION_BOOK: "FictionBook",
    NOTEBOOK: "Jupyter notebook",
    IWORK: "Pages, Numbers or Keynote document",
    DOCX: "Word document",
    XLSX: "Excel workbook",
    XLSB: "Excel workbook (binary)",
    PPTX: "PowerPoint presentation",
    ODT: "OpenDocument text",
    ODS: "OpenDocument spreadsheet",
    ODP: "OpenDocument presentation",
}
_ZIP_MAGIC = b"PK\x03\x04"
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
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
# What the extension of a name says, if the bytes do not identify the type.
_TYPES_BY_EXTENSION = {
    "pdf": PDF,
    "rtf": RTF,
    "html": HTML,
    "htm": HTML,
    "xhtml": HTML,
    "hwp": HWP,
    "hwpx": HWPX,
    "epub": EPUB,
    "doc": WORD,
    "dot": WORD,
    "docx": DOCX,
    "docm": DOCX,
    "dotx": DOCX,
    "odt": ODT,
    "msg": OUTLOOK,
    "xls": EXCEL,
    "xlsx": XLSX,
    "xlsm": XLSX,
    "xlsb": XLSB,
    "ods": ODS,
    "fb2": FICTION_BOOK,
    "ipynb": NOTEBOOK,
    "ppt": POWERPOINT,
    "pptx": PPTX,
    "pptm": PPTX,
    "ppsx": PPTX,
    "odp": ODP,
    **dict.fromkeys(("pages", "numbers", "key"), IWORK),
    "png": PNG,
    "jpg": JPEG,
    "jpeg": JPEG,
    "tif": TIFF,
    "tiff": TIFF,
    "bmp": BMP,
    "gif": GIF,
    "webp": WEBP,
}
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

# EPUB readers restore these obfuscated fonts without a key. Any other encryption needs one.
_SCRAMBLED_FONTS = (b"http://www.idpf.org/2008/embedding", b"http://ns.adobe.com/pdf/enc#RC")
_ALGORITHM = re.compile(rb"""EncryptionMethod[^<>]{0,1000}?Algorithm\s*=\s*["']([^"']*)""")

# The exceptions that the standard library and olefile raise for damaged files: nearly all, but not MemoryError.
DAMAGE_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError, OverflowError, SyntaxError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)

_TITLE = re.compile(rb"<dc:title\b[^>]*>([^<]*)</dc:title>")
_TITLE_HOLDERS = frozenset({"docProps/core.xml", "meta.xml"})

UNPACKED_LIMIT_BYTES = 1024**3
_HWP_PASSWORD, _HWP_RIGHTS = 2, 16
_WORD_IS_ENCRYPTED = 0x0100

# A PDF with one empty page. If it cannot be read, no PDF can.
EMPTY_PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj
trailer<</Root 1 0 R>>
startxref
0
%%EOF
"""


def detect_type(data: bytes) -> str | None:
    """Return the MIME type that the bytes identify, or None for plain text, unknown types and truncated archives."""
    for beginning, kind in _MAGIC_NUMBERS:
        if data.startswith(beginning):
            return kind
    if data.startswith(b"BM") and data[6:10] == bytes(4):  # the reserved bytes of a bitmap
        return BMP
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data.startswith(_ZIP_MAGIC):
        return _opened_archive(data, _archive_kind)
    if data.startswith(_OLE_MAGIC):
        return _opened_compound(data, _compound_kind)
    if looks_like_html(data):
        return HTML
    if _FICTION_BOOK.match(data[:2000]):
        return FICTION_BOOK
    return MBOX if _MAIL_BOX.match(data[:2000]) else None  # bounded: the pattern backtracks


def is_compound(data: bytes) -> bool:
    """Whether this is a compound file, the container of old Office files. `olefile.isOleFile` may open a file instead."""
    return data.startswith(_OLE_MAGIC)


def type_by_extension(extension: str) -> str | None:
    """Return the MIME type for the extension of a name, in lower case and without its dot, or None."""
    return _TYPES_BY_EXTENSION.get(extension)


def describe_type(kind: str) -> str:
    """Return the common name of a MIME type, or the type itself if it has none here."""
    return _NAMES.get(kind, kind)


def begins_as(kind: str, data: bytes) -> bool:
    """Whether the first bytes are those of the type. True for types without known first bytes."""
    if kind in (WORD, EXCEL, POWERPOINT, OUTLOOK, HWP):
        return is_compound(data)
    if kind in (HWPX, EPUB, XLSB) or kind.startswith((OFFICE, OPEN_DOCUMENT)):
        return data.startswith(_ZIP_MAGIC)
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
    return data.startswith(_OLE_MAGIC) and _opened_compound(data, _old_powerpoint) is not None


def _old_powerpoint(file: olefile.OleFileIO) -> str | None:
    return POWERPOINT if file.exists("PP40") or file.exists("PowerPoint Document 95") else None


def protection(data: bytes) -> str | None:
    """Return how an office file is protected, such as "protected by a password", or None if it is not.

    Does not check PDF and XLS files. Their readers report a password.
    """
    if data.startswith(_ZIP_MAGIC):
        return _opened_archive(data, _archive_protection)
    return _opened_compound(data, _compound_protection) if data.startswith(_OLE_MAGIC) else None


def unpacked_bytes(data: bytes) -> int:
    """Return the declared unpacked size of a ZIP archive in bytes, 0 for other files."""
    if not data.startswith(_ZIP_MAGIC):
        return 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return sum(member.file_size for member in archive.infolist())
    except DAMAGE_ERRORS:
        return 0


def title(data: bytes) -> str:
    """Return the title in an office file's properties, "" if it has none."""
    return (_opened_archive(data, _archive_title) or "") if data.startswith(_ZIP_MAGIC) else ""


def iwork_preview(data: bytes) -> bytes | None:
    """Return the PDF preview inside a Pages, Numbers or Keynote document, or None if it has none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            previews = [name for name in archive.namelist() if name.lower() in ("quicklook/preview.pdf", "preview.pdf")]
            return archive.read(previews[0]) if previews else None
    except DAMAGE_ERRORS:
        return None


def _archive_title(archive: zipfile.ZipFile) -> str | None:
    holders = (name for name in archive.namelist() if name in _TITLE_HOLDERS or name.endswith(".opf"))
    properties = next(holders, None)
    found = _TITLE.search(_head(archive, properties, 100_000)) if properties else None
    return None if found is None else html.unescape(found[1].decode("utf-8", "replace"))


def _opened_archive(data: bytes, look: Callable[[zipfile.ZipFile], str | None]) -> str | None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return look(archive)
    except DAMAGE_ERRORS:
        return None  # its reader reports the damage


def _archive_kind(archive: zipfile.ZipFile) -> str | None:
    names = set(archive.namelist())
    if "mimetype" in names:
        named = _head(archive, "mimetype", 100).decode("ascii", "replace").strip()
        if named in _DECLARED_TYPES:
            return _DECLARED_TYPES[named]
    if not names.isdisjoint(_IWORK_PARTS) or any(name.endswith(".iwa") for name in names):
        return IWORK
    return next((kind for part, kind in _OFFICE_PARTS if part in names), None)


def _archive_protection(archive: zipfile.ZipFile) -> str | None:
    names = set(archive.namelist())
    manifest, keys = "META-INF/manifest.xml", "META-INF/encryption.xml"
    if any(member.flag_bits & 1 for member in archive.infolist()):
        return "protected by a password"
    if manifest in names and b"encryption-data" in _head(archive, manifest, 1_000_000):
        return "protected by a password"
    if keys in names and set(_ALGORITHM.findall(_head(archive, keys, 1_000_000))) - set(_SCRAMBLED_FONTS):
        return "protected by digital rights management"
    return None


def _head(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    with archive.open(name) as member:
        return member.read(limit)


def _opened_compound(data: bytes, look: Callable[[olefile.OleFileIO], str | None]) -> str | None:
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            return look(file)
    except DAMAGE_ERRORS:
        return None


def _compound_kind(file: olefile.OleFileIO) -> str | None:
    if _is_hangul(file):
        return HWP
    return next((kind for stream, kind in _OLE_STREAMS if file.exists(stream)), None)


def _is_hangul(file: olefile.OleFileIO) -> bool:
    return bool(file.exists("FileHeader")) and file.openstream("FileHeader").read(17) == b"HWP Document File"


def _compound_protection(file: olefile.OleFileIO) -> str | None:
    if _is_hangul(file):
        return _hangul_protection(file)
    has_password = (
        file.exists("EncryptedPackage")
        or file.exists("EncryptedSummary")
        or (file.exists("WordDocument") and _is_encrypted_word(file))
    )
    return "protected by a password" if has_password else None


def _hangul_protection(file: olefile.OleFileIO) -> str | None:
    (flags,) = struct.unpack_from("<I", file.openstream("FileHeader").read(), 36)
    if flags & _HWP_PASSWORD:
        return "protected by a password"
    return "protected by digital rights management" if flags & _HWP_RIGHTS else None


def _is_encrypted_word(file: olefile.OleFileIO) -> bool:
    head = file.openstream("WordDocument").read(12)
    return bool(struct.unpack_from("<H", head, 10)[0] & _WORD_IS_ENCRYPTED)
