"""Observations in Dagster: why a document waits or failed, what comes next, once each."""

from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg

from dagster_offload.defs import events
from dagster_offload.defs.events import EventReporter
from dagster_offload.defs.names import DRAIN_STEP, OBSERVATION_TAG, names_of
from dagster_offload.defs.shown import documents
from dagster_offload.ledger.core.rows import PendingObservation, State
from dagster_offload.stages.graph import BUILT_IN
from tests.support.edge import Edge

KEYS = names_of(BUILT_IN).keys

OBSERVED = PendingObservation(
    event_id=9,
    document="it's cold.txt",
    stage="summarize",
    run_id=None,
    is_in_doubt=False,
    state=State.DEFERRED,
    reason="upstream_cold (HTTP 503)",
    attempts=0,
    deferrals=2,
    next_try=datetime(2026, 1, 1, 12, 30, tzinfo=UTC),
    at=datetime(2026, 1, 1, tzinfo=UTC),
)


def observations(edge: Edge, stage: str, key: str) -> list[dg.AssetObservation]:
    wanted = dg.AssetRecordsFilter(asset_key=KEYS[stage], asset_partitions=[key])
    found = edge.instance.fetch_observations(wanted, limit=100).records
    return [record.asset_observation for record in found if record.asset_observation is not None]


def test_a_batch_stores_the_observation_that_log_event_stores(edge: Edge) -> None:
    """The contract of the internal call, for observations."""
    shown = documents.observation(OBSERVED, KEYS)

    @dg.op(name="drain_backlog")
    def record_in_both_ways(context: dg.OpExecutionContext) -> None:
        context.log_event(shown)
        context.instance.event_log_storage.store_event_batch(
            [events._entry(context.run_id, context.job_name, DRAIN_STEP, events._message(OBSERVED), shown)],
        )

    @dg.job(name="drain")
    def both() -> None:
        record_in_both_ways()

    assert both.execute_in_process(instance=edge.instance).success
    assert observations(edge, "summarize", OBSERVED.document) == [shown, shown]


def test_an_observation_says_why_what_comes_next_and_when() -> None:
    deferred = documents.observation(OBSERVED, KEYS)
    said = {name: value.value for name, value in deferred.metadata.items()}
    assert said["state"] == "deferred"
    assert said["reason"] == "upstream_cold (HTTP 503)"
    assert said["next step"] == "Nothing to do: it is processed when the slot answers."
    assert str(said["next try"]).startswith("when the slot answers, at the latest at 2026-01-01 ")
    assert deferred.tags[OBSERVATION_TAG] == "9"
    failed = documents.observation(replace(OBSERVED, state=State.FAILED, next_try=None), KEYS)
    assert "next try" not in failed.metadata
    assert "dagster-offload retry 'it'\"'\"'s cold.txt'" in str(failed.metadata["next step"].value)


def test_a_deferred_document_is_observed_once_in_the_ui_after_a_crash_too(edge: Edge) -> None:
    edge.write(a="Dear landlord, it is cold.")
    edge.scan()
    edge.router.set(mode="cold")
    edge.run_job("drain")
    assert len(observations(edge, "classify", "a.txt")) == 1
    with edge.ledger.transaction() as cur:
        cur.execute("update outbox set told_at = null")  # a crash after the event was stored
    EventReporter(edge.instance, edge.ledger, names_of(BUILT_IN), edge.settings).report_all()
    assert len(observations(edge, "classify", "a.txt")) == 1
