"""A scan or an export alone, in a process of its own: no extraction, no Dagster. Prints its seconds and its most memory."""

import json
import re
import sys
import time
from pathlib import Path

from dagster_offload.engine.scan import scan
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.records import Query
from dagster_offload.records.columns import columns
from dagster_offload.records.export import write_file
from dagster_offload.records.reading import stream
from dagster_offload.settings import Settings, load_settings


def main() -> None:
    settings = load_settings()
    with open_ledger(settings) as ledger:
        began = time.perf_counter()
        if sys.argv[1] == "scan":
            scan(settings, ledger)
        else:
            _export(settings, ledger, Path(sys.argv[2]))
        seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak_mb": _peak_mb()}))


def _export(settings: Settings, ledger: Ledger, file: Path) -> None:
    write_file(stream(settings, ledger, Query()), columns(settings), "jsonl", file)


def _peak_mb() -> float:
    """Unlike `ru_maxrss`, this begins with the program and not with the process that started it."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else float("nan")


if __name__ == "__main__":
    main()
