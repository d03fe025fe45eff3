"""The URL of one database in two spellings: libpq's for the ledger, SQLAlchemy's for Dagster's storages."""

from collections.abc import Mapping
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict


def libpq_url(parts: Mapping[str, str | int | None]) -> str:
    """Return the parts of a conninfo as a URL. Empty parts are kept, so that libpq does not fall back to PG* variables."""
    return _url("postgresql", {name: str(value) for name, value in parts.items() if value is not None})


def shown_url(conninfo: str) -> str:
    """Return the URL as a person would write it, without the password and without our own parameters."""
    parts = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value not in (None, "")}
    login = f"{quote(parts['user'], safe='')}@" if "user" in parts else ""
    host, database = parts.get("host", ""), quote(parts.get("dbname", ""), safe="")
    if "/" in host or "," in host:  # a socket folder, or a list of hosts
        port = f"&port={parts['port']}" if "port" in parts else ""
        return f"postgresql://{login}/{database}?host={quote(host, safe='/,')}{port}"
    port = f":{parts['port']}" if "port" in parts else ""
    return f"postgresql://{login}{f'[{host}]' if ':' in host else host}{port}/{database}"


def shown_address(conninfo: str) -> str:
    """`db.local:5432/offload`: where the database is, for a message. The folder of a socket has no port.

    Several hosts have one port each or one in common: `a:5432,b:5433/offload`.
    """
    parts = conninfo_to_dict(conninfo)
    host, port, database = (str(parts.get(name) or "") for name in ("host", "port", "dbname"))
    if host.startswith("/"):
        return host
    hosts, ports = (host or "the local socket").split(","), port.split(",")
    each = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
    places = (f"{name}:{number}" if number else name for name, number in zip(hosts, each, strict=True))
    return ",".join(places) + (f"/{database}" if database else "")


def without_password(text: str, conninfo: str) -> str:
    """The text with the password of this address masked."""
    password = password_of(conninfo)
    return text.replace(password, "***") if password else text


def password_of(conninfo: str) -> str | None:
    """The password in the URL, or None."""
    password = conninfo_to_dict(conninfo).get("password")
    return str(password) if password else None


def dagster_url(conninfo: str) -> str:
    """Return the `postgres_url` for dagster.yaml. It holds the password if `conninfo` does.

    It names the driver, because SQLAlchemy 2.1 reads a plain `postgresql://` as psycopg 3.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value not in (None, "")}
    return _url("postgresql+psycopg2", parts)


def _url(scheme: str, parts: dict[str, str]) -> str:
    login = quote(parts.get("user", ""), safe="")
    if password := parts.get("password"):
        login += f":{quote(password, safe='')}"
    # Host and port go into the query, because a socket folder or a list of hosts does not fit the host part of a URL.
    query = {name: value for name, value in parts.items() if name not in ("user", "password", "dbname")}
    pairs = "&".join(f"{name}={quote(value, safe='/')}" for name, value in query.items())
    return f"{scheme}://{login}@/{quote(parts.get('dbname', ''), safe='')}?{pairs}"
