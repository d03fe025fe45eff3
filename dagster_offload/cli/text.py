"""`dagster-offload text FILE...`: extract the text of files without a ledger."""

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
from dagster_offload.cli.options import TypedPath, json_option
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from dagster_offload.extraction.extractor import Extractor
    from dagster_offload.extraction.ocr.tesseract import Reader
    from dagster_offload.extraction.protocol import Extracted
    from dagster_offload.settings import Settings


@dataclass(frozen=True)
class FileText:
    """One line of `--json`: one file. `outcome` is ok, empty, no_text, needs_ocr, or the code of a failure."""

    path: str
    outcome: str
    reason: str | None
    text: str
    seconds: float
    pages: int | None
    format: str | None  # MIME type
    is_read: bool  # False: the file failed, and `reason` says why


@click.command("text")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=TypedPath())
@json_option
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], *, as_json: bool) -> None:
    """Print the text that a scan would extract from these files. Needs no ledger, no Postgres and no slot.

    Without --json, the texts go to standard output, without characters that could control a terminal, and one line about
    each file goes to standard error. With --json, standard output has one JSON object per line: path, outcome, reason, text,
    seconds, pages, format, is_read. The order is that of the arguments.

    \b
    dagster-offload text letter.pdf                  also a part of the name of a document of the library
    dagster-offload text ~/Documents/*.xlsx --json
    OFFLOAD_OCR=off dagster-offload text scan.pdf      do not read scans

    Exit codes: 0 = every file was read, including files without text; 65 = at least one file cannot be read (its reason
    is printed); 2 = wrong usage.
    """
    from dagster_offload.cli.formatting import as_json as to_json
    from dagster_offload.cli.formatting import say
    from dagster_offload.extraction.ocr.tesseract import find_reader
    from dagster_offload.settings import load_settings
    from dagster_offload.text.plain_text import cleaned

    settings = load_settings()
    has_failed = False
    chosen = [_file(settings, file) for file in files]
    for found in _read_all(chosen, find_reader(settings.ocr, settings.ocr_languages)):
        has_failed = has_failed or not found.is_read
        if as_json:
            click.echo(
                to_json(asdict(found)).encode(errors="backslashreplace")
            )  # names that are not UTF-8 stay valid JSON
        else:
            say(_about(found), err=True)
            if found.text:
                click.echo(cleaned(found.text))
    if has_failed:
        ctx.exit(ExitCode.UNREADABLE_FILE)


def _file(settings: "Settings", typed: Path) -> Path:
    """The file, or the document of the library that a name without a folder means. A missing path stays as it is typed."""
    if os.path.lexists(typed) or settings.library is None or not settings.library.is_dir():
        return typed
    from dagster_offload.cli.find_document import choose, match
    from dagster_offload.engine.scan import walk_rules
    from dagster_offload.library.walk import walk

    names = {file.key: file.name for file in walk(settings.library, rules=walk_rules(settings)).files}
    matches = match(str(typed), names)
    if not matches.found:
        return typed
    return settings.library / names[choose(str(typed), str(typed), matches)]


def _read_all(files: Sequence[Path], reader: "Reader") -> Iterator[FileText]:
    """Yield the text of each file in the given order, using all cores."""
    from dagster_offload.extraction.extractor import Extractor

    count = min(os.cpu_count() or 1, len(files))
    idle: queue.SimpleQueue[Extractor] = queue.SimpleQueue()

    def read(path: Path) -> FileText:
        extractor = idle.get()
        try:
            return _read(extractor, path)
        finally:
            idle.put(extractor)

    with ThreadPoolExecutor(count) as threads, ExitStack() as extractors:
        for _ in range(count):
            idle.put(extractors.enter_context(Extractor(reader=reader)))
        running = [threads.submit(read, path) for path in files]
        try:
            for one in running:
                yield one.result()
        finally:  # after an interrupt, closing the extractors ends those that are running
            for one in running:
                one.cancel()


def _read(extractor: "Extractor", path: Path) -> FileText:
    from dagster_offload.errors import ExtractionFailed

    started_at = time.monotonic()
    try:
        found = extract_file(extractor, path)
    except ExtractionFailed as failed:
        return _failed(path, failed.code, failed.message, started_at)
    return FileText(
        path=str(path),
        outcome=found.outcome,
        reason=found.metadata.get("reason"),
        text=found.text,
        seconds=_seconds_since(started_at),
        pages=found.metadata.get("pages"),
        format=found.metadata.get("mime"),
        is_read=True,
    )


def extract_file(extractor: "Extractor", path: Path) -> "Extracted":
    """The text of a file. Raises `ExtractionFailed`, also for one that the system does not let us read."""
    from dagster_offload.errors import ChangedWhileRead, ExtractionFailed
    from dagster_offload.text.system_errors import words_of

    try:
        return extractor.extract(path)
    except ChangedWhileRead:  # there is no digest to compare with
        raise ExtractionFailed("unreadable", "not a regular file, but a pipe, a socket or a device") from None
    except OSError as error:
        raise ExtractionFailed("unreadable", words_of(error)) from None


def _failed(path: Path, code: str, reason: str, started_at: float) -> FileText:
    return FileText(str(path), code, reason, "", _seconds_since(started_at), None, None, is_read=False)


def _seconds_since(started_at: float) -> float:
    return round(time.monotonic() - started_at, 3)


def _about(found: FileText) -> str:
    pages = "" if found.pages is None else f", {counted(found.pages, 'page')}"
    reason = f": {found.reason}" if found.reason else ""
    characters = f", {len(found.text):,} characters" if found.text else ""
    return f"{found.path}: {found.outcome}{pages}{characters}, {found.seconds:.1f} s{reason}"
