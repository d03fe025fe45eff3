"""Outages of Postgres: it is stopped during a drain, refuses connections, or wants another password."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.slots import slots
from dagster_offload.postgres import ensure_postgres, stop_postgres
from dagster_offload.postgres.embedded.locks import server_lock
from dagster_offload.postgres.embedded.paths import NAME, Paths
from dagster_offload.postgres.embedded.server import _start, _url, ensure_embedded
from dagster_offload.postgres.external import normalised
from dagster_offload.postgres.outages import describe_outage, is_down, is_outage
from dagster_offload.postgres.urls import libpq_url
from dagster_offload.settings import load_settings
from dagster_offload.simulator.server import Router
from dagster_offload.stages.graph import BUILT_IN
from dagster_offload.testing import ChangeTiming
from tests.support.acceptance import wait_for
from tests.support.database import WITHOUT_FSYNC
from tests.support.engine import Engine, an_engine
from tests.support.patience import PATIENCE_SECONDS

Start = Callable[[Path], str]
KEYS = [f"{n}.txt" for n in range(6)]


@pytest.fixture
def engine(home: Path, start: Start, router: Router, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a server that the test may stop: nothing restarts it."""
    with Ledger(start(home)) as ledger:
        migrate(ledger, BUILT_IN)
        with an_engine(ledger, router, tmp_path) as engine:
            yield engine


@pytest.fixture
def impatient(change_timing: ChangeTiming, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger gives up at once."""
    change_timing(ledger_patience=0.0)
    monkeypatch.setattr("dagster_offload.ledger.core.database.CONNECT_SECONDS", 0.2)


@pytest.mark.rule("disk-2")
def test_an_outage_longer_than_the_ledgers_patience_loses_no_answer_of_a_drain(
    engine: Engine, home: Path, start: Start, change_timing: ChangeTiming, caplog: pytest.LogCaptureFixture
) -> None:
    change_timing(ledger_patience=0.0)
    engine.texts(*KEYS)
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain, deep_concurrency=3)
    wait_for(lambda: engine.router.log()["open"] == 3, "3 open calls")
    stop_postgres(home)
    engine.router.set(hold=False)
    wait_for(lambda: "3 calls are open or wait to be stored" in caplog.text or drain.done(), "the line about the calls")
    assert not drain.done(), drain.exception()
    assert engine.router.log()["open"] == 0
    start(home)
    summary = drain.result(PATIENCE_SECONDS)
    assert (summary.done, summary.failed, summary.left) == (6, 0, 0)
    assert len(engine.asked()) == 12
    assert set(Counter(engine.asked()).values()) == {1}


@pytest.mark.rule("disk-2")
def test_a_drain_follows_its_postgres_to_a_new_address_in_the_env_file_and_repeats_no_call(
    home: Path, start: Start, router: Router, tmp_path: Path, change_timing: ChangeTiming
) -> None:
    change_timing(ledger_patience=0.0)
    Path(".env").write_text(f"OFFLOAD_POSTGRES_URL={start(home)}\n")
    with open_ledger(load_settings(home=tmp_path)) as ledger:
        engine = Engine(ledger, router, tmp_path)
        engine.texts(*KEYS)
        router.set(hold=True)
        drain = engine.beside(engine.drain, deep_concurrency=3)
        wait_for(lambda: router.log()["open"] == 3, "3 open calls")
        stop_postgres(home)
        ensure_embedded_elsewhere(home)
        Path(".env").write_text(f"OFFLOAD_POSTGRES_URL={elsewhere(ledger.conninfo)}\n")
        router.set(hold=False)
        summary = drain.result(PATIENCE_SECONDS)
        assert (summary.done, summary.failed, summary.left) == (6, 0, 0)
        assert ledger.conninfo == normalised(elsewhere(ledger.conninfo))
        assert len(engine.asked()) == 12
        engine.pool.shutdown()


def elsewhere(url: str) -> str:
    return libpq_url({**conninfo_to_dict(url), "port": "6000"})


def ensure_embedded_elsewhere(home: Path) -> None:
    """Start the home's server at another port, as a person would start a server of their own."""
    paths = Paths(home)
    with server_lock(paths.server_lock, lambda: None) as lock:
        _start(paths, lock, WITHOUT_FSYNC | {"port": "6000"})
    url = elsewhere(_url(paths, NAME))

    def answers() -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return True
        return False

    wait_for(answers, "an answer of Postgres")


def test_another_postgres_at_the_new_address_gets_none_of_the_work(
    engine: Engine, short_folder: Path, start: Start
) -> None:
    before = engine.ledger.conninfo
    engine.ledger.run(slots.get, "deep")
    with pytest.raises(LedgerUnavailable, match="leads to another Postgres"):
        engine.ledger.move(start(short_folder / "another"))
    assert engine.ledger.conninfo == before
    assert engine.ledger.run(slots.get, "deep") is not None


@pytest.mark.usefixtures("impatient")
def test_without_an_answer_in_hand_the_ledger_gives_up_and_names_the_cause(engine: Engine, home: Path) -> None:
    with Ledger(engine.ledger.conninfo) as ledger:
        stop_postgres(home)
        with pytest.raises(
            LedgerUnavailable, match=r"Postgres stays unavailable: .*No such file.*: start Postgres if it is your own"
        ):
            ledger.run(slots.get, "deep")


@pytest.mark.usefixtures("impatient")
def test_the_reason_why_an_embedded_postgres_cannot_be_restarted_is_named(engine: Engine, home: Path) -> None:
    def revive() -> None:
        raise LedgerUnavailable("OFFLOAD_HOME /h has no space left on its disk: free some space")

    with Ledger(engine.ledger.conninfo, revive=revive) as ledger:
        stop_postgres(home)
        ledger.revive()
        with pytest.raises(LedgerUnavailable, match="no space left on its disk: free some space"):
            ledger.run(slots.get, "deep")


@pytest.mark.usefixtures("impatient")
def test_work_that_was_stopped_does_not_wait_for_postgres(engine: Engine, home: Path) -> None:
    with Ledger(engine.ledger.conninfo) as ledger:
        stop_postgres(home)
        with ledger.answer_in_hand(), pytest.raises(LedgerUnavailable):
            ledger.run(slots.get, "deep")


def test_a_full_connection_limit_is_waited_for_and_named(
    home: Path, change_timing: ChangeTiming, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dagster_offload.ledger.core.database.CONNECT_SECONDS", 0.5)
    limit = {"max_connections": "6", "reserved_connections": "0", "superuser_reserved_connections": "0"}
    url = ensure_embedded(home, options=WITHOUT_FSYNC | limit)
    with Ledger(url) as ledger:
        migrate(ledger, BUILT_IN)
    with Ledger(url) as ledger, ExitStack() as others:
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(20):
                others.enter_context(psycopg.connect(url))
        with pytest.raises(LedgerUnavailable, match="too many clients already: close other programs") as refused:
            ensure_postgres(load_settings(home="/nonexistent", postgres_url=url))
        assert "\n" not in str(refused.value)
        found: list[object] = []
        reader = threading.Thread(target=lambda: found.append(ledger.run(slots.get, "deep")))
        reader.start()
        wait_for(lambda: "raise its max_connections" in caplog.text, "the advice")
        others.close()
        reader.join(PATIENCE_SECONDS)
        assert found == [None]


def test_a_wrong_password_names_the_setting_and_is_not_shown(home: Path, start: Start) -> None:
    url = start(home)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("create role person login password 'right'")
        (home / "postgres" / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        admin.execute("select pg_reload_conf()")
    parts = {name: value for name, value in conninfo_to_dict(url).items() if name in ("host", "port", "dbname")}
    given = libpq_url({**parts, "user": "person", "password": "hunter2"})

    def wants_a_password() -> bool:
        try:
            psycopg.connect(given).close()
        except psycopg.OperationalError as error:
            return "password authentication failed" in str(error)
        return False

    wait_for(wants_a_password, "the new rules")  # Postgres reads its rules again some time after the request
    with pytest.raises(LedgerUnavailable, match=r"password authentication failed .*OFFLOAD_POSTGRES_URL") as refused:
        ensure_postgres(load_settings(home="/nonexistent", postgres_url=given))
    assert "hunter2" not in f"{refused.value!r} {refused.value.__cause__!r}"


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (psycopg.errors.DiskFull("could not extend file"), True),
        (psycopg.errors.TooManyConnections("sorry, too many clients already"), True),
        (psycopg.errors.AdminShutdown("terminating connection"), True),
        (psycopg.errors.IdleInTransactionSessionTimeout("frozen"), True),
        (psycopg.OperationalError("connection refused"), True),
        (psycopg.errors.ProgramLimitExceeded("index row too large"), False),
        (psycopg.errors.StatementTooComplex("stack depth limit exceeded"), False),
    ],
)
def test_only_errors_that_pass_are_waited_for(error: psycopg.Error, outage: bool) -> None:
    assert is_outage(error) is outage


@pytest.mark.rule("disk-2")
def test_a_statement_beyond_a_limit_of_postgres_is_raised_at_once_even_with_an_answer_in_hand(engine: Engine) -> None:
    def too_complex(_cur: object) -> None:
        raise psycopg.errors.ProgramLimitExceeded("index row size 3000 exceeds maximum")

    with (
        engine.ledger.keeping_answers(),
        engine.ledger.answer_in_hand(),
        pytest.raises(psycopg.errors.ProgramLimitExceeded),
    ):
        engine.ledger.run(too_complex)


def test_an_unknown_error_is_shown_in_its_own_words() -> None:
    assert describe_outage(psycopg.OperationalError("something else\nmore")) == "something else"


def test_a_file_that_postgres_itself_misses_is_no_reason_to_change_its_address() -> None:
    lost = 'could not open file "base/16384/16559": No such file or directory'
    assert describe_outage(psycopg.errors.UndefinedFile(lost)) == lost


def test_a_closed_ledger_neither_waits_nor_restarts_postgres(engine: Engine) -> None:
    revived = list[str]()
    ledger = Ledger(engine.ledger.conninfo, revive=lambda: revived.append("again"))
    ledger.close()
    with pytest.raises(LedgerUnavailable, match="closed its ledger"):
        ledger.run(lambda cur: cur.execute("select 1"))
    ledger.revive()
    assert revived == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("connection to server at 127.0.0.1 failed: Connection refused", True),
        ('connection to server on socket "/tmp/.s.PGSQL.5432" failed: No such file or directory', True),
        ("FATAL:  the database system is starting up", True),
        ("FATAL:  sorry, too many clients already", True),
        ('FATAL:  password authentication failed for user "ada"', False),
        ('FATAL:  database "ofload" does not exist', False),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.7"', False),
    ],
)
def test_a_postgres_that_is_down_differs_from_a_setting_that_it_refuses(message: str, expected: bool) -> None:
    assert is_down(psycopg.OperationalError(message)) is expected
