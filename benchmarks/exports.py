"""Exports of many records with fields of a person's own: the memory of the command, and the time of a record."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.filling import add_done, analyze
from benchmarks.own_stages import with_payment
from benchmarks.rows import Benchmark, Row, at_most
from benchmarks.workspace import Home, Workspace
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import recipes

SMALL, LARGE = 10_000, 100_000
FORMATS = ("jsonl", "csv", "parquet", "html", "md")


@dataclass(frozen=True)
class Export:
    """The whole time of a command, and the most memory that it had: at least that of this process, which starts it."""

    seconds: float
    peak_mb: float


def exports(workspace: Workspace, small: int = SMALL, large: int = LARGE) -> Iterator[Row]:
    found: dict[str, dict[int, Export]] = {form: {} for form in FORMATS}
    with workspace.home() as (home, _):
        own = Home(home.folder, with_payment(home))
        (home.folder / "exports").mkdir()
        with open_ledger(own.settings) as ledger:
            count = 0
            for documents in (small, large):
                add_done(ledger, own.settings, documents - count, name=f"to-{documents}")
                ledger.run(_add_payments, own.settings)
                analyze(ledger)
                count = documents
                for form in FORMATS:
                    found[form][documents] = _export(own, form, f"{documents}.{form}")
                    workspace.report(f"{documents:,} records as {form}: {found[form][documents]}")
    for form, of in found.items():
        raw = {f"{documents}_records": vars(export) for documents, export in of.items()}
        what = f"memory of an export as {form}, {large:,} against {small:,} records"
        yield Row(what, at_most(1.3), of[large].peak_mb / of[small].peak_mb, raw)
        milliseconds = 1000 * (of[large].seconds - of[small].seconds) / (large - small)
        yield Row(f"time of a record as {form}", at_most(5, "ms"), milliseconds, {})


def _export(home: Home, form: str, name: str) -> Export:
    began = time.perf_counter()
    process = home.start("records", "--format", form, "--out", f"exports/{name}", stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"the export as {form} ended with status {status}")
    return Export(time.perf_counter() - began, usage.ru_maxrss / 1024)


def _add_payments(cur: Cursor, settings: Settings) -> None:
    """Add a record of the stage `payment` to each document that has none."""
    cur.execute(
        "insert into results (stage, input_digest, recipe, outcome, value, output_digest, slot, served_model, "
        "  model_evidence, tokens_in, tokens_out, tokens_cached, seconds, first_document) "
        "select 'payment', i.input_digest, %(recipe)s, 'ok', jsonb_build_object('payee', 'Payee \"' || i.item_id || '\", Ltd', "
        "  'amount', i.item_id * 0.25, 'due', date '2026-01-01' + (i.item_id %% 900)::integer), i.input_digest, 'deep', "
        "  'simulated/extractive-8bit', 'reported', 500, 60, 400, 2.0, d.key "
        "from work_items i join documents d using (document_id) where i.stage = 'classify' and not exists "
        "  (select from work_items o where o.document_id = i.document_id and o.stage = 'payment')",
        {"recipe": recipes(settings)["payment"]},
    )
    cur.execute(
        "insert into work_items (document_id, stage, state, input_digest, recipe, outcome, result_id) "
        "select i.document_id, 'payment', 'done', i.input_digest, r.recipe, 'ok', r.result_id "
        "from work_items i join results r on r.stage = 'payment' and r.input_digest = i.input_digest "
        "where i.stage = 'classify' and not exists "
        "  (select from work_items o where o.document_id = i.document_id and o.stage = 'payment')"
    )
    cur.execute("update stages set filled_to = null")


BENCHMARKS = (Benchmark("exports", exports),)
