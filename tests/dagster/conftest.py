"""A complete edge for each test: Dagster's storages and a ledger in one real Postgres, a stand-in router, a library."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml  # type: ignore[import-untyped]

from dagster_offload.definitions import build_definitions
from dagster_offload.defs.instance import prepare_instance
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.postgres import dagster_url
from dagster_offload.settings import Settings, load_settings
from dagster_offload.simulator.server import Router
from tests.support.database import database_url, new_database
from tests.support.edge import Edge
from tests.support.project import Project


@pytest.fixture(scope="session")
def dagster_template(
    postgres_url: str, ledger_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The name of a database with an empty ledger and Dagster's empty tables. No connection to it stays open."""
    with new_database(postgres_url, ledger_template) as name:
        settings = load_settings(home=tmp_path_factory.mktemp("template"))
        folder = prepare_instance(settings, database_url(postgres_url, name))
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            assert instance.get_runs_count() == 0
        yield name


@pytest.fixture
def database(postgres_url: str, dagster_template: str) -> Iterator[str]:
    """The URL of a database for this test alone, with Dagster's tables and the ledger."""
    with new_database(postgres_url, dagster_template) as name:
        yield database_url(postgres_url, name)


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
        ocr="off",  # a scan would run Tesseract twice
    )


NO_OUTPUT_CAPTURE = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


@pytest.fixture
def instance(settings: Settings, database: str) -> Iterator[dg.DagsterInstance]:
    """The shipped instance, without the capture of a step's output: after a step that ends with an exception, only the
    garbage collector ends Dagster's `tail` processes."""
    folder = prepare_instance(settings, database)
    shipped = yaml.safe_load((folder / "dagster.yaml").read_text())
    (folder / "dagster.yaml").write_text(yaml.safe_dump(shipped | yaml.safe_load(NO_OUTPUT_CAPTURE)))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


@pytest.fixture
def edge(
    settings: Settings, database: str, router: Router, instance: dg.DagsterInstance, kept_extractor: None
) -> Iterator[Edge]:
    with Ledger(database) as ledger:
        yield Edge(settings, ledger, instance, router, build_definitions(lambda: settings))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME with Dagster's empty tables in SQLite. To make them takes as long as a whole test."""
    home = tmp_path_factory.mktemp("sqlite")
    (home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{NO_OUTPUT_CAPTURE}")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() == 0
    return home


@pytest.fixture
def storage() -> str:
    """Where a stranger's project keeps Dagster's own data. A test that needs `postgres`, too, parametrizes it."""
    return "sqlite"


@pytest.fixture
def project(
    tmp_path: Path,
    database: str,
    router: Router,
    storage: str,
    sqlite_template: Path,
    kept_extractor: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Project]:
    """A stranger's project without components. Nothing of it stays imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LEDGER", database)
    monkeypatch.setenv("VIRTUAL_ENV", str(Path(sys.executable).parent.parent))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    )
    for name in [name for name in list(sys.modules) if name.partition(".")[0] == "stranger"]:
        monkeypatch.delitem(sys.modules, name)
    home = shutil.copytree(sqlite_template, tmp_path / "dagster_home")
    if storage == "postgres":
        with (home / "dagster.yaml").open("a") as config:
            config.write(f"storage:\n  postgres:\n    postgres_url: {dagster_url(database)}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Project.create(tmp_path, instance, router)
