"""The same database for Dagster's storages, which reach it through SQLAlchemy and psycopg2."""

from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict


def dagster_url(conninfo: str) -> str:
    """The `postgres_url` for dagster.yaml; holds the password where the conninfo does.

    The driver is named, because SQLAlchemy 2.1 takes a plain `postgresql://` for psycopg 3.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value not in (None, "")}
    user, password = parts.pop("user", ""), parts.pop("password", "")
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    query = "&".join(f"{name}={quote(value, safe='/')}" for name, value in parts.items() if name != "dbname")
    return f"postgresql+psycopg2://{login}@/{quote(parts.get('dbname', ''), safe='')}?{query}"
