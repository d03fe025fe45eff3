"""Read what another program inserted into a Word document without converting it: HTML, a saved web page, RTF, text.

Word converts such a part (`altChunk`) when it opens the document. Programs that make DOCX from HTML write nothing else.
"""

from dagster_offload.extraction.encodings.decoding import declared_encoding, decode
from dagster_offload.extraction.file_types.detection import looks_like_html
from dagster_offload.extraction.formats.html import html_text
from dagster_offload.extraction.formats.mail.eml import mail_text
from dagster_offload.extraction.formats.rtf import rtf_text


def inserted_text(data: bytes) -> str:
    """Return the text of an inserted part that is not a Word document, "" if it is of an unknown type."""
    if data.startswith(b"{\\rtf"):
        return rtf_text(data)
    if not looks_like_html(data) and (page := mail_text(data, html_text)) is not None:
        return page
    decoded = decode(data, declared_encoding(data))
    if decoded is None:
        return ""
    return html_text(decoded.text) if decoded.text.lstrip().startswith("<") else decoded.text
