"""A folder of files that is scanned into a ledger."""

import os
from pathlib import Path
from typing import Any

from dagster_offload.engine.scan import library_differs, scan
from dagster_offload.engine.scan_report import ScanReport
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.ledger import Bench, record_result

LONG_AGO = 1_000_000_000


class Library:
    """A folder of files that is scanned into the ledger of the bench."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder
        self.folder.mkdir()

    @property
    def settings(self) -> Settings:
        return load_settings(library=self.folder, home=self.folder.parent / "home")

    def write(self, key: str, text: str, when: float = LONG_AGO) -> Path:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (when, when))
        return path

    def scan(self, **options: Any) -> ScanReport:
        return scan(self.settings, self.bench.ledger, **options)

    def differs(self) -> str | None:
        return library_differs(self.settings, self.bench.ledger)


def finish_everything(bench: Bench) -> None:
    worker = bench.worker("scan")
    for stages in ([EXTRACT], [CLASSIFY], [SUMMARIZE]):
        while (claim := bench.take(worker, stages)) is not None:
            for item in claim.items:
                bench.finish(worker, claim, item, None if item.stage == EXTRACT else record_result(claim.document))
