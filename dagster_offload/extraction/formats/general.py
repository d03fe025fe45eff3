"""The general extractor, kreuzberg: reads every format that has no reader of its own in this package.

Its messages about a fault are never passed on, because they may quote the document; only the kind of fault is.
"""

import re

import kreuzberg
from kreuzberg.exceptions import KreuzbergError, MissingDependencyError, OCRError, ParsingError, ValidationError

from dagster_offload.extraction import file_types
from dagster_offload.extraction.machine import refuse_machine_fault
from dagster_offload.extraction.refusals import FileRefused, broken, password_protected, unsupported

# Cells stay apart in Markdown.
_AS_MARKDOWN = ("spreadsheet", "excel", "html")
_MARKDOWN_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!~<>&])")  # "1\\. Rent" is harder to read than "1. Rent"
# A sheet's times come out as moments of its first day, its dates as midnights.
_TIME_ALONE = re.compile(r"\b1899-12-3[01] (\d\d:\d\d(?::(?!00)\d\d)?)(?::00)?\b")
_MIDNIGHT = re.compile(r"(?<=\b\d{4}-\d\d-\d\d) 00:00:00\b")
_EMPTY_ROW = re.compile(r"^\|[ |]*\|\n", re.MULTILINE)
_ONLY_MARKUP = re.compile(r"(?:[\s|:#>*_\-\\]|\[\^\d+\])*")


def read(data: bytes, mime: str) -> kreuzberg.ExtractionResult:
    """Everything kreuzberg finds in the file; `content` may be Markdown. Raises `FileRefused`."""
    config = kreuzberg.ExtractionConfig(
        use_cache=False,  # it would keep documents' texts in a folder of its own
        enable_quality_processing=False,  # rewrites text; digests of texts are to be stable
        output_format="markdown" if _is_asked_as_markdown(mime) else "plain",
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),  # one child per core is what uses the cores
        disable_ocr=True,  # type: ignore[call-arg] # missing in its stubs
        html_options={"strip_tags": ["a", "img"]},  # type: ignore[arg-type] # addresses are noise; its stubs are wrong
    )
    name = file_types.describe_time(mime)
    try:
        return kreuzberg.extract_bytes_sync(data, mime, config)
    except (ValidationError, MissingDependencyError, OCRError) as error:
        raise unsupported(f"the extractor cannot read {name} ({type(error).__name__})") from None
    except ParsingError as error:
        refuse_machine_fault(error)
        if "password" in str(error).lower() or "encrypted" in str(error).lower():
            raise password_protected("the file is protected by a password: save it without") from None
        raise broken(mime, data) from None
    except KreuzbergError as error:
        refuse_machine_fault(error)
        message = f"the extractor failed on this {name} ({type(error).__name__})"
        raise FileRefused("extraction_crash", message, is_final=False) from None


def read_text(data: bytes, mime: str) -> str:
    """The file's text; tables as Markdown where kreuzberg keeps their cells apart. Raises `FileRefused`."""
    return text_of(read(data, mime), mime)


def text_of(result: kreuzberg.ExtractionResult, mime: str) -> str:
    content: str = result.content
    if "excel" in mime or "spreadsheet" in mime:
        content = _MIDNIGHT.sub("", _TIME_ALONE.sub(lambda found: found[1].removeprefix("0"), content))
    return plain_markdown(content) if _is_asked_as_markdown(mime) else content


def type_by_name(path: str) -> str | None:
    """The MIME type that the file's name stands for, None where kreuzberg knows none."""
    try:
        return kreuzberg.detect_mime_type_from_path(path)
    except (KreuzbergError, OSError):
        return None


def _is_asked_as_markdown(mime: str) -> bool:
    return any(part in mime for part in _AS_MARKDOWN)


def plain_markdown(text: str) -> str:
    """Markdown as a person writes it; "" where it is an empty form: table borders, bullets and footnote marks."""
    return "" if _ONLY_MARKUP.fullmatch(text) else _MARKDOWN_ESCAPE.sub(r"\1", _EMPTY_ROW.sub("", text))
