"""`make bench`: select rows by name, measure them one by one, print one table, write the raw figures as JSON."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import (
    call_cost,
    dagster_runs,
    drains,
    endurance,
    event_log,
    exports,
    extraction_cost,
    files,
    gaps,
    growth,
    guest,
    memory,
    million,
    own_stages,
    pages,
    prompt_cache,
    several_hosts,
    several_slots,
    sizes,
    splitting,
    ticks,
)
from benchmarks.rows import Benchmark, Row, shown
from benchmarks.workspace import Workspace

BENCHMARKS: tuple[Benchmark, ...] = (
    *drains.BENCHMARKS,
    *call_cost.BENCHMARKS,
    *several_slots.BENCHMARKS,
    *gaps.BENCHMARKS,
    *sizes.BENCHMARKS,
    *own_stages.BENCHMARKS,
    *exports.BENCHMARKS,
    *memory.BENCHMARKS,
    *growth.BENCHMARKS,
    *files.BENCHMARKS,
    *extraction_cost.BENCHMARKS,
    *several_hosts.BENCHMARKS,
    *dagster_runs.BENCHMARKS,
    *pages.BENCHMARKS,
    *guest.BENCHMARKS,
    *prompt_cache.BENCHMARKS,
    *splitting.BENCHMARKS,
    *endurance.BENCHMARKS,
    *ticks.BENCHMARKS,
    *million.BENCHMARKS,
    *event_log.BENCHMARKS,
)


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        print("\n".join(benchmark.name for benchmark in BENCHMARKS))
        return 0
    picked = [bench for bench in BENCHMARKS if any(bench.name.startswith(name) for name in arguments.names or [""])]
    if not picked:
        print(f"no row has a name that begins with {' or '.join(arguments.names)}: see --list", file=sys.stderr)
        return 2
    began, rows, broken = time.monotonic(), list[Row](), list[str]()
    with Workspace(arguments.repeats) as workspace:
        for number, benchmark in enumerate(picked, 1):
            workspace.report(f"[{number}/{len(picked)}, {time.monotonic() - began:.0f} s] {benchmark.name}")
            try:
                rows.extend(benchmark.measure(workspace))
            # The other rows of half an hour still run. The error is printed at the end, and the command fails.
            except Exception as error:  # noqa: BLE001
                broken.append(f"{benchmark.name}: {type(error).__name__}: {error}")
                workspace.report(broken[-1])
    _print(rows)
    print(f"raw figures: {_write(arguments.json, rows, broken)}")
    for message in broken:
        print(f"broken: {message}", file=sys.stderr)
    return 1 if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of row names (default: all rows)")
    parser.add_argument("--list", action="store_true", help="print the names of all rows")
    parser.add_argument("--repeats", type=int, default=3, help="how often each side of a pair is measured")
    parser.add_argument(
        "--json", type=Path, help="file for the raw figures (default: a new file in the temporary folder)"
    )
    return parser.parse_args()


def _print(rows: list[Row]) -> None:
    print(f"| {'row':<66} | {'target':>10} | {'measured':>10} | |\n|---|---|---|---|")
    for row in rows:
        measured = shown(row.measured, row.target.unit)
        print(f"| {row.what:<66} | {row.target!s:>10} | {measured:>10} | {'ok' if row.is_met else 'missed'} |")


def _write(file: Path | None, rows: list[Row], broken: list[str]) -> Path:
    now = datetime.now(UTC)
    file = file or Path(tempfile.gettempdir()) / f"offload-bench-{now:%Y%m%d-%H%M%S}.json"
    figures = {
        "at": now.isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()},
        "rows": [asdict(row) | {"is_met": row.is_met} for row in rows],
        "broken": broken,
    }
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return file


if __name__ == "__main__":
    sys.exit(main())
