"""Processor time of the extraction of a mixed library, against the bare readers, and of a page of OCR: with one lane and two.

Processor time hardly depends on what else the machine does. If two lanes need no more of it than one, they are twice as
fast while a core is free for each.
"""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from benchmarks.call_cost import postgres_seconds
from benchmarks.files import extract_bare, write_copies, write_scan
from benchmarks.rows import Benchmark, Row, at_least, at_most, median
from benchmarks.workspace import Workspace, options_of
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.scan import scan
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.settings import Settings, load_settings

FIXTURES = Path(__file__).parent.parent / "fixtures"
COPIES = 15
LANES = (1, 2)
OCR_COPIES = 2  # of a scan of two pages


def mixed_library(workspace: Workspace) -> Iterator[Row]:
    bare: list[float] = []
    ours: dict[int, list[float]] = {lanes: [] for lanes in LANES}
    with workspace.home(ocr="off") as (home, ledger):
        for turn in range(workspace.repeats):
            for lanes, seconds in ours.items():
                library = home.folder / f"turn{turn}-{lanes}"
                files = write_copies(library, FIXTURES, _mixed_samples(), COPIES, mark=f"{turn} {lanes}")
                bare.append(processor_seconds(ledger, lambda files=files: extract_bare(files, 1)) / len(files))  # type: ignore[misc]
                seconds.append(_extracting(home.settings, ledger, library, lanes) / len(files))
                workspace.report(f"{lanes} lanes: {seconds[-1] * 1000:.2f} / {bare[-1] * 1000:.2f} ms a document")
    raw = {
        "documents_a_minute_and_core": {lanes: [60 / each for each in seconds] for lanes, seconds in ours.items()},
        "bare_documents_a_minute_and_core": [60 / each for each in bare],
    }
    for lanes, seconds in ours.items():
        what = f"documents a minute and core, {lanes} lanes / the bare readers"
        yield Row(what, at_least(0.85), median(bare) / median(seconds), raw)


def ocr_pages(workspace: Workspace) -> Iterator[Row]:
    seconds: dict[int, list[float]] = {lanes: [] for lanes in LANES}
    with workspace.home(ocr_languages="eng") as (home, ledger):
        for turn in range(workspace.repeats):
            for lanes, each in seconds.items():
                library = home.folder / f"turn{turn}-{lanes}"
                library.mkdir()
                pages = write_scan(library / "a-scan.pdf", OCR_COPIES, mark=f"{turn} {lanes}")
                each.append(_extracting(home.settings, ledger, library, lanes) / pages)
                workspace.report(f"{lanes} lanes: {each[-1]:.2f} s of processor time a page")
    ratio = median(seconds[2]) / median(seconds[1])
    yield Row("processor time of a page of OCR, two lanes / one lane", at_most(1 / 0.9), ratio, {"seconds": seconds})


def _extracting(settings: Settings, ledger: Ledger, library: Path, lanes: int) -> float:
    """The processor seconds of the extraction of a library, the start of its child processes included."""
    settings = load_settings(**options_of(settings) | {"library": library})
    scan(settings, ledger, accept_vanished=True)
    with mock.patch("os.cpu_count", return_value=lanes):
        return processor_seconds(ledger, lambda: run_extraction(settings, ledger))


def processor_seconds(ledger: Ledger, act: Callable[[], object]) -> float:
    """The processor time, user and system, of this process, of children that end meanwhile, and of Postgres."""
    before = _spent() + postgres_seconds(ledger)
    act()
    return _spent() + postgres_seconds(ledger) - before


def _spent() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _mixed_samples() -> list[Path]:
    """The sample files of all formats that are read without OCR."""
    return [
        file
        for folder in ("library", "formats")
        for file in sorted((FIXTURES / folder).rglob("*"))
        if file.is_file()
        and file.suffix not in {".py", ".json", ".jpg", ".png", ".tif"}
        and "protected" not in file.name
    ]


BENCHMARKS = (Benchmark("mixed-library", mixed_library), Benchmark("ocr-cost", ocr_pages))
