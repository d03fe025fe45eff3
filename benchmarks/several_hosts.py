"""OCR by the job `extract` with one, two and four Celery workers, each on a host with one core: processor time of a page.

The hosts are network namespaces of this machine. So if it has fewer cores than workers, or other work, a clock says little.
If a page needs no more processor time with four workers than with one, they read four times as many while each has a core.
Needs root and Redis.
"""

from collections.abc import Iterator
from contextlib import suppress

import psutil  # type: ignore[import-untyped]

from benchmarks.call_cost import postgres_seconds
from benchmarks.files import write_scan
from benchmarks.rows import Benchmark, Row, at_most, median
from benchmarks.workspace import Workspace
from dagster_offload.engine.scan import scan
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from tests.support.hosts import CELERY_WORKER, Host, Site, a_site

WORKERS = (1, 2, 4)
SCANS = 12  # of two pages
ONE_CORE = "import os\nos.cpu_count = lambda: 1\n"


def ocr_workers(workspace: Workspace) -> Iterator[Row]:
    seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    with a_site() as site, open_ledger(site.settings) as ledger:
        site.environment |= {"OFFLOAD_OCR": "auto", "OFFLOAD_OCR_LANGUAGES": "eng"}
        hosts = [site.host(f"host{number}") for number in range(max(WORKERS))]
        for host in hosts:
            host.start("-c", ONE_CORE + CELERY_WORKER)
        _add_scans(site, ledger, "first", 2 * len(hosts))
        _extracting(site, hosts, ledger, len(hosts))  # each worker imports what it needs
        alone = {workers: _extracting(site, hosts, ledger, workers) for workers in WORKERS}
        for turn in range(workspace.repeats):
            for workers, each in seconds.items():
                pages = _add_scans(site, ledger, f"turn{turn}-{workers}", SCANS)
                each.append((_extracting(site, hosts, ledger, workers) - alone[workers]) / pages)
                workspace.report(f"{workers} workers: {each[-1]:.2f} s of processor time a page")
        by_host = site.done_by_host()
    raw = {"seconds": seconds, "a_run_without_documents_s": alone, "documents_by_host": by_host}
    for workers in WORKERS[1:]:
        what = f"processor time of a page of OCR, {workers} Celery workers / one"
        yield Row(what, at_most(1 / 0.9), median(seconds[workers]) / median(seconds[1]), raw)


def _add_scans(site: Site, ledger: Ledger, name: str, count: int) -> int:
    """Add scanned letters that nobody has read. Returns how many pages they have."""
    pages = sum(
        write_scan(site.library / f"{name}-{number}.pdf", 1, mark=f"{name} {number}") for number in range(count)
    )
    scan(site.settings, ledger)
    site.documents += count
    return pages


def _extracting(site: Site, hosts: list[Host], ledger: Ledger, steps: int) -> float:
    """The processor seconds of all workers and of Postgres for a run with so many steps."""
    before = sum(map(_spent, hosts)) + postgres_seconds(ledger)
    site.wait_for_run(site.launch(steps))
    assert site.done() == site.documents
    return sum(map(_spent, hosts)) + postgres_seconds(ledger) - before


def _spent(host: Host) -> float:
    """The processor time of the processes of a host, with that of their children that have ended."""
    spent = 0.0
    for pid in host.pids():
        with suppress(psutil.NoSuchProcess):
            spent += sum(psutil.Process(pid).cpu_times()[:4])
    return spent


BENCHMARKS = (Benchmark("ocr-workers", ocr_workers),)
