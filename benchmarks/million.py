"""A ledger of 10 thousand, 100 thousand and a million documents: what each thing costs that the product does again and again.

Seven of ten documents are done, with their history and their reported events; the other three wait for both LLM stages. The
last column of the table is arithmetic: what 10 million documents would cost if the slope stays the same.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.files import walk_with_stat, write_small_files
from benchmarks.filling import add_done, add_extracted, add_history, analyze
from benchmarks.growth import bytes_of, tables_of
from benchmarks.rows import Benchmark, Row, at_most, median
from benchmarks.sizes import CLAIMS_A_TURN, Sized, seconds_a_claim, sensor_ticks
from benchmarks.slot import slot
from benchmarks.workspace import Home, Workspace
from dagster_offload.ledger.archive.backup import write_backup
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import Claim, NewResult
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims, finish, groups
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import Outcome
from tests.support.stages import DRAIN_STAGES

SIZES = (10_000, 100_000, 1_000_000)
CHARACTERS = 1_500
PARTITIONS = 100_000  # at most: beyond that the documents are partitioned in another way
TURNS = 5


@dataclass(frozen=True)
class Measure:
    """A line of the table. `bound`: how much larger it may be at the largest size than at the smallest; None = not bounded,
    because it is work on every document."""

    name: str
    unit: str
    bound: float | None


MEASURES = (
    Measure("a claim", "ms", 2),
    Measure("a finish of both stages", "ms", 2),
    Measure("`status --json`", "s", 2),
    Measure("`records`, a page of 200", "s", 2),
    Measure("a tick of the drain sensor", "ms", 2),
    Measure("an export as JSONL, a record", "ms", 2),
    Measure("memory of this export", "MB", 1.3),
    Measure("first scan, a file", "ms", 2),
    Measure("memory of this scan", "MB", None),
    Measure("scan of unchanged files", "s", None),
    Measure("the same / a bare walk", "x", 2),
    Measure("memory of this scan of unchanged files", "MB", 1.3),
    Measure("the ledger, a document", "B", 1.3),
    Measure("backup", "s", None),
    Measure("backup, a document", "B", 1.3),
    Measure("a migration that changes every work item", "s", None),
    Measure("vacuum after it", "s", None),
)


def million(workspace: Workspace, sizes: tuple[int, ...] = SIZES) -> Iterator[Row]:
    found = {}
    for documents in sizes:
        found[documents] = {**of_files(workspace, documents), **_of_documents(workspace, documents)}
        workspace.report(f"{documents:,} documents: {found[documents]}")
    print(table(found))
    least, most = sizes[0], sizes[-1]
    for measure in MEASURES:
        if measure.bound is not None:
            values = {f"{size}_{measure.unit}": found[size][measure.name] for size in sizes}
            ratio = found[most][measure.name] / found[least][measure.name]
            what = f"{measure.name}, {most:,} against {least:,} documents"
            yield Row(what, at_most(measure.bound), ratio, values)


def table(found: dict[int, dict[str, float]]) -> str:
    """The measured values by size as Markdown. The slope is between the smallest and the largest size."""
    sizes = list(found)
    least, most = sizes[0], sizes[-1]
    lines = [
        f"| documents | {' | '.join(f'{size:,}' for size in sizes)} | per million more | {10 * most:,} on paper |",
        f"|---|{'---|' * (len(sizes) + 2)}",
    ]
    for measure in MEASURES:
        first, last = found[least][measure.name], found[most][measure.name]
        slope = (last - first) / (most - least)
        values = [*(found[size][measure.name] for size in sizes), slope * 1e6, last + slope * 9 * most]
        shown = " | ".join(f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}" for value in values)
        lines.append(f"| {measure.name}, {measure.unit} | {shown} |")
    return "\n".join(lines)


def _of_documents(workspace: Workspace, documents: int) -> dict[str, float]:
    with slot(0.1, 1, is_asleep=True) as router, workspace.home(router) as (home, ledger):
        workspace.report(f"filling a ledger of {documents:,} documents")
        add_done(ledger, home.settings, documents * 7 // 10, characters=CHARACTERS)
        add_history(ledger)
        add_extracted(ledger, home.settings, documents * 3 // 10, characters=CHARACTERS)
        analyze(ledger)
        return of_ledger(Sized(home, ledger, router), documents)


def of_ledger(filled: Sized, documents: int) -> dict[str, float]:
    """What is measured in a filled ledger of so many documents."""
    home, ledger = filled.home, filled.ledger
    assert home.settings.slots.deep is not None
    ledger.run(slots.register, home.settings.slots.deep)
    found = {"the ledger, a document": bytes_of(tables_of(ledger), "offload") / documents}
    measured: dict[str, Callable[[], float]] = {
        "a claim": lambda: 1000 * seconds_a_claim(ledger, home.settings, DRAIN_STAGES),
        "a finish of both stages": lambda: 1000 * _finish(home, ledger),
        "`status --json`": lambda: _command(home, "status", "--json"),
        "`records`, a page of 200": lambda: _command(home, "records"),
    }
    for name, measure in measured.items():
        found[name] = median([measure() for _ in range(TURNS)])
    with sensor_ticks(filled, min(documents, PARTITIONS)) as tick:
        found["a tick of the drain sensor"] = 1000 * median([tick() for _ in range(TURNS + 2)][2:])
    export = home.folder / "records.jsonl"
    seconds, found["memory of this export"] = _alone(home, "export", str(export))
    found["an export as JSONL, a record"] = 1000 * seconds / documents
    export.unlink()
    backup = home.folder / "offload.backup"
    found["backup"] = _seconds(lambda: write_backup(ledger, backup))
    found["backup, a document"] = backup.stat().st_size / documents
    backup.unlink()
    found["a migration that changes every work item"] = _seconds(
        lambda: ledger.run(lambda cur: cur.execute("update work_items set attempts = attempts + 1"))
    )
    with ledger.connect() as connection:
        found["vacuum after it"] = _seconds(lambda: connection.execute("vacuum analyze work_items"))
    return found


def _finish(home: Home, ledger: Ledger) -> float:
    """The mean time to finish a claimed document, whose two answers are stored together."""
    current = recipes(home.settings)
    with Worker(ledger, "drain", tuple(DRAIN_STAGES)) as worker:
        taken = ledger.run(claims.take, worker.id, DRAIN_STAGES, current, count=CLAIMS_A_TURN, slot="deep")
        began = time.perf_counter()
        for claim in taken:
            held, _ = ledger.run(groups.commit, worker.id, _answers(claim), [], current, None)
            assert all(held)
        return (time.perf_counter() - began) / len(taken)


def _answers(claim: Claim) -> list[finish.Finish]:
    value = {"category": "contract", "summary": f"A lease, {claim.document}.", "title": "Lease"}
    result = NewResult(Outcome.OK, finish.output_digest(Outcome.OK, value), value=value)
    return [finish.Finish(claim, item, result) for item in claim.items]


def of_files(workspace: Workspace, documents: int) -> dict[str, float]:
    """Scans of a library of so many files, by the command, so that its memory is its own."""
    with workspace.home() as (home, _):
        library = home.settings.library
        assert library is not None
        workspace.report(f"writing {documents:,} files")
        write_small_files(library, documents)
        first_seconds, first_mb = _alone(home, "scan")
        _alone(home, "scan")  # reads what was written less than two seconds before the first one
        walks = [_seconds(lambda: walk_with_stat(str(library))) for _ in range(3)]
        unchanged = [_alone(home, "scan") for _ in range(3)]
        seconds = median([each[0] for each in unchanged])
        return {
            "first scan, a file": 1000 * first_seconds / documents,
            "memory of this scan": first_mb,
            "scan of unchanged files": seconds,
            "the same / a bare walk": seconds / median(walks),
            "memory of this scan of unchanged files": max(each[1] for each in unchanged),
        }


def _alone(home: Home, *work: str) -> tuple[float, float]:
    """The seconds and the most memory, in MB, of a scan or an export in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.alone", *work],
        env=home.environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(ran.stdout)
    return found["seconds"], found["peak_mb"]


def _command(home: Home, *arguments: str) -> float:
    def run() -> None:
        process = home.start(*arguments, stdout=subprocess.DEVNULL)
        if process.wait():
            raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")

    return _seconds(run)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


BENCHMARKS = (Benchmark("million", million),)
