"""Read Office files of 1997 to 2003 (DOC, PPT), and XLS files that kreuzberg refuses, with office-oxide.

kreuzberg loses Word footnotes, refuses one DOC in five, and mixes the texts of a slide master with the slides
(docs/decisions/0007-extractors.md). Word 6 and 95 files are also read.
"""

import re
from typing import Literal

from office_oxide import Document, OfficeOxideError

from dagster_offload.extraction import file_types
from dagster_offload.extraction.formats.general import plain_markdown
from dagster_offload.extraction.refusals import broken, password_protected

_SLIDE_HEADING = re.compile(r"^## Slide \d+$", re.MULTILINE)
# The texts of the slide master come after the slides. No slide shows them.
_MASTER = re.compile(r"^## Slide Master$.*", re.MULTILINE | re.DOTALL)
_FORMATS: dict[str, Literal["doc", "ppt", "xls"]] = {
    file_types.WORD: "doc",
    file_types.POWERPOINT: "ppt",
    file_types.EXCEL: "xls",
}


def doc_text(data: bytes) -> str:
    """Return the text of a Word document (6 to 2003) with headings, tables and footnotes. Raises `FileRefused`."""
    return _markdown(data, file_types.WORD)


def ppt_text(data: bytes) -> str:
    """Return the text of a PowerPoint presentation (97 to 2003), slide by slide. Raises `FileRefused`."""
    return _SLIDE_HEADING.sub("", _MASTER.sub("", _markdown(data, file_types.POWERPOINT)))


def xls_text(data: bytes) -> str:
    """Return the text of an Excel workbook (95 to 2003). Raises `FileRefused`."""
    return _markdown(data, file_types.EXCEL)


def _markdown(data: bytes, kind: str) -> str:
    try:
        return plain_markdown(Document.from_bytes(data, _FORMATS[kind]).to_markdown())
    except OfficeOxideError as error:  # never forwarded: the message may quote the document
        if "password" in str(error) or "encrypted" in str(error):
            raise password_protected("the file is protected by a password: save a copy without protection") from None
        raise broken(kind, data) from None
