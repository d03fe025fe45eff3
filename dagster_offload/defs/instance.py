"""The Dagster instance of one home: writes its `dagster.yaml` and opens the instance."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from string import Template

import dagster as dg
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dagster_offload.host.replacing import replace_file
from dagster_offload.postgres import DAGSTER_SCHEMA, dagster_url, ensure_postgres
from dagster_offload.postgres.owners import refuse_foreign_objects
from dagster_offload.settings import Settings

FILE_NAME = "dagster.yaml"


def dagster_home(settings: Settings) -> Path:
    """The folder for DAGSTER_HOME of this home."""
    return settings.home / "dagster"


def prepare_instance(settings: Settings, conninfo: str) -> Path:
    """Write `dagster.yaml` for this home and database. Returns the folder for DAGSTER_HOME.

    The file may contain a password, so only its owner can read it. A file without our first line belongs to the user and
    is not changed. In the database, this creates Dagster's schema if it is missing.
    """
    _ensure_schema(conninfo)
    folder = dagster_home(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    template = resources.files(__package__).joinpath(FILE_NAME).read_text(encoding="utf-8")
    mark = template.splitlines()[0]
    # A JSON string is a valid YAML string, whatever characters a password contains.
    content = Template(template).substitute(
        postgres_url=json.dumps(_url(conninfo)), output_folder=json.dumps(str(folder / "storage"))
    )
    file = folder / FILE_NAME
    before = file.read_text(encoding="utf-8") if file.exists() else None
    if before is not None and (before == content or not before.startswith(mark)):
        return folder
    replace_file(file, content)
    return folder


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance of this home for the block. Starts the embedded Postgres if needed.

    Raises `LedgerUnavailable` with the next step.
    """
    folder = prepare_instance(settings, ensure_postgres(settings))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


def create_tables(conninfo: str) -> None:
    """Create Dagster's tables in this database if they are missing. The home and its `dagster.yaml` are not changed."""
    with tempfile.TemporaryDirectory(prefix="offload-") as folder:
        settings = Settings.model_construct(home=Path(folder))
        home = prepare_instance(settings, conninfo)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.get_runs_count()


def _ensure_schema(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        # Two processes that create the schema at the same moment would fail.
        connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [DAGSTER_SCHEMA])
        connection.execute(f"create schema if not exists {DAGSTER_SCHEMA}")
        with connection.cursor() as cursor:
            refuse_foreign_objects(cursor, DAGSTER_SCHEMA)


def _url(conninfo: str) -> str:
    options = conninfo_to_dict(conninfo).get("options") or ""
    return dagster_url(make_conninfo(conninfo, options=f"{options} -c search_path={DAGSTER_SCHEMA}".strip()))
