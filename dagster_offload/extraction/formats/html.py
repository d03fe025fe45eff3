"""Read HTML pages and HTML parts of mails."""

import html

from dagster_offload.extraction import file_types
from dagster_offload.extraction.encodings import declared_encoding, decode
from dagster_offload.extraction.formats import general
from dagster_offload.extraction.formats.html_head import title_of, without_head
from dagster_offload.extraction.refusals import FileRefused


def html_text(page: str) -> str:
    """Return the page's text, with tables as Markdown. Raises `FileRefused`."""
    return general.read_text(without_head(page).encode("utf-8", "ignore"), file_types.HTML)


def html_title(page: str) -> str:
    """Return the page's title, "" if it has none."""
    return html.unescape(title_of(page) or "")


def html_part_text(page: str) -> str:
    """Return the text of an HTML part of a mail; "" if it cannot be read, so that the rest of the mail is still read."""
    try:
        return html_text(page)
    except FileRefused:
        return ""


def html_part_bytes_text(page: bytes) -> str:
    """Like `html_part_text`, for a part that is not decoded yet."""
    decoded = decode(page, declared_encoding(page))
    return "" if decoded is None else html_part_text(decoded.text)
