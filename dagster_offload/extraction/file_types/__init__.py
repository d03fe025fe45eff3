"""The types of files that we read: their MIME types, common names and extensions.

`detection` finds a file's type from its bytes, `protection` what prevents reading it. `containers` opens the two containers
of office files, and `archives` reads what an archive says about itself. `images` measures pictures.
"""

from dagster_offload.extraction.file_types.images import BMP, GIF, HEIC, JPEG, PNG, TIFF, WEBP

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
ODT, ODP, ODS, ODG = (OPEN_DOCUMENT + kind for kind in ("text", "presentation", "spreadsheet", "graphics"))
# XML files that Office 2003 wrote, and one XML file with all parts of a Word document ("flat OPC").
WORD_2003, EXCEL_2003, FLAT_WORD = (
    "application/vnd.ms-wordml",
    "application/vnd.ms-spreadsheetml",
    "application/vnd.ms-word2006ml",
)

_PICTURES = {PNG: "PNG", JPEG: "JPEG", TIFF: "TIFF", BMP: "BMP", GIF: "GIF", WEBP: "WebP", HEIC: "HEIC"}
_NAMES = {
    PDF: "PDF",
    HTML: "HTML page",
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
    ODG: "OpenDocument drawing",
    WORD_2003: "Word document (XML)",
    FLAT_WORD: "Word document (XML)",
    EXCEL_2003: "Excel workbook (XML)",
    **{kind: f"{name} picture" for kind, name in _PICTURES.items()},
}

# The type by the extension of a name. Used if the bytes do not identify the type.
_TYPES_BY_EXTENSION = {
    **dict.fromkeys(("docx", "docm", "dotx", "dotm"), DOCX),
    **dict.fromkeys(("xlsx", "xlsm", "xltx", "xltm"), XLSX),
    **dict.fromkeys(("pptx", "pptm", "ppsx", "ppsm", "potx", "potm"), PPTX),
    **dict.fromkeys(("doc", "dot"), WORD),
    **dict.fromkeys(("xls", "xlt"), EXCEL),
    **dict.fromkeys(("ppt", "pps", "pot"), POWERPOINT),
    **dict.fromkeys(("odt", "ott", "odm", "fodt"), ODT),
    **dict.fromkeys(("ods", "ots", "fods"), ODS),
    **dict.fromkeys(("odp", "otp", "fodp"), ODP),
    **dict.fromkeys(("odg", "otg", "fodg"), ODG),
    "pdf": PDF,
    "rtf": RTF,
    "html": HTML,
    "htm": HTML,
    "xhtml": HTML,
    "hwp": HWP,
    "hwpx": HWPX,
    "epub": EPUB,
    "msg": OUTLOOK,
    "xlsb": XLSB,
    "fb2": FICTION_BOOK,
    "ipynb": NOTEBOOK,
    **dict.fromkeys(("pages", "numbers", "key"), IWORK),
    **dict.fromkeys(("heic", "heif", "hif"), HEIC),
    "png": PNG,
    "jpg": JPEG,
    "jpeg": JPEG,
    "tif": TIFF,
    "tiff": TIFF,
    "bmp": BMP,
    "gif": GIF,
    "webp": WEBP,
}


def type_by_extension(extension: str) -> str | None:
    """Return the MIME type for the extension of a name, in lower case and without its dot, or None."""
    return _TYPES_BY_EXTENSION.get(extension)


def describe_type(kind: str) -> str:
    """Return the common name of a MIME type, or the type itself if it has none here."""
    return _NAMES.get(kind, kind)
