"""Whether this host may take part in an extraction on several hosts. Each check says what was found, and what to change.

Facts first, then pure decisions. A host that fails a check takes no document: it could store a result that the others
would not, or postpone documents that it cannot see.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dagster_offload import __version__
from dagster_offload.errors import HostRefused, LedgerUnavailable, OtherPipeline
from dagster_offload.extraction.ocr.tesseract import find_reader
from dagster_offload.ledger.core import identity, migrate
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.pipelines import AnnouncedPipeline, refuse_other_pipeline, running_pipelines
from dagster_offload.ledger.work import documents
from dagster_offload.library.digests import locate
from dagster_offload.library.handles import stat_file
from dagster_offload.settings import Settings
from dagster_offload.stages.pipeline import pipeline_of
from dagster_offload.text.lists import listed

SAMPLE = 20  # documents whose files are compared with the ledger
CLOCK_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True)
class HostCheck:
    """One check. `found` says what was found and, if it is not `ok`, what to change."""

    name: str
    ok: bool
    found: str


def check_host(settings: Settings, ledger: Ledger) -> Iterator[HostCheck]:
    """Check the ledger, the version, the pipeline, the library and the clock. Ends at a ledger that cannot be used."""
    checked = ledger.run(_check_ledger, ledger.schema)
    yield checked
    if not checked.ok:
        return
    yield check_version(ledger.run(running_pipelines))
    yield _check_pipeline(settings, ledger)
    yield check_library(settings.library, ledger.run(documents.newest_sizes, SAMPLE))
    yield check_clock(_clock_skew(ledger))


def refuse_unfit_host(settings: Settings, ledger: Ledger) -> None:
    """Raise `HostRefused` with the first check that this host fails."""
    for check in check_host(settings, ledger):
        if not check.ok:
            raise HostRefused(f"this host takes no documents: {check.found}")


def refuse_other_version(ledger: Ledger) -> None:
    """Raise `HostRefused` if this host has another version than the ledger or a running `up`. Migrates nothing."""
    checked = ledger.run(_check_ledger, ledger.schema)
    if checked.ok:
        checked = check_version(ledger.run(running_pipelines))
    if not checked.ok:
        raise HostRefused(f"this host begins no extraction: {checked.found}")


def _check_ledger(cur: Cursor, schema: str) -> HostCheck:
    step, newest = migrate.current_step(cur, schema), migrate.newest_step()
    if step is None:
        return _ledger_fault(
            "this database has no ledger: start `dagster-offload up` with it, or run the job `scan` of your project, first"
        )
    if step != newest:
        older, newer = ("the ledger", "this host") if step < newest else ("this host", "the ledger")
        return _ledger_fault(
            f"{older} is older than {newer} (schema step {step}; this host has {newest}): install the same version of "
            "dagster-offload on all hosts. If all have it, start `up`, or run the job `scan`: that migrates the ledger"
        )
    try:
        identity.refuse_moved(cur)
    except LedgerUnavailable as moved:
        return _ledger_fault(str(moved))
    return HostCheck("ledger", True, f"schema step {step}")


def _ledger_fault(found: str) -> HostCheck:
    return HostCheck("ledger", False, found)


def check_version(running: list[AnnouncedPipeline]) -> HostCheck:
    """Whether every running `up` has this version."""
    for up in running:
        if up.pipeline.version != __version__:
            return HostCheck(
                "version",
                False,
                f"`up` on {up.host} has dagster-offload {up.pipeline.version}, and this host {__version__}: install the same "
                "version on all hosts",
            )
    return HostCheck("version", True, f"{__version__}, {_like(running)}")


def _like(running: list[AnnouncedPipeline]) -> str:
    return f"like `up` on {running[0].host}" if running else "no `up` is running: each step checks it again"


def _check_pipeline(settings: Settings, ledger: Ledger) -> HostCheck:
    here = pipeline_of(settings)
    try:
        ledger.run(refuse_other_pipeline, here)
    except OtherPipeline as other:
        return HostCheck("pipeline", False, str(other))
    return HostCheck("pipeline", True, f"stages {', '.join(here.recipes)}, {_like(ledger.run(running_pipelines))}")


def check_library(library: Path | None, known: Mapping[str, int]) -> HostCheck:
    """Whether this host sees the library of the ledger: most of the `known` documents must have the same size in bytes."""
    if library is None:
        return _library_fault("no library: set OFFLOAD_LIBRARY to the folder where the shared library is mounted")
    try:
        with os.scandir(library) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        return _library_fault(f"cannot read the library {library}: {error.strerror}. Is it mounted?")
    if not known:
        return HostCheck("library", True, f"{library}; the ledger has no document yet")
    if is_empty:
        return _library_fault(f"the library {library} is empty here, and the ledger has documents. Is it mounted?")
    differing = [key for key, size in known.items() if _size(library, key) != size]
    if 2 * len(differing) > len(known):
        return _library_fault(
            f"the library {library} is not the one of the ledger: {len(differing)} of {len(known)} documents are missing or "
            f"have another size here, such as {differing[0]}. Set OFFLOAD_LIBRARY to the folder where it is mounted"
        )
    return HostCheck(
        "library", True, f"{library}, {len(known) - len(differing)} of {len(known)} documents as in the ledger"
    )


def _library_fault(found: str) -> HostCheck:
    return HostCheck("library", False, found)


def _size(library: Path, key: str) -> int | None:
    """The size of a document's file in bytes; None if it cannot be seen."""
    try:
        path = locate(library, key)
        return None if path is None else stat_file(library, path.relative_to(library).as_posix()).st_size
    except OSError:
        return None


def check_ocr(settings: Settings) -> HostCheck:
    """Whether this host can read pictures, if OCR is on. If it could not, it would store pictures as documents without text."""
    if settings.ocr == "off":
        return HostCheck("OCR", True, "off")
    reader = find_reader(settings.ocr, settings.ocr_languages)
    if not reader.can_read or reader.missing:
        return HostCheck("OCR", False, f"{reader.advice}. Or set OFFLOAD_OCR=off on all hosts")
    return HostCheck("OCR", True, f"Tesseract {reader.version}, {reader.languages}")


def _clock_skew(ledger: Ledger) -> float:
    """How far this host's clock is ahead of the database's, in seconds."""
    ledger.run(documents.now)  # opens the connection
    before = time.time()
    there = ledger.run(documents.now).timestamp()
    return (before + time.time()) / 2 - there


def check_clock(skew: float) -> HostCheck:
    """Never a reason to refuse: leases, claims and back-offs use the database's clock only."""
    if abs(skew) <= CLOCK_TOLERANCE_SECONDS:
        return HostCheck("clock", True, "as the database's")
    ahead = "ahead of" if skew > 0 else "behind"
    return HostCheck(
        "clock",
        True,
        f"{abs(skew):.0f} s {ahead} the database's; work uses the database's, but times in Dagster's log differ",
    )


@dataclass(frozen=True)
class Terms:
    """What the steps of one run must have in common."""

    ledger_id: str
    version: str
    ocr_languages: str  # that can be read, in Tesseract's notation; "" = no OCR

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> "Terms":
        """The inverse of `str`. Another version may have written other fields: it is refused because of its version."""
        found = json.loads(text)
        return cls(found["ledger_id"], found["version"], found.get("ocr_languages", ""))


def terms_here(settings: Settings, ledger: Ledger) -> Terms:
    """The terms of this host."""
    return Terms(_ledger_id(ledger), __version__, find_reader(settings.ocr, settings.ocr_languages).languages)


def _ledger_id(ledger: Ledger) -> str:
    found = ledger.run(identity.read)
    return "" if found is None else str(found.ledger_id)


def refuse_other_terms(here: Terms, of_run: Terms) -> None:
    """Raise `HostRefused` if a step on this host would work on another ledger, or store other results than the run's."""
    if here.ledger_id != of_run.ledger_id:
        raise HostRefused(
            "this host works on another ledger than the run: set OFFLOAD_POSTGRES_URL to the database of the run's `up`, and "
            "give each ledger a Celery broker of its own (redis://HOST/0, redis://HOST/1)"
        )
    if here.version != of_run.version:
        raise HostRefused(
            f"this host has dagster-offload {here.version}, and the run {of_run.version}: install the same version on all hosts"
        )
    missing = set(of_run.ocr_languages.split("+")) - set(here.ocr_languages.split("+")) - {""}
    if missing:
        raise HostRefused(
            f"this host cannot read pictures in {listed(sorted(missing))}, and the run's first host can: install "
            "Tesseract with the same languages, or set OFFLOAD_OCR=off on all hosts"
        )


class LibraryWatch:
    """Notices that the library has vanished from this host while documents are read, as when a mount is lost."""

    def __init__(self, library: Path) -> None:
        self._library = library
        self._folder = self._identity()

    def refuse_if_lost(self) -> None:
        """Raise `HostRefused` if the folder can no longer be reached, or is another one than at the start."""
        if self._folder is None or self._identity() != self._folder:
            raise HostRefused(
                f"the library {self._library} can no longer be reached: this host takes no more documents. Is it mounted?"
            )

    def _identity(self) -> int | None:
        # The device's number is no part of it: a network file system may get another one when it is mounted again.
        try:
            return os.stat(self._library).st_ino
        except OSError:
            return None
