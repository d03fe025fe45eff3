"""Say why a file that was read gives no text, and what its owner can do. No I/O."""

from dagster_offload.extraction import file_types
from dagster_offload.extraction.file_types import describe_type

NO_BYTES = "the file has no bytes: if it should have some, copy it here again"
ONLY_BLANKS = "the file contains only blanks"
SAVE_AGAIN = "Save it again from the program that made it, or as a PDF of pictures, which OCR reads"
NO_WORDS = (
    "if it shows words, scan it again with 300 dots per inch, or add their language to OFFLOAD_OCR_LANGUAGES and read it "
    "again (with `up`: `dagster-offload redo --needs-ocr`)"
)

_SHEETS = (file_types.XLSX, file_types.XLSB, file_types.EXCEL, file_types.EXCEL_2003, file_types.ODS)
_SLIDES = (file_types.PPTX, file_types.ODP, file_types.ODG)
_WHYS = {
    **dict.fromkeys(_SHEETS, "no cell of this {} has a value: if it shows charts or pictures, export it as PDF"),
    **dict.fromkeys(_SLIDES, "no slide of this {} shows words: if its drawings do, export it as PDF"),
    **dict.fromkeys(
        (file_types.WORD, file_types.RTF),
        "no paragraph of this {} has words: if its pictures do, save it as DOCX, whose pictures OCR reads",
    ),
    **dict.fromkeys(
        (file_types.MAIL, file_types.OUTLOOK, file_types.APPLE_MAIL, file_types.MBOX),
        "this {} has no subject and no text: if the words are in its attachments, save those into the library",
    ),
    file_types.POWERPOINT: "no slide of this {} shows words: if its pictures do, save it as PPTX, whose pictures OCR reads",
    file_types.PDF: "the pages of this {} are blank: if a viewer shows words on them, print it to a new PDF",
    file_types.IWORK: "the preview inside this {} is blank: export the document as PDF",
    file_types.HTML: "this {} has no visible text: if a browser shows some, print the page to PDF",
    file_types.EPUB: "the chapters of this {} have no text: if they are pictures, export it as PDF",
    file_types.CALENDAR: "this {} has no entries with text: export it again from its program",
    file_types.CONTACTS: "this {} has no entries with text: export it again from its program",
    file_types.NOTEBOOK: "the cells of this {} are empty",
}
_OTHER = "no paragraph of this {} has words: if it shows some, export it as PDF"


def why_no_text(kind: str) -> str:
    """Return the reason of a document of this MIME type in which the reader found no text."""
    return _WHYS.get(kind, _OTHER).format(describe_type(kind))
