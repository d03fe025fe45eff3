"""A pooler that shares our backend with other clients is refused; a session-mode pooler is accepted. Needs PgBouncer."""

import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres import ensure_postgres, pooler
from dagster_offload.postgres.embedded.locks import wait_until
from dagster_offload.postgres.embedded.sockets import socket_folder
from dagster_offload.settings import load_settings
from tests.support.database import WITHOUT_FSYNC
from tests.support.needs import pgbouncer
from tests.support.patience import PATIENCE_SECONDS
from tests.support.postgres import IS_ROOT
from tests.support.short_folders import make_short_folder

pytestmark = pytest.mark.pgbouncer

Pool = Callable[..., str]


@pytest.fixture(scope="module")
def trusting_server() -> Iterator[Path]:
    """The socket folder of a server that trusts every local user; the pooler runs as the server's user."""
    from dagster_offload.postgres import stop_postgres
    from dagster_offload.postgres.embedded.server import ensure_embedded

    folder = make_short_folder()
    folder.chmod(0o755)
    rules = folder / "rules.conf"
    rules.write_text("local all all trust\n")
    rules.chmod(0o644)
    ensure_embedded(folder / "home", options={**WITHOUT_FSYNC, "hba_file": str(rules)})
    try:
        yield socket_folder(folder / "home" / "postgres")
    finally:
        stop_postgres(folder / "home")
        shutil.rmtree(folder)


@pytest.fixture
def pool(trusting_server: Path, short_folder: Path) -> Iterator[Pool]:
    """Starts PgBouncer in one of its modes and returns the URL of the database behind it."""
    short_folder.chmod(0o777)
    started: list[subprocess.Popen[bytes]] = []

    def run(mode: str, **options: object) -> str:
        lines = [
            "[databases]",
            f"offload = host={trusting_server} port=5432 dbname=offload user=offload",
            "[pgbouncer]",
            f"unix_socket_dir = {short_folder}",
            "listen_port = 6432",
            "auth_type = any",
            f"pool_mode = {mode}",
            *(f"{name} = {value}" for name, value in options.items()),
        ]
        config = short_folder / "pgbouncer.ini"
        config.write_text("\n".join(lines) + "\n")
        config.chmod(0o644)
        user = pwd.getpwnam("nobody").pw_uid if IS_ROOT else None
        log = (short_folder / "pgbouncer.log").open("wb")
        started.append(subprocess.Popen([str(pgbouncer()), str(config)], user=user, stdout=log, stderr=log))
        log.close()
        is_open = wait_until(lambda: accepts(short_folder / ".s.PGSQL.6432"), PATIENCE_SECONDS)
        assert is_open, (short_folder / "pgbouncer.log").read_text()
        return f"postgresql://somebody@/offload?host={short_folder}&port=6432"

    try:
        yield run
    finally:
        for process in started:
            process.terminate()
            process.wait()


def accepts(address: Path) -> bool:
    """Whether a server accepts connections. Its socket exists shortly before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(address)) == 0


def ensure(url: str) -> str:
    return ensure_postgres(load_settings(home="/nonexistent", postgres_url=url))


def use_backends(url: str, number: int) -> None:
    """Leave this many idle backends in the pool, as other clients would."""
    with ExitStack() as held:
        for _ in range(number):
            held.enter_context(psycopg.connect(url)).execute("select 1")


@pytest.mark.parametrize("size", [1, 2, 20])
@pytest.mark.parametrize("round_robin", [0, 1])
@pytest.mark.parametrize("idle", [0, 1, 20])
def test_transaction_mode_is_refused(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, size: int, round_robin: int, idle: int
) -> None:
    monkeypatch.setattr(pooler, "ANSWER_SECONDS", 1.0)
    url = pool("transaction", default_pool_size=size, server_round_robin=round_robin)
    use_backends(url, min(size, idle))

    with pytest.raises(
        LedgerUnavailable, match=r"^OFFLOAD_POSTGRES_URL: this database is behind a pooler in transaction mode"
    ):
        ensure(url)


def test_statement_mode_is_refused(pool: Pool) -> None:
    with pytest.raises(
        LedgerUnavailable, match=r"^OFFLOAD_POSTGRES_URL: this database is behind a pooler in statement mode"
    ):
        ensure(pool("statement"))


@pytest.mark.parametrize("size", [1, 2, 50])
def test_session_mode_is_accepted(pool: Pool, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(pooler, "ANSWER_SECONDS", 3.0)
    url = pool("session", default_pool_size=size)

    with psycopg.connect(ensure(url)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_the_pooler_check_leaves_no_connection_and_no_transaction(empty_url: str) -> None:
    ensure(empty_url)

    with psycopg.connect(empty_url, autocommit=True) as conn:
        others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        assert wait_until(lambda: conn.execute(others).fetchone() == (0,), PATIENCE_SECONDS)
