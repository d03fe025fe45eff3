"""History that is too old or too long is removed in batches. Work, and what it depends on, stays."""

import pytest

from dagster_offload.ledger.core import pipelines, workers
from dagster_offload.ledger.reports.explanation import explain
from dagster_offload.ledger.retention import history
from dagster_offload.ledger.retention.history import Kept, purge_history
from dagster_offload.ledger.slots import slots
from dagster_offload.slot.config import SlotConfig
from dagster_offload.stages.graph import CLASSIFY
from dagster_offload.stages.pipeline import Pipeline
from tests.support.ledger import Bench

KEPT = Kept(days=365, rows=10_000_000)
LONG_AGO = "clock_timestamp() - interval '2 years'"
TABLES = ("calls", "transitions", "outbox", "scans", "workers")


def counts(bench: Bench) -> dict[str, int]:
    return {table: len(bench.sql(f"table {table}")) for table in TABLES}


def a_year_of_work(bench: Bench) -> int:
    """Two documents that are done, with everything that their work left behind. Returns a worker that holds a third."""
    bench.extracted("a.txt", "b.txt", "held.txt")
    worker = bench.worker()
    for key in ("a.txt", "b.txt"):
        claim = bench.hold(worker, keys=[key])
        for item in claim.items:
            bench.finish(worker, claim, item)
    bench.hold(worker, keys=["held.txt"])
    bench.sql("insert into scans default values")
    bench.sql("update outbox set told_at = clock_timestamp()")
    return worker


def make_old(bench: Bench) -> None:
    for table, column in (
        ("calls", "ended_at"),
        ("transitions", "at"),
        ("outbox", "told_at"),
        ("scans", "started_at"),
        ("workers", "ended_at"),
    ):
        bench.sql(f"update {table} set {column} = {LONG_AGO} where {column} is not null")  # noqa: S608 - our own names


@pytest.mark.rule("keep-1")
def test_old_history_is_removed_and_work_and_results_stay(bench: Bench) -> None:
    worker = a_year_of_work(bench)
    scanner = bench.sql("select min(worker_id) as id from workers")[0]["id"]
    bench.ledger.run(workers._deregister, scanner)
    make_old(bench)
    before = bench.sql("select * from work_items order by item_id")
    results = bench.sql("select * from results order by result_id")
    assert purge_history(bench.ledger, KEPT, seconds=60)
    assert counts(bench) == {"calls": 0, "transitions": 0, "outbox": 0, "scans": 0, "workers": 1}
    assert bench.sql("select * from work_items order by item_id") == before
    assert bench.sql("select * from results order by result_id") == results
    assert bench.sql("select worker_id from workers") == [{"worker_id": worker}]
    explained = bench.ledger.run(explain, "a.txt")
    assert explained is not None
    assert explained.transitions == []


@pytest.mark.rule("keep-1")
def test_recent_history_stays(bench: Bench) -> None:
    a_year_of_work(bench)
    before = counts(bench)
    assert purge_history(bench.ledger, KEPT, seconds=60)
    assert counts(bench) == before


def test_an_event_that_is_not_reported_yet_stays_however_old_it_is(bench: Bench) -> None:
    a_year_of_work(bench)
    bench.sql("update outbox set told_at = null, created_at = clock_timestamp() - interval '2 years'")
    before = counts(bench)["outbox"]
    assert purge_history(bench.ledger, KEPT, seconds=60)
    assert counts(bench)["outbox"] == before


def test_events_that_are_not_reported_hide_no_reported_ones(bench: Bench) -> None:
    a_year_of_work(bench)
    make_old(bench)
    first, *others = bench.sql("select event_id from outbox order by 1")
    assert others
    bench.sql("update outbox set told_at = null where event_id = %s", first["event_id"])
    assert purge_history(bench.ledger, KEPT, seconds=60, batch=1)
    assert bench.sql("select event_id from outbox") == [first]


@pytest.mark.rule("keep-1")
def test_calls_and_changes_of_state_are_limited_by_their_number_too(bench: Bench) -> None:
    a_year_of_work(bench)
    newest = bench.sql("select max(call_id) as id from calls")[0]["id"]
    assert purge_history(bench.ledger, Kept(days=365, rows=2), seconds=60)
    assert [row["call_id"] for row in bench.sql("select call_id from calls order by 1")] == [newest - 1, newest]
    assert counts(bench)["transitions"] == 2


def test_a_purge_works_in_batches_and_goes_on_where_the_last_one_stopped(bench: Bench) -> None:
    a_year_of_work(bench)
    make_old(bench)
    first = counts(bench)["calls"]
    assert first > 1
    assert not purge_history(bench.ledger, KEPT, seconds=-1, batch=1)
    assert counts(bench)["calls"] == first - 1
    assert purge_history(bench.ledger, KEPT, seconds=60, batch=1)
    assert counts(bench)["calls"] == counts(bench)["transitions"] == 0


def test_a_worker_that_is_alive_or_holds_work_stays(bench: Bench) -> None:
    worker = a_year_of_work(bench)
    bench.sql("update workers set ended_at = clock_timestamp() - interval '2 years' where worker_id = %s", worker)
    assert purge_history(bench.ledger, KEPT, seconds=60)
    assert bench.sql("select worker_id from workers where worker_id = %s", worker)
    assert bench.state("held.txt", CLASSIFY) == "claimed"


def test_upkeep_is_due_once_a_day(bench: Bench) -> None:
    assert bench.ledger.run(history.is_due, "history")
    bench.ledger.run(history.mark_done, "history")
    assert not bench.ledger.run(history.is_due, "history")
    assert bench.ledger.run(history.is_due, "runs")
    bench.sql("update upkeep set done_at = done_at - interval '25 hours'")
    assert bench.ledger.run(history.is_due, "history")


@pytest.mark.rule("keep-1")
def test_the_availability_of_a_removed_slot_is_removed_and_the_present_state_of_another_stays(bench: Bench) -> None:
    for name in ("here", "removed"):
        bench.ledger.run(slots.register, SlotConfig(name, "http://host:1", "model"))
    bench.sql("update slots set breaker = 'open', opened_at = clock_timestamp()")
    assert bench.ledger.run(slots.forget, "removed")
    bench.sql("update availability set since = since - interval '2 years'")
    assert purge_history(bench.ledger, KEPT, seconds=60)
    assert bench.sql("select slot, is_available from availability where slot in ('here', 'removed')") == [
        {"slot": "here", "is_available": False}
    ]


@pytest.mark.rule("keep-1")
def test_an_up_that_ended_long_ago_is_removed_with_what_it_worked_with(bench: Bench) -> None:
    worker = bench.worker()
    bench.ledger.run(pipelines.announce, worker, Pipeline({}, {}, "1.0"), None)
    bench.ledger.run(workers._deregister, worker)
    make_old(bench)
    assert purge_history(bench.ledger, KEPT, seconds=60)
    assert (counts(bench)["workers"], bench.sql("table pipelines")) == (0, [])


def test_no_table_keeps_old_history_from_being_removed(bench: Bench) -> None:
    references = bench.sql(
        "select conrelid::regclass::text as by, confrelid::regclass::text as kept from pg_constraint "
        "where contype = 'f' and confdeltype = 'a' and connamespace = current_schema()::regnamespace"
    )
    purged = {table.name: table for table in history.TABLES}
    blocking = [
        row for row in references if row["kept"] in purged and f"from {row['by']} " not in purged[row["kept"]].is_old
    ]
    assert blocking == []
