"""A whole edge for each test: Dagster's storages and a ledger in one real Postgres, a stand-in router, a small library."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from dagster_offload.definitions import build_definitions
from dagster_offload.defs.instance import prepare_instance
from dagster_offload.defs.names import asset_keys
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.postgres.urls import libpq_url
from dagster_offload.settings import Settings, load_settings
from dagster_offload.simulator.server import Router
from dagster_offload.stages.graph import STAGE_NAMES

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class Edge:
    """What a test holds in its hands."""

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
            instance=self.instance, run_config={"ops": {step: {"config": config}}}, raise_on_error=False
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
        """Click on one partition, or on the range between two. A run that is to wait really waits here."""
        selection = [asset_keys(())[stage] for stage in stages]
        job = self.defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(selection))
        range_tags = {RANGE_START: keys[0], RANGE_END: keys[-1]} if len(keys) > 1 else {}
        return job.execute_in_process(
            instance=self.instance,
            partition_key=keys[0] if len(keys) == 1 else None,
            tags={**(tags or {}), **range_tags},
            run_id=run_id,
            raise_on_error=False,
        )

    def tick(self, sensor: str, cursor: str | None = None) -> dg.RunRequest | str:
        """One tick of a sensor: its run request, or the words of its skip."""
        repository = self.defs.get_repository_def()
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=cursor,
            repository_def=repository,
            resources={"deep_slot": (self.defs.resources or {})["deep_slot"]},
        )
        data = repository.get_sensor_def(sensor).evaluate_tick(context)
        if data.run_requests:
            (request,) = data.run_requests
            return request
        assert data.skip_message is not None
        return data.skip_message

    def make_run_older(self, run_id: str, minutes: int) -> None:
        with self.ledger.transaction() as cur:
            cur.execute(
                "update offload_dagster.runs set update_timestamp = update_timestamp - make_interval(mins => %s) "
                "where run_id = %s",
                [minutes, run_id],
            )

    def start_run(self, status: dg.DagsterRunStatus, tags: dict[str, str] | None = None) -> str:
        """A run of `drain` in this status that nobody works on."""
        origin = RemoteJobOrigin(
            RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("edge"), "__repository__"), "drain"
        )
        job = self.defs.resolve_job_def("drain")
        return self.instance.create_run_for_job(job, tags=tags, status=status, remote_job_origin=origin).run_id

    def partitions_done(self, stage: str) -> set[str]:
        return self.instance.get_materialized_partitions(asset_keys(())[stage])

    def materializations(self, stage: str, key: str | None = None) -> list[dg.EventLogRecord]:
        """Newest first."""
        wanted = dg.AssetRecordsFilter(asset_key=asset_keys(())[stage], asset_partitions=None if key is None else [key])
        return list(self.instance.fetch_materializations(wanted, limit=1000).records)


@pytest.fixture(scope="session")
def dagster_template(
    postgres_url: str, ledger_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The name of a database with an empty ledger and Dagster's empty tables; nobody connects to it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _create(postgres_url, name, ledger_template)
    settings = load_settings(home=tmp_path_factory.mktemp("template"))
    with dg.DagsterInstance.from_config(str(prepare_instance(settings, _url(postgres_url, name)))) as instance:
        assert instance.get_runs_count() == 0
    yield name
    _drop(postgres_url, name)


@pytest.fixture
def database(postgres_url: str, dagster_template: str) -> Iterator[str]:
    """The URL of a database of this test's own, for Dagster and the ledger."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _create(postgres_url, name, dagster_template)
    yield _url(postgres_url, name)
    _drop(postgres_url, name)


@pytest.fixture
def router() -> Iterator[Router]:
    with Router() as router:
        yield router


@pytest.fixture
def settings(tmp_path: Path, database: str, router: Router) -> Settings:
    library = tmp_path / "library"
    library.mkdir()
    return load_settings(
        home=tmp_path / "home",
        library=library,
        postgres_url=database,
        deep_url=router.url,
        deep_model="qwen-macbook",
        deep_concurrency=2,
        retry_after_minutes=0.05,
    )


NO_OUTPUT_CAPTURE = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


@pytest.fixture
def instance(settings: Settings, database: str) -> Iterator[dg.DagsterInstance]:
    """The shipped instance, but for the capture of a step's output: a test that ends a step with an exception leaves
    Dagster's `tail` processes to the garbage collector."""
    folder = prepare_instance(settings, database)
    with (folder / "dagster.yaml").open("a") as shipped:
        shipped.write(NO_OUTPUT_CAPTURE)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


@pytest.fixture
def edge(settings: Settings, database: str, router: Router, instance: dg.DagsterInstance) -> Iterator[Edge]:
    with Ledger(database) as ledger:
        yield Edge(settings, ledger, instance, router, build_definitions(lambda: settings))


def _url(postgres_url: str, database: str) -> str:
    return libpq_url({**conninfo_to_dict(postgres_url), "dbname": database})


def _create(postgres_url: str, name: str, template: str) -> None:
    _execute(postgres_url, sql.SQL("create database {} encoding 'UTF8' template {}"), name, template)


def _drop(postgres_url: str, name: str) -> None:
    _execute(postgres_url, sql.SQL("drop database {} with (force)"), name)


def _execute(postgres_url: str, statement: sql.SQL, *names: str) -> None:
    with psycopg.connect(_url(postgres_url, "postgres"), autocommit=True) as connection:
        connection.execute(statement.format(*map(sql.Identifier, names)))
