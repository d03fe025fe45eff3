"""Read every format that has no reader of its own in this package, with kreuzberg, the general extractor.

Its error messages are never forwarded, because they may quote the document. Only the kind of error is.
"""

import re

import kreuzberg
from kreuzberg.exceptions import KreuzbergError, MissingDependencyError, OCRError, ParsingError, ValidationError

from dagster_offload.extraction import file_types
from dagster_offload.extraction.machine import refuse_machine_fault
from dagster_offload.extraction.refusals import FileRefused, broken, password_protected, unsupported

# These are read as Markdown, which separates the cells of a table.
_AS_MARKDOWN = ("spreadsheet", "excel", "html")
_MARKDOWN_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!~<>&])")  # "1\\. Rent" is harder to read than "1. Rent"
# kreuzberg shows a time in a sheet as a moment of the first day (1899-12-30), and a date as midnight of its day.
_TIME_ALONE = re.compile(r"\b1899-12-3[01] (\d\d:\d\d(?::(?!00)\d\d)?)(?::00)?\b")
_MIDNIGHT = re.compile(r"(?<=\b\d{4}-\d\d-\d\d) 00:00:00\b")
_EMPTY_ROW = re.compile(r"^\|[ |]*\|\n", re.MULTILINE)
_ONLY_MARKUP = re.compile(r"(?:[\s|:#>*_\-\\]|\[\^\d+\])*")


def read(data: bytes, mime: str) -> kreuzberg.ExtractionResult:
    """Read the file with kreuzberg. The result's `content` may be Markdown.

    Raises `FileRefused`, or `MachineUnfit` if this machine cannot read such a file in its present state.
    """
    config = kreuzberg.ExtractionConfig(
        use_cache=False,  # the cache would store documents' texts in a folder
        enable_quality_processing=False,  # it rewrites text, and a text's digest must be stable
        output_format="markdown" if _is_read_as_markdown(mime) else "plain",
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),  # the extractors already use all cores
        disable_ocr=True,  # type: ignore[call-arg] # missing in kreuzberg's stubs
        html_options={"strip_tags": ["a", "img"]},  # type: ignore[arg-type] # addresses are noise; the stubs are wrong
    )
    name = file_types.describe_type(mime)
    try:
        return kreuzberg.extract_bytes_sync(data, mime, config)
    except (ValidationError, MissingDependencyError, OCRError) as error:
        raise unsupported(f"the extractor cannot read {name} ({type(error).__name__})") from None
    except ParsingError as error:
        refuse_machine_fault(error)
        if "password" in str(error).lower() or "encrypted" in str(error).lower():
            raise password_protected("the file is protected by a password: save a copy without protection") from None
        raise broken(mime, data) from None
    except KreuzbergError as error:
        refuse_machine_fault(error)
        message = f"the extractor failed on this {name} ({type(error).__name__})"
        raise FileRefused("extraction_crash", message, is_final=False) from None


def read_text(data: bytes, mime: str) -> str:
    """Return the file's text, with tables as Markdown if kreuzberg keeps their cells apart. Raises `FileRefused`."""
    return text_of(read(data, mime), mime)


def text_of(result: kreuzberg.ExtractionResult, mime: str) -> str:
    """Return the text of kreuzberg's result, with plain Markdown and readable dates and times."""
    content: str = result.content
    if "excel" in mime or "spreadsheet" in mime:
        content = _MIDNIGHT.sub("", _TIME_ALONE.sub(lambda found: found[1].removeprefix("0"), content))
    return plain_markdown(content) if _is_read_as_markdown(mime) else content


def type_by_name(path: str) -> str | None:
    """Return the MIME type for the file's name, or None if kreuzberg knows none."""
    try:
        return kreuzberg.detect_mime_type_from_path(path)
    except (KreuzbergError, OSError):
        return None


def _is_read_as_markdown(mime: str) -> bool:
    return any(part in mime for part in _AS_MARKDOWN)


def plain_markdown(text: str) -> str:
    """Return Markdown without escapes and empty table rows, or "" if it consists only of markup."""
    return "" if _ONLY_MARKUP.fullmatch(text) else _MARKDOWN_ESCAPE.sub(r"\1", _EMPTY_ROW.sub("", text))
