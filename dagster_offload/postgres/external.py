"""The user's own Postgres (`OFFLOAD_POSTGRES_URL`): its address made usable, and checked before anything relies on it.

No message shows the password.
"""

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from dagster_offload.errors import LedgerUnavailable, SettingsError
from dagster_offload.postgres.pooler import refuse_pooler
from dagster_offload.postgres.urls import libpq_url

CONNECT_SECONDS = 10


def ensure_external(url: str) -> str:
    """The URL of the user's database, once it has answered. Raises `SettingsError`, `LedgerUnavailable`."""
    conninfo = normalised(url)
    try:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            _refuse_unfit(conn)
            refuse_pooler(conn)
    except psycopg.Error as error:
        raise LedgerUnavailable(
            f"OFFLOAD_POSTGRES_URL: no use of the database at {_address(conninfo)}: {_message(error, conninfo)}"
        ) from None  # the cause's text may hold what we have just taken out
    return conninfo


def normalised(url: str) -> str:
    """A URL for psycopg 3 out of any of the spellings people and SQLAlchemy use."""
    address = re.sub(r"^postgres(ql)?(\+psycopg2?)?://", "postgresql://", url.strip())
    parts = _parsed(address) if address.startswith("postgresql://") else None
    if parts is None:
        raise SettingsError(
            "OFFLOAD_POSTGRES_URL must look like postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special"
            " characters of the password percent-encoded"
        )
    return libpq_url({"connect_timeout": CONNECT_SECONDS, **parts, "client_encoding": "UTF8"})


def _parsed(address: str) -> dict[str, Any] | None:
    """The parts of an address, None where it has none or where a bare `@`, `:` or `/` of the password split it."""
    try:
        parts = conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        return None
    is_whole = re.fullmatch(r"[\d,]*", str(parts.get("port") or "")) is not None
    is_whole = is_whole and "@" not in f"{parts.get('host')}{parts.get('dbname')}"
    return parts if is_whole else None


def _refuse_unfit(conn: psycopg.Connection) -> None:
    row = conn.execute("select pg_is_in_recovery(), current_setting('server_encoding')").fetchone()
    is_standby, encoding = row or (False, "")
    where = f"OFFLOAD_POSTGRES_URL: the database at {_address(conn.info.dsn)}"
    if is_standby:
        raise LedgerUnavailable(f"{where} is a standby, which only reads: name its primary")
    if encoding != "UTF8":
        raise LedgerUnavailable(
            f"{where} stores text as {encoding}, and documents need UTF8:"
            " create it with `create database NAME encoding 'UTF8' template template0`"
        )


def _address(conninfo: str) -> str:
    parts = conninfo_to_dict(conninfo)
    host, port, database = (parts.get(name) for name in ("host", "port", "dbname"))
    return f"{host or 'the local socket'}{f':{port}' if port else ''}{f'/{database}' if database else ''}"


def _message(error: psycopg.Error, conninfo: str) -> str:
    """The first line of an error, with the password taken out."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    password = conninfo_to_dict(conninfo).get("password")
    return words.replace(str(password), "***") if password else words
