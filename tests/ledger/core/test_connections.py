"""The connections of one process to the ledger: few, and those that were used last."""

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.events import outbox
from tests.support.connections import counting_ledger_connections
from tests.support.ledger import Bench


def _server_process(cur: Cursor) -> int:
    return int(fetch_one(cur, "select pg_backend_pid() as pid")["pid"])


def test_the_connection_that_was_returned_last_is_used_next(bench: Bench) -> None:
    with bench.ledger.transaction() as first, bench.ledger.transaction() as second:
        both = {_server_process(first), _server_process(second)}
    used = {bench.ledger.run(_server_process) for _ in range(4)}
    assert len(both) == 2
    assert len(used) == 1


def test_a_flusher_opens_no_connection_of_its_own(bench: Bench) -> None:
    bench.ledger.run(outbox.count_pending)
    with counting_ledger_connections() as opened:
        for _ in range(3):
            with outbox.flushing(bench.ledger) as has_lock:
                assert has_lock
    assert opened == []


def test_a_flusher_whose_connection_is_lost_loses_its_lock_and_ends_without_an_error(bench: Bench) -> None:
    with outbox.flushing(bench.ledger) as has_lock:
        assert has_lock
        bench.sql(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objsubid = 2 "
            "and database = (select oid from pg_database where datname = current_database()) "
            "and classid = hashtext('outbox')::oid"
        )
    with outbox.flushing(bench.ledger) as has_lock:
        assert has_lock
