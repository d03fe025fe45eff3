"""The text of RTF files, and of RTF bodies of Outlook messages."""

import re

from dagster_offload.extraction import file_types
from dagster_offload.extraction.formats import general

# The extractor drops footnotes; as plain groups they stand where they are referred to.
_NOTE = re.compile(rb"\{(?:\\\*)?\\footnote\b(?:\\ftnalt)?")


def rtf_text(data: bytes) -> str:
    """The file's text; tables as Markdown. Raises `FileRefused`."""
    return general.read_text(_NOTE.sub(b"{ ", data), file_types.RTF)


def is_whole(data: bytes) -> bool:
    """Whether the file's outermost group is closed: a file that was cut off ends somewhere inside it."""
    return data.rstrip(b"\0\r\n ").endswith(b"}")
