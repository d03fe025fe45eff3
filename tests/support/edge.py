"""What tests of the Dagster edge need: definitions, an instance, a ledger, a stand-in router and a library."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from dagster_offload.defs.location import LOCATION
from dagster_offload.defs.names import REPOSITORY_TAG, names_of
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.settings import Settings
from dagster_offload.simulator.server import Router
from dagster_offload.stages.graph import BUILT_IN
from tests.support.stages import STAGE_NAMES

REPOSITORY = "__repository__"
OF_LOCATION = {REPOSITORY_TAG: f"{REPOSITORY}@{LOCATION}"}  # the tag of all runs that Dagster or a command launches
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def failure_message(result: dg.ExecuteInProcessResult) -> str:
    """What the only failed step of a run says."""
    (event,) = result.get_step_failure_events()
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


@dataclass(frozen=True)
class Edge:
    """The Dagster edge over a temporary library, ledger and router."""

    settings: Settings
    ledger: Ledger
    instance: dg.DagsterInstance
    router: Router
    defs: dg.Definitions

    def write(self, **texts: str) -> None:
        """Write files into the library: `write(a="text")` makes a.txt."""
        assert self.settings.library is not None
        for name, text in texts.items():
            (self.settings.library / f"{name}.txt").write_text(text, encoding="utf-8")

    def run_job(self, name: str, **config: Any) -> dg.ExecuteInProcessResult:
        job = self.defs.resolve_job_def(name)
        (step,) = (node.name for node in job.nodes)
        return job.execute_in_process(
            instance=self.instance,
            run_config={"ops": {step: {"config": config}}},
            tags=OF_LOCATION,
            raise_on_error=False,
        )

    def scan(self) -> dg.ExecuteInProcessResult:
        result = self.run_job("scan")
        assert result.success
        return result

    def materialize(
        self,
        *keys: str,
        stages: Sequence[str] = STAGE_NAMES,
        tags: dict[str, str] | None = None,
        run_id: str | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize one partition, or the range between two. A run that has to wait really waits."""
        selection = [names_of(BUILT_IN).keys[stage] for stage in stages]
        job = self.defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(selection))
        range_tags = {RANGE_START: keys[0], RANGE_END: keys[-1]} if len(keys) > 1 else {}
        return job.execute_in_process(
            instance=self.instance,
            partition_key=keys[0] if len(keys) == 1 else None,
            tags={**(tags or {}), **range_tags},
            run_id=run_id,
            raise_on_error=False,
        )

    def listen_for(self, event_type: str, run_id: str) -> threading.Event:
        """An event that is set when the run has this event."""
        happened = threading.Event()

        def on_event(entry: dg.EventLogEntry) -> None:
            if entry.dagster_event is not None and entry.dagster_event.event_type_value == event_type:
                happened.set()

        self.instance.add_event_listener(run_id, on_event)
        return happened

    def tick(self, sensor: str, cursor: str | None = None) -> dg.RunRequest | str:
        """Evaluate a sensor once; returns its run request, or its skip message."""
        repository = self.defs.get_repository_def()
        context = self.sensor_context(cursor)
        data = repository.get_sensor_def(sensor).evaluate_tick(context)
        if data.run_requests:
            (request,) = data.run_requests
            return request
        assert data.skip_message is not None
        return data.skip_message

    def sensor_context(self, cursor: str | None = None) -> dg.SensorEvaluationContext:
        """The context of a tick, as in the code server."""
        return dg.SensorEvaluationContext(
            instance_ref=None,
            cursor=cursor,
            repository_name=REPOSITORY,
            repository_def=self.defs.get_repository_def(),
            instance=self.instance,
            code_location_origin=RegisteredCodeLocationOrigin(LOCATION),
        )

    def tick_without_instance(self, sensor: str) -> str:
        """Evaluate a sensor that must skip without Dagster's instance; returns its skip message."""
        repository = self.defs.get_repository_def()
        with dg.build_sensor_context(repository_def=repository) as context:
            data = repository.get_sensor_def(sensor).evaluate_tick(context)
        assert data.skip_message is not None
        return data.skip_message

    def make_run_older(self, run_id: str, minutes: int) -> None:
        with self.ledger.transaction() as cur:
            cur.execute(
                "update offload_dagster.runs set update_timestamp = update_timestamp - make_interval(mins => %s) "
                "where run_id = %s",
                [minutes, run_id],
            )

    def start_run(
        self,
        status: dg.DagsterRunStatus,
        tags: dict[str, str] | None = None,
        job_name: str = "drain",
        location: str = LOCATION,
    ) -> str:
        """Create a run in this status that has no process. Returns its id."""
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), REPOSITORY), job_name)
        job = self.defs.resolve_job_def(job_name)
        return self.instance.create_run_for_job(job, tags=tags, status=status, remote_job_origin=origin).run_id

    def partitions_done(self, stage: str) -> set[str]:
        return self.instance.get_materialized_partitions(names_of(BUILT_IN).keys[stage])

    def materializations(self, stage: str, key: str | None = None) -> list[dg.EventLogRecord]:
        """Newest first."""
        wanted = dg.AssetRecordsFilter(
            asset_key=names_of(BUILT_IN).keys[stage], asset_partitions=None if key is None else [key]
        )
        return list(self.instance.fetch_materializations(wanted, limit=1000).records)
