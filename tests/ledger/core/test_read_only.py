"""A Postgres that permits no writing for a while: a failover to a standby, or a disk that is nearly full."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.testing import ChangeTiming
from tests.support.ledger import Bench


def set_read_only(ledger: Ledger, is_on: str) -> None:
    """Let new sessions be read-only, or not, and end the present ones, as a change of the server does."""
    with psycopg.connect(ledger.conninfo, autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        database = sql.Identifier(str(connection.info.dbname))
        connection.execute(
            sql.SQL("alter database {} set default_transaction_read_only = {}").format(database, sql.SQL(is_on))
        )
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where pid <> pg_backend_pid() and datname = current_database()"
        )


def store(cur: Cursor) -> None:
    cur.execute("insert into pauses (slot) values ('deep')")


@pytest.mark.rule("disk-2")
def test_an_answer_is_stored_once_when_postgres_permits_writing_again(
    bench: Bench, change_timing: ChangeTiming
) -> None:
    change_timing(ledger_patience=0.5)
    set_read_only(bench.ledger, "on")
    with ThreadPoolExecutor(1) as pool, bench.ledger.keeping_answers(), bench.ledger.answer_in_hand():
        storing = pool.submit(bench.ledger.run, store)
        with pytest.raises(TimeoutError):
            storing.result(2)
        set_read_only(bench.ledger, "off")
        storing.result()
    assert len(bench.sql("select 1 from pauses")) == 1


def test_without_an_answer_in_hand_the_step_gives_up_and_says_what_ends_the_outage(
    bench: Bench, change_timing: ChangeTiming
) -> None:
    change_timing(ledger_patience=0.1)
    set_read_only(bench.ledger, "on")
    with pytest.raises(LedgerUnavailable, match="read-only transaction: make Postgres writable again"):
        bench.ledger.run(store)
