"""The events that Dagster plans for a run, one for each document and stage: batches of them are stored as single ones are."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pytest

from dagster_offload.defs.names import names_of
from dagster_offload.defs.pooled_storage import _BatchingEventLogStorage
from dagster_offload.service.dagster_process import BATCH_SIZE
from dagster_offload.stages.graph import BUILT_IN
from tests.support.connections import recording_statements
from tests.support.edge import RANGE_END, RANGE_START, Edge

KEYS = names_of(BUILT_IN).keys
DOCUMENTS = [f"d{number}" for number in range(8)]


def create_run(edge: Edge) -> tuple[str, int]:
    """Create a run over all documents and stages. Returns its id, and how many statements stored events."""
    job = edge.defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(KEYS.values()))
    tags = {RANGE_START: f"{DOCUMENTS[0]}.txt", RANGE_END: f"{DOCUMENTS[-1]}.txt"}
    with recording_statements() as statements:
        run = edge.instance.create_run_for_job(job, tags=tags)
    return run.run_id, sum("INSERT INTO event_logs" in text for text in statements)


def planned(edge: Edge, run_id: str) -> Sequence[tuple[object, ...]]:
    """The planned events of a run, as Dagster reads them."""
    found = edge.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    return sorted(
        (str(record.asset_key), record.partition_key, record.event_log_entry.step_key, record.event_log_entry.job_name)
        for record in found.records
    )


def last_runs(edge: Edge) -> set[str | None]:
    """The last run of each asset, which the UI shows as in progress."""
    return {record.asset_entry.last_run_id for record in edge.instance.get_asset_records(list(KEYS.values()))}


def planned_checks(edge: Edge) -> set[tuple[dg.AssetKey, str]]:
    """The assets and the runs for which a check is planned."""
    storage = edge.instance.event_log_storage
    return {
        (key, record.run_id)
        for key in KEYS.values()
        for record in storage.get_asset_check_execution_history(
            dg.AssetCheckKey(key, "documents_that_need_you"), limit=10
        )
    }


def test_planned_events_are_stored_in_batches_and_are_the_same(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    edge.write(**dict.fromkeys(DOCUMENTS, "The lease is due."))
    edge.scan()
    monkeypatch.delenv(BATCH_SIZE[0], raising=False)
    one_by_one, statements = create_run(edge)
    assert statements >= len(DOCUMENTS) * len(KEYS)
    assert last_runs(edge) == {one_by_one}
    monkeypatch.setenv(*BATCH_SIZE)
    in_a_batch, statements = create_run(edge)
    assert statements <= 1 + len(KEYS), "one for all, and one for each check"
    assert planned(edge, in_a_batch) == planned(edge, one_by_one)
    assert len(planned(edge, in_a_batch)) == len(DOCUMENTS) * len(KEYS)
    assert last_runs(edge) == {in_a_batch}
    assert planned_checks(edge) >= {(key, run) for key in KEYS.values() for run in (one_by_one, in_a_batch)}


def test_a_batch_that_fails_half_way_leaves_no_event_twice(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    edge.write(**dict.fromkeys(DOCUMENTS, "The lease is due."))
    edge.scan()
    monkeypatch.setenv(*BATCH_SIZE)
    store = _BatchingEventLogStorage._store_asset_event
    failed: list[object] = []

    def fail_once(storage: _BatchingEventLogStorage, *arguments: Any) -> None:
        if not failed:
            failed.append(arguments)
            raise ConnectionError
        store(storage, *arguments)

    monkeypatch.setattr(_BatchingEventLogStorage, "_store_asset_event", fail_once)
    run_id, _ = create_run(edge)
    assert failed
    assert len(planned(edge, run_id)) == len(DOCUMENTS) * len(KEYS)
    assert last_runs(edge) == {run_id}
