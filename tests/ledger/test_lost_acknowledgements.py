"""Postgres commits, but its confirmation is lost: every step that writes is still done once and returns the same value.

Each step runs in two equal ledgers. In one of them the connection ends between COMMIT and its confirmation.
"""

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dagster_offload.ledger.core import receipts, workers
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import slots
from dagster_offload.testing import ChangeTiming
from tests.support.database import database_url, new_database
from tests.support.ledger import SLOT, Bench
from tests.support.ledger_steps import STEPS, Step
from tests.support.wire import Wire


@pytest.fixture
def alike(postgres_url: str, ledger_template: str) -> Iterator[tuple[Bench, Bench, Wire]]:
    """Two new ledgers that each hold one slot and nothing else; the second is reached through the `Wire`.

    To truncate the tables of used ones takes three times as long.
    """
    with (
        new_database(postgres_url, ledger_template) as plain_name,
        new_database(postgres_url, ledger_template) as wired_name,
        tempfile.TemporaryDirectory(prefix="wire-", dir="/tmp") as folder,
        contextlib.closing(Wire(database_url(postgres_url, wired_name), folder)) as wire,
        Ledger(database_url(postgres_url, plain_name)) as plain,
        Ledger(wire.url) as wired,
    ):
        for ledger in (plain, wired):
            ledger.run(slots.register, SLOT)
        yield Bench(plain), Bench(wired), wire


@pytest.mark.rule("ledger-9")
@pytest.mark.parametrize("prepare", STEPS, ids=lambda prepare: prepare.__name__)
def test_a_step_whose_commit_is_not_confirmed_is_done_once(
    alike: tuple[Bench, Bench, Wire], prepare: Callable[[Bench], Step]
) -> None:
    plain, wired, wire = alike
    returned = []
    for bench in (plain, wired):
        function, arguments, options = prepare(bench)
        wire.lose_next_answer = bench is wired
        returned.append(bench.ledger.run(function, *arguments, **options))

    assert wire.lost == 1
    assert _shown(returned[1]) == _shown(returned[0])
    assert everything(wired) == everything(plain)


def test_a_step_that_was_not_committed_is_done_again(alike: tuple[Bench, Bench, Wire]) -> None:
    _, bench, _ = alike
    attempts = []

    def killed_before_its_commit(cur: Any) -> int:
        attempts.append(workers._register(cur, "drain", (), None))
        if len(attempts) == 1:
            bench.sql("select pg_terminate_backend(%s)", cur.connection.info.backend_pid)
        return attempts[-1]

    worker = bench.ledger.run(killed_before_its_commit)

    assert len(attempts) == 2
    assert [row["worker_id"] for row in bench.sql("select worker_id from workers")] == [worker]


def test_a_step_frozen_until_postgres_ended_its_transaction_is_done_again(
    bench: Bench, change_timing: ChangeTiming
) -> None:
    change_timing(ledger_patience=0.05)
    worker, lives = bench.worker(), []

    def frozen_once(cur: Any) -> None:
        lives.append(workers.lock_alive(cur, worker))
        if len(lives) == 1:
            cur.execute("set local idle_in_transaction_session_timeout = '100ms'")
            while bench.sql("select 1 from pg_stat_activity where pid = %s", cur.connection.info.backend_pid):
                pass
            bench.die(worker)
        cur.execute("select 1")

    bench.ledger.run(frozen_once)

    assert lives == [True, False]


def test_there_is_one_receipt_per_thread_and_old_ones_are_removed(bench: Bench) -> None:
    def write_three_times() -> None:
        for _ in range(3):
            bench.worker()

    for _ in range(2):
        thread = threading.Thread(target=write_three_times)
        thread.start()
        thread.join()
    assert len(bench.sql("select author from receipts where step = 3")) == 2

    bench.sql("update receipts set left_at = left_at - make_interval(mins => %s)", receipts.KEPT_MINUTES + 1)
    bench.worker()
    assert len(bench.sql("select author from receipts")) == 1


def tables_of(bench: Bench) -> dict[str, str]:
    """The ledger's tables, each with its columns that do not differ: without times, and the order of a step's transitions."""
    rows = bench.sql(
        "select c.table_name as name, string_agg(quote_ident(column_name), ',' order by ordinal_position) as columns "
        "from information_schema.columns c join information_schema.tables t using (table_schema, table_name) "
        "where table_schema = current_schema() and table_type = 'BASE TABLE' "
        "and table_name not in ('migrations', 'applied_sql', 'stages') "
        "and data_type not like 'timestamp%' and (c.table_name, column_name) <> ('transitions', 'transition_id') group by 1"
    )
    return {row["name"]: row["columns"] for row in rows}


def everything(bench: Bench) -> dict[str, list[str]]:
    """The contents of all tables except the receipts."""
    return {
        name: sorted(repr(tuple(row.values())) for row in bench.sql(f"select {columns} from {name}"))  # noqa: S608 - constant names
        for name, columns in tables_of(bench).items()
        if name != "receipts"
    }


def _shown(returned: object) -> str:
    """The return value of a step, without a slot's times."""
    fields = {
        name: value for name, value in getattr(returned, "__dict__", {}).items() if not name.endswith(("_at", "_since"))
    }
    return repr(fields or returned)
