"""Turns changed records into deliveries: a record is sent when all stages of its document are done, and only if it changed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.reports import records
from dagster_offload.ledger.sinks import deliveries, sinks
from dagster_offload.records.columns import as_record
from dagster_offload.settings import Settings
from dagster_offload.settings.sections.recipients import kind_of
from dagster_offload.settings.sections.sinks import SINK_KINDS
from dagster_offload.stages.catalog import stage_graph

DOCUMENTS_A_BATCH = 200
# Fields that change without the record.
_NOT_OF_THE_RECORD = ("updated_at",)


def register(settings: Settings, ledger: Ledger) -> None:
    """Let the ledger know the sinks of the pipeline file."""
    found = settings.sinks
    kinds = {name: kind_of(sink, SINK_KINDS) for name, sink in found.items()}
    ledger.run(sinks.register, kinds, {name: sink.existing for name, sink in found.items()})


def plan(settings: Settings, ledger: Ledger) -> bool:
    """Add the deliveries of one batch of changed documents. Returns whether there may be more."""
    return ledger.run(_plan, settings)


def _plan(cur: Cursor, settings: Settings) -> bool:
    deliveries.lock_planning(cur)
    if stages.graph(cur) != stage_graph(settings):
        return False  # The record would have the columns of other stages. One with those in force plans it, and is notified.
    if stages.are_incomplete(cur):
        return False  # a document without a work item of a new stage looks done
    changed = deliveries.take_changes(cur, DOCUMENTS_A_BATCH)
    unfilled = deliveries.next_unfilled(cur, DOCUMENTS_A_BATCH)
    by_sink = {name: sorted({*changed.get(name, ()), *unfilled.get(name, ())}) for name in settings.sinks}
    ids = sorted({document for found in by_sink.values() for document in found})
    keys = deliveries.keys_of(cur, ids)
    finished = {found.document: as_record(found, settings) for found in records.read(cur, ids) if found.state == "done"}
    for name, documents in by_sink.items():
        for document in documents:
            if (record := finished.get(keys.get(document, ""))) is not None:
                deliveries.add(cur, name, record["document"], version_of(record), record)
    return bool(changed) or bool(unfilled)


def version_of(record: Mapping[str, Any]) -> str:
    """A hash of the record's content."""
    content = {name: value for name, value in record.items() if name not in _NOT_OF_THE_RECORD}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def sample_record(settings: Settings) -> dict[str, Any]:
    """An invented record with all fields of this pipeline's records, for `sink test`."""
    empty = as_record(records.DocumentRecord("samples/letter.txt", "done", {}, None), settings)
    invented = {
        "category": "letter",
        "title": "A sample",
        "summary": "This is a sample of dagster-offload.",
        "language": "en",
    }
    return empty | invented
