"""The library's side: a scan that finds nothing new against a bare walk, extraction against the bare extractor."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ground import Ground
from benchmarks.rows import Benchmark, Row, at_least, at_most, median
from dagster_offload.engine.extract import run_extraction
from dagster_offload.engine.scan import scan
from dagster_offload.settings import load_settings

FILES = 100_000
FILES_A_FOLDER = 500
SAMPLES = Path(__file__).parent.parent / "fixtures" / "library"
COPIES = 40  # of the sample library, each file made different by some bytes at its end


def unchanged_scan(ground: Ground, count: int = FILES) -> Iterator[Row]:
    with ground.home() as (home, ledger):
        assert home.settings.library is not None
        ground.tell(f"writing {count:,} files, and a first scan of them")
        _write_small_files(home.settings.library, count)
        scan(home.settings, ledger)
        time.sleep(2.1)  # a file written within 2 s of the last look is read again, and that is not measured here
        scan(home.settings, ledger)
        ours, bare = [], []
        for _ in range(ground.repeats + 2):
            began = time.perf_counter()
            files = _walk_with_stat(str(home.settings.library))
            bare.append(time.perf_counter() - began)
            report = scan(home.settings, ledger)
            ours.append(report.seconds)
            assert (files, report.found, report.changed, report.added) == (count, count, 0, 0)
    raw = {"scan_seconds": ours, "bare_walk_seconds": bare, "files": count}
    what = f"scan of {count:,} unchanged files / bare walk with stat"
    yield Row(what, at_most(4), median(ours) / median(bare), raw)


def _write_small_files(library: Path, count: int) -> None:
    for number in range(count):
        if number % FILES_A_FOLDER == 0:
            (library / f"{number // FILES_A_FOLDER:03}").mkdir()
        (library / f"{number // FILES_A_FOLDER:03}" / f"{number}.txt").write_text(f"note {number}")


def _walk_with_stat(folder: str) -> int:
    """What any program that looks for changes must do at least."""
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


def extraction(ground: Ground) -> Iterator[Row]:
    ours, bare = [], []
    with ground.home(ocr="off") as (home, ledger):  # the bare extractor reads no pictures either
        for turn in range(ground.repeats):
            library = home.folder / f"turn{turn}"
            files = _write_samples(library, mark=turn)
            settings = load_settings(**home.settings.model_dump(exclude_defaults=True) | {"library": library})
            began = time.perf_counter()
            _extract_bare(files)
            bare.append(len(files) / (time.perf_counter() - began))
            scan(settings, ledger, accept_vanished=True)
            began = time.perf_counter()
            counts = run_extraction(settings, ledger)
            ours.append(len(files) / (time.perf_counter() - began))
            assert counts.done + counts.failed == len(files)
            ground.tell(f"{ours[-1]:.0f} / {bare[-1]:.0f} documents/s")
    raw = {"documents_per_second": ours, "bare_documents_per_second": bare, "cores": os.cpu_count()}
    ratio = median(ours) / median(bare)
    yield Row("extraction on all cores / the bare extractor on all cores", at_least(0.85), ratio, raw)


def _write_samples(library: Path, mark: int) -> list[Path]:
    """Copies of the sample library's PDF, Office and HTML files, whose bytes differ and whose text does not."""
    files = []
    for copy in range(COPIES):
        for sample in sorted(SAMPLES.rglob("*")):
            if sample.suffix in {".pdf", ".html", ".md", ".txt"}:
                file = library / str(copy) / sample.relative_to(SAMPLES)
                file.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(sample, file)
                with file.open("ab") as end:
                    end.write(f"\n<!-- {mark} {copy} -->\n".encode())
                files.append(file)
    return files


def _extract_bare(files: list[Path]) -> None:
    """The extractor's own package in a process a core, files handed out one by one as it would be used by hand."""
    script = Path(__file__).parent / "bare_extractor.py"
    listed = "\n".join(str(file) for file in files)
    subprocess.run([sys.executable, str(script), str(os.cpu_count() or 1)], input=listed, text=True, check=True)


BENCHMARKS = (Benchmark("scan", unchanged_scan), Benchmark("extraction", extraction))
