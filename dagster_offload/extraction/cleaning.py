"""Normalize extracted text for storage and decide the outcome. No I/O."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from dagster_offload.extraction.legibility import why_worthless
from dagster_offload.extraction.no_text import SAVE_AGAIN
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.extraction.symbol_fonts import with_readable_symbols
from dagster_offload.stages.graph import Outcome

_TITLE_CHARACTERS = 300
_LINE_ENDS = re.compile("[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Postgres cannot store NUL, UTF-8 cannot encode a lone surrogate, and the other characters are not text.
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]")
# Normalization takes quadratic time in the number of stacked marks. No script stacks this many (UAX 15).
_MARK = "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f]"
_STACKED_MARKS = re.compile(f"({_MARK}{{30}}){_MARK}+")
_MAX_RAW_TITLE = 10_000  # characters that are cleaned
_BLANK_LINES = re.compile("\n{4,}")


def extracted(text: str, metadata: Mapping[str, Any], *, when_blank: Outcome = Outcome.NO_TEXT) -> Extracted:
    """Return the answer for a file with this text. Drops empty metadata values.

    `when_blank`: the outcome for a text that is empty after cleaning.
    """
    text = clean(text)
    kept = {name: value for name, value in metadata.items() if value != ""}
    why = why_worthless(text)
    if why is not None:
        return Extracted(Outcome.NO_TEXT, "", {**kept, "reason": f"{why}. {SAVE_AGAIN}"})
    return Extracted(Outcome.OK if text else when_blank, text, kept)


def clean(text: str) -> str:
    """Return the text in a form that Postgres can store and whose digest is stable.

    The result is in NFC, uses LF as its only line end, and has no trailing blanks and no long runs of empty lines.
    """
    text = _STACKED_MARKS.sub(r"\1", _NO_TEXT.sub("", _LINE_ENDS.sub("\n", text.replace("\r\n", "\n"))))
    text = "\n".join(line.rstrip() for line in unicodedata.normalize("NFC", with_readable_symbols(text)).split("\n"))
    return (_BLANK_LINES.sub("\n\n\n", text) if "\n" * 4 in text else text).strip("\n")


def clean_title(title: str) -> str:
    """Return the title on one line, with at most 300 characters."""
    return " ".join(clean(title[:_MAX_RAW_TITLE]).split())[:_TITLE_CHARACTERS]
