"""`dagster-offload text FILE...`: what extraction makes of files, without a ledger."""

import json
import os
import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.exits import ExitCode
from dagster_offload.cli.options import json_option

if TYPE_CHECKING:
    from dagster_offload.extraction.extractor import Extractor
    from dagster_offload.extraction.tesseract import Reader


@dataclass(frozen=True)
class FileText:
    """One file's line of `--json`. `outcome`: ok, empty, no_text, needs_ocr, or the code of a failure."""

    path: str
    outcome: str
    reason: str | None
    text: str
    seconds: float
    pages: int | None
    format: str | None  # MIME type
    is_read: bool  # False: the file failed, and `reason` says why


@click.command("text")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], *, as_json: bool) -> None:
    """Print the text that a scan would take out of these files. Needs no ledger, no Postgres and no slot.

    Without --json, the texts go to standard output and one line about each file to standard error. With --json, standard
    output is one JSON object a line: path, outcome, reason, text, seconds, pages, format, is_read. The order is that of
    the arguments.

    \b
    dagster-offload text letter.pdf
    dagster-offload text ~/Documents/*.xlsx --json
    OFFLOAD_OCR=off dagster-offload text scan.pdf      leave pictures of text unread

    Exit codes: 0 = every file was read, those without text included; 65 = at least one file cannot be read, its reason
    is printed; 2 = wrong usage.
    """
    from dagster_offload.extraction.tesseract import find_reader
    from dagster_offload.settings import load_settings

    settings = load_settings()
    has_failed = False
    for found in _read_all(files, find_reader(settings.ocr, settings.ocr_languages)):
        has_failed = has_failed or not found.is_read
        if as_json:
            click.echo(json.dumps(asdict(found), ensure_ascii=False))
        else:
            click.echo(_about(found), err=True)
            if found.text:
                click.echo(found.text)
    if has_failed:
        ctx.exit(ExitCode.UNREADABLE_FILE)


def _read_all(files: Sequence[Path], reader: "Reader") -> Iterator[FileText]:
    """The files' texts in order, read on all cores."""
    from dagster_offload.extraction.extractor import Extractor

    width = min(os.cpu_count() or 1, len(files))
    idle: queue.SimpleQueue[Extractor] = queue.SimpleQueue()

    def read(path: Path) -> FileText:
        extractor = idle.get()
        try:
            return _read(extractor, path)
        finally:
            idle.put(extractor)

    with ThreadPoolExecutor(width) as threads, ExitStack() as extractors:
        for _ in range(width):
            idle.put(extractors.enter_context(Extractor(reader=reader)))
        running = [threads.submit(read, path) for path in files]
        try:
            for one in running:
                yield one.result()
        finally:  # interrupted: the extractors are closed next, which ends those at work
            for one in running:
                one.cancel()


def _read(extractor: "Extractor", path: Path) -> FileText:
    from dagster_offload.errors import ExtractionFailed

    began = time.monotonic()
    try:
        found = extractor.extract(path)
    except ExtractionFailed as failed:
        return _failed(path, failed.code, failed.message, began)
    except OSError as error:
        return _failed(path, "unreadable", error.strerror or type(error).__name__, began)
    return FileText(
        path=str(path),
        outcome=found.outcome,
        reason=found.metadata.get("reason"),
        text=found.text,
        seconds=_seconds_since(began),
        pages=found.metadata.get("pages"),
        format=found.metadata.get("mime"),
        is_read=True,
    )


def _failed(path: Path, code: str, reason: str, began: float) -> FileText:
    return FileText(str(path), code, reason, "", _seconds_since(began), None, None, is_read=False)


def _seconds_since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def _about(found: FileText) -> str:
    pages = "" if found.pages is None else f", {found.pages} page{'s' if found.pages != 1 else ''}"
    reason = f": {found.reason}" if found.reason else ""
    characters = f", {len(found.text):,} characters" if found.text else ""
    return f"{found.path}: {found.outcome}{pages}{characters}, {found.seconds:.1f} s{reason}"
