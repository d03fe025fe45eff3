"""Deliveries in the ledger: what a look for the next one costs."""

import pytest

from dagster_offload.ledger.sinks import deliveries, sinks
from tests.support.ledger import Bench

WAITING = 2000


def with_backlog(bench: Bench) -> None:
    """A sink with many records that wait, some of which it refused."""
    bench.ledger.run(sinks.register, {"hook": "webhook"}, {"hook": False})
    bench.sql(
        "with d as (insert into documents (key, digest, size, mtime_ns, ctime_ns, inode, digested_at) "
        "  select n::text, n::text, 1, 1, 1, n, now() from generate_series(1, %s) n returning document_id) "
        "insert into deliveries (sink, document_id, version, record, not_before) "
        "select 'hook', document_id, 'v', '{}', case when document_id %% 2 = 0 then now() end from d",
        WAITING,
    )
    bench.sql("analyze")


@pytest.mark.rule("sink-2")
@pytest.mark.parametrize(
    ("state", "is_due"),
    [
        ("update sinks set not_before = now() + interval '1 hour'", False),
        ("update sinks set paused_at = now()", False),
        ("select", True),
    ],
    ids=["waits", "paused", "takes records"],
)
def test_a_look_for_the_next_delivery_reads_few_of_those_that_wait(bench: Bench, state: str, is_due: bool) -> None:
    with_backlog(bench)
    bench.sql(state)
    with bench.ledger.transaction() as cur:
        assert (deliveries.next_due(cur, "hook") is not None) == is_due
        cur.execute(
            "select seq_tup_read + idx_tup_fetch as rows from pg_stat_xact_user_tables where relname = 'deliveries'"
        )
        [read] = cur.fetchall()
    assert read["rows"] < 20, f"rows read, of {WAITING} that wait"
