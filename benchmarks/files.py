"""A scan that finds nothing new against a bare walk, extraction against the bare extractor, and OCR on one and two cores."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import pypdfium2

from benchmarks.rows import Benchmark, Row, at_least, at_most, median
from benchmarks.workspace import Workspace, options_of
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.progress import ProgressCounts
from dagster_offload.engine.scan import scan
from dagster_offload.settings import load_settings

FILES = 100_000
FILES_A_FOLDER = 500
SAMPLES = Path(__file__).parent.parent / "fixtures" / "library"
SCAN = Path(__file__).parent.parent / "fixtures" / "scans" / "letters.pdf"
OCR_COPIES = 4  # of its two pages
COPIES = 40  # of the sample library; each file gets different bytes at its end


def unchanged_scan(workspace: Workspace, count: int = FILES) -> Iterator[Row]:
    with workspace.home() as (home, ledger):
        assert home.settings.library is not None
        workspace.report(f"writing {count:,} files, and a first scan of them")
        write_small_files(home.settings.library, count)
        scan(home.settings, ledger)
        time.sleep(2.1)  # a file written within 2 s of the scan is read again, which is not measured here
        scan(home.settings, ledger)
        ours, bare = [], []
        for _ in range(workspace.repeats + 2):
            began = time.perf_counter()
            files = walk_with_stat(str(home.settings.library))
            bare.append(time.perf_counter() - began)
            report = scan(home.settings, ledger)
            ours.append(report.seconds)
            assert (files, report.found, report.changed, report.added) == (count, count, 0, 0)
    raw = {"scan_seconds": ours, "bare_walk_seconds": bare, "files": count}
    what = f"scan of {count:,} unchanged files / bare walk with stat"
    yield Row(what, at_most(4), median(ours) / median(bare), raw)


def write_small_files(library: Path, count: int) -> None:
    for number in range(count):
        if number % FILES_A_FOLDER == 0:
            (library / f"{number // FILES_A_FOLDER:03}").mkdir()
        (library / f"{number // FILES_A_FOLDER:03}" / f"{number}.txt").write_text(f"note {number}")


def walk_with_stat(folder: str) -> int:
    """The minimum that any program must do to find changes. Returns the number of files."""
    count = 0
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)
                    count += 1
    return count


def extraction(workspace: Workspace) -> Iterator[Row]:
    ours, bare = [], []
    with workspace.home(ocr="off") as (home, ledger):  # the bare extractor does not read pictures either
        for turn in range(workspace.repeats):
            library = home.folder / f"turn{turn}"
            files = write_copies(library, SAMPLES, _plain_samples(), COPIES, mark=str(turn))
            settings = load_settings(**options_of(home.settings) | {"library": library})
            began = time.perf_counter()
            extract_bare(files, os.cpu_count() or 1)
            bare.append(len(files) / (time.perf_counter() - began))
            scan(settings, ledger, accept_vanished=True)
            began = time.perf_counter()
            counts = run_extraction(settings, ledger)
            ours.append(len(files) / (time.perf_counter() - began))
            assert counts.done + counts.failed == len(files)
            workspace.report(f"{ours[-1]:.0f} / {bare[-1]:.0f} documents/s")
    raw = {"documents_per_second": ours, "bare_documents_per_second": bare, "cores": os.cpu_count()}
    ratio = median(ours) / median(bare)
    yield Row("extraction on all cores / the bare extractor on all cores", at_least(0.85), ratio, raw)


def _plain_samples() -> list[Path]:
    return [file for file in sorted(SAMPLES.rglob("*")) if file.suffix in {".pdf", ".html", ".md", ".txt"}]


def write_copies(library: Path, root: Path, samples: Sequence[Path], copies: int, mark: str) -> list[Path]:
    """Copies of samples below `root`, each with the same text and different bytes at its end."""
    files = []
    for copy in range(copies):
        for sample in samples:
            file = library / str(copy) / sample.relative_to(root)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sample, file)
            with file.open("ab") as end:
                end.write(f"\n<!-- {mark} {copy} -->\n".encode())
            files.append(file)
    return files


def extract_bare(files: Sequence[Path], processes: int) -> None:
    """The readers in some processes, which get the files one by one. They may keep their bytecode, as ours do."""
    script = Path(__file__).parent / "bare_extractor.py"
    listed = "\n".join(str(file) for file in files)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, str(script), str(processes)], input=listed, text=True, check=True, env=environment)


def ocr(workspace: Workspace, copies: int = OCR_COPIES) -> Iterator[Row]:
    """One scan of several pages, read by one lane and by two. The notes beside it are read first."""
    pages_per_minute: dict[int, list[float]] = {1: [], 2: []}
    with workspace.home(ocr_languages="eng") as (home, ledger):
        for turn in range(workspace.repeats):
            for lanes, rates in pages_per_minute.items():
                library = home.folder / f"turn{turn}-{lanes}"
                library.mkdir()
                pages = write_scan(library / "a-scan.pdf", copies, mark=f"{turn} {lanes}")
                for number in range(20):
                    (library / f"note{number}.txt").write_text(f"note {number} {turn} {lanes}")
                settings = load_settings(**options_of(home.settings) | {"library": library})
                scan(settings, ledger, accept_vanished=True)
                first_page: list[tuple[float, int]] = []

                def watch(counts: ProgressCounts, first_page: list[tuple[float, int]] = first_page) -> None:
                    if counts.reading is not None and not first_page:
                        first_page.append((time.perf_counter(), counts.done))

                with mock.patch("os.cpu_count", return_value=lanes):
                    run_extraction(settings, ledger, on_progress=watch)
                [(began, done)] = first_page
                assert done == 20, "the notes are read before the pages"
                rates.append(60 * (pages - 1) / (time.perf_counter() - began))
                workspace.report(f"{lanes} lanes: {rates[-1]:.1f} pages a minute")
    ratio = median(pages_per_minute[2]) / median(pages_per_minute[1])
    raw = {"pages_per_minute": pages_per_minute, "cores": os.cpu_count()}
    yield Row("pages of one scan a minute, two lanes / one lane", at_least(1.8), ratio, raw)


def write_scan(file: Path, copies: int, mark: str) -> int:
    """A PDF of scanned pages with bytes of its own. Returns how many pages it has."""
    pdf = pypdfium2.PdfDocument.new()
    page = pypdfium2.PdfDocument(SCAN)
    for _ in range(copies):
        pdf.import_pages(page)
    pdf.save(file)
    with file.open("ab") as end:
        end.write(f"\n% {mark}\n".encode())
    return len(pdf)


BENCHMARKS = (Benchmark("scan", unchanged_scan), Benchmark("extraction", extraction), Benchmark("ocr", ocr))
