"""Text in the form in which it is stored, and the outcome it stands for. Pure."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from dagster_offload.extraction.legibility import why_worthless
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.stages.graph import Outcome

_TITLE_CHARACTERS = 300
_LINE_ENDS = re.compile("[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# NUL is what Postgres cannot store; a lone surrogate is what UTF-8 cannot; the others are no text.
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]")
_BLANK_LINES = re.compile("\n{4,}")


def extracted(text: str, metadata: Mapping[str, Any], *, when_blank: Outcome = Outcome.NO_TEXT) -> Extracted:
    """The answer for a file that holds `text`. Empty metadata values are left out."""
    text = clean(text)
    kept = {name: value for name, value in metadata.items() if value != ""}
    why = why_worthless(text)
    if why is not None:
        return Extracted(Outcome.NO_TEXT, "", {**kept, "reason": why})
    return Extracted(Outcome.OK if text else when_blank, text, kept)


def clean(text: str) -> str:
    """Text that Postgres stores and whose digest is stable: NFC, one kind of line end, no blanks at line ends."""
    text = _NO_TEXT.sub("", _LINE_ENDS.sub("\n", text.replace("\r\n", "\n")))
    text = "\n".join(line.rstrip() for line in unicodedata.normalize("NFC", text).split("\n"))
    return (_BLANK_LINES.sub("\n\n\n", text) if "\n" * 4 in text else text).strip("\n")


def clean_title(title: str) -> str:
    """A title on one line, of a length that fits a table."""
    return " ".join(clean(title).split())[:_TITLE_CHARACTERS]
