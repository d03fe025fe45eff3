"""Postgres for the ledger and for Dagster's storages: the user's own, or an embedded server in the home.

`ensure_postgres` is the only entry point for what uses the ledger. The URL it returns serves every process on this host.
"""

from dagster_offload.postgres.embedded.accounts import prepare_home
from dagster_offload.postgres.embedded.place import identity_of_data
from dagster_offload.postgres.embedded.postmaster import (
    end_server_of_removed_home,
    has_embedded,
    is_running,
    reason_to_restart,
    server_pid,
    server_process,
    stop_postgres,
)
from dagster_offload.postgres.embedded.server import embedded_url, ensure_embedded
from dagster_offload.postgres.external import ensure_external
from dagster_offload.postgres.pooler import refuse_pooler
from dagster_offload.postgres.urls import dagster_url, shown_url
from dagster_offload.settings import Settings

# Dagster's tables have their own schema. The default search path would put them into a schema named like the user, or
# into `public`, where the tables of another Dagster may be.
DAGSTER_SCHEMA = "offload_dagster"

__all__ = [
    "DAGSTER_SCHEMA",
    "dagster_url",
    "embedded_url",
    "end_server_of_removed_home",
    "ensure_postgres",
    "has_embedded",
    "identity_of_data",
    "is_running",
    "prepare_home",
    "reason_to_restart",
    "refuse_pooler",
    "server_pid",
    "server_process",
    "shown_url",
    "stop_postgres",
]


def ensure_postgres(settings: Settings) -> str:
    """Return the URL of the ledger's database after it has answered. Starts the embedded server if it does not run.

    Raises `SettingsError` for an unusable OFFLOAD_POSTGRES_URL and `LedgerUnavailable` for everything else.
    """
    if settings.postgres_url is not None:
        return ensure_external(settings.postgres_url.get_secret_value())
    return ensure_embedded(settings.home)
