"""The user's own Postgres (`OFFLOAD_POSTGRES_URL`): its address is normalised, and the database is checked before use.

No message shows the password.
"""

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from dagster_offload.errors import LedgerAway, LedgerUnavailable, SettingsError
from dagster_offload.postgres.outages import describe_outage, is_down
from dagster_offload.postgres.pooler import refuse_pooler
from dagster_offload.postgres.urls import libpq_url, shown_address, without_password
from dagster_offload.slot.addresses import is_loopback

CONNECT_SECONDS = 10
# A connection that a cut network has left without an answer fails after about this time. By default, Linux tries for 15 minutes.
SILENT_SECONDS = 30
_NOTICED_SILENCE = {
    "tcp_user_timeout": SILENT_SECONDS * 1000,
    "keepalives_idle": SILENT_SECONDS,
    "keepalives_interval": SILENT_SECONDS // 3,
    "keepalives_count": 3,
}


def ensure_external(url: str) -> str:
    """Return the URL of the user's database after checking it. Raises `SettingsError` or `LedgerUnavailable`."""
    conninfo = normalised(url)
    try:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            _refuse_unusable(conn)
            refuse_pooler(conn)
    except psycopg.Error as error:
        refusal = LedgerAway if is_down(error) else LedgerUnavailable
        raise refusal(
            f"OFFLOAD_POSTGRES_URL: cannot use the database at {shown_address(conninfo)}: "
            f"{without_password(describe_outage(error), conninfo)}"
        ) from None  # the cause's text may hold the password
    return conninfo


def why_exposed(connection: psycopg.Connection[Any]) -> str | None:
    """What everyone on the network can read of this connection; None if it is encrypted, or stays on this machine."""
    host = connection.info.host
    if not is_readable(host, uses_tls=connection.pgconn.ssl_in_use):
        return None
    return f"texts and records are sent to {host} unencrypted: everyone on the network can read and change them"


def is_readable(host: str, *, uses_tls: bool) -> bool:
    """Whether others on the network can read a connection to this host, which may be the folder of a socket."""
    return not uses_tls and not host.startswith("/") and not is_loopback(host)


ADVICE_IF_EXPOSED = "let Postgres use TLS (ssl = on), and add sslmode=verify-full to OFFLOAD_POSTGRES_URL"


def normalised(url: str) -> str:
    """Return a URL for psycopg 3 from any spelling that people and SQLAlchemy use. Raises `SettingsError`."""
    address = re.sub(r"^postgres(ql)?(\+psycopg2?)?://", "postgresql://", url.strip())
    parts = _parsed(address) if address.startswith("postgresql://") else None
    if parts is None:
        raise SettingsError(
            "OFFLOAD_POSTGRES_URL must have the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE; percent-encode"
            " special characters in the password"
        )
    return libpq_url({"connect_timeout": CONNECT_SECONDS, **_NOTICED_SILENCE, **parts, "client_encoding": "UTF8"})


def _parsed(address: str) -> dict[str, Any] | None:
    """The parts of an address. None if it cannot be parsed, or if an unencoded `@`, `:` or `/` of the password splits it."""
    try:
        parts = conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        return None
    is_whole = re.fullmatch(r"[\d,]*", str(parts.get("port") or "")) is not None
    is_whole = is_whole and "@" not in f"{parts.get('host')}{parts.get('dbname')}"
    return parts if is_whole else None


def _refuse_unusable(conn: psycopg.Connection) -> None:
    row = conn.execute("select pg_is_in_recovery(), current_setting('server_encoding')").fetchone()
    is_standby, encoding = row or (False, "")
    where = f"OFFLOAD_POSTGRES_URL: the database at {shown_address(conn.info.dsn)}"
    if is_standby:
        raise LedgerUnavailable(f"{where} is a read-only standby: use its primary")
    if encoding != "UTF8":
        raise LedgerUnavailable(
            f"{where} stores text as {encoding}, but documents need UTF8:"
            " create a database with `create database NAME encoding 'UTF8' template template0`"
        )
