"""One database, two spellings: libpq's for the ledger, SQLAlchemy's for Dagster's storages."""

from collections.abc import Mapping
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict


def libpq_url(parts: Mapping[str, str | int | None]) -> str:
    """The parts of a conninfo as a URL. An empty part stays: it keeps libpq from looking into a PG* variable."""
    return _url("postgresql", {name: str(value) for name, value in parts.items() if value is not None})


def dagster_url(conninfo: str) -> str:
    """The `postgres_url` for dagster.yaml. Holds a password where `conninfo` does.

    The driver is named, because SQLAlchemy 2.1 takes a plain `postgresql://` for psycopg 3.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value not in (None, "")}
    return _url("postgresql+psycopg2", parts)


def _url(scheme: str, parts: dict[str, str]) -> str:
    login = quote(parts.get("user", ""), safe="")
    if password := parts.get("password"):
        login += f":{quote(password, safe='')}"
    # Host and port stand in the query, where a socket's folder and a list of hosts are as good as a name.
    query = {name: value for name, value in parts.items() if name not in ("user", "password", "dbname")}
    pairs = "&".join(f"{name}={quote(value, safe='/')}" for name, value in query.items())
    return f"{scheme}://{login}@/{quote(parts.get('dbname', ''), safe='')}?{pairs}"
