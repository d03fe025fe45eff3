"""One ledger for all rows of the matrix, emptied between rows, and the table of promised and actual outcomes."""

import os
from collections.abc import Iterator

import pytest

from dagster_offload.ledger.core.database import Ledger
from tests.faults.played import Played
from tests.support.database import database_url, new_database
from tests.support.emptied import empty

TABLE = pytest.StashKey[list[Played]]()


@pytest.fixture
def played(request: pytest.FixtureRequest) -> list[Played]:
    return request.config.stash.setdefault(TABLE, [])


@pytest.fixture(scope="module")
def shared_ledger(postgres_url: str, ledger_template: str) -> Iterator[Ledger]:
    """One ledger for many tests: a clone for each test would take longer than the test."""
    with new_database(postgres_url, ledger_template) as name, Ledger(database_url(postgres_url, name)) as ledger:
        yield ledger


@pytest.fixture
def empty_ledger(shared_ledger: Ledger) -> Ledger:
    """The shared ledger without rows."""
    empty(shared_ledger)
    return shared_ledger


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix as a table: all rows with `make faults`, else only those that broke their promise."""
    table = terminalreporter.config.stash.get(TABLE, [])
    shown = table if os.environ.get("FAULTS_TABLE") else [row for row in table if not row.is_kept]
    if not shown:
        return
    terminalreporter.section("fault matrix")
    for row in shown:
        mark = "as promised" if row.is_kept else "BROKEN"
        terminalreporter.write_line(f"{mark:<11}  {row.row} [{row.transport}]")
        terminalreporter.write_line(f"             promised: {row.promised}")
        terminalreporter.write_line(f"             seen:     {row.seen or 'see above'}")
    kept = sum(row.is_kept for row in table)
    names = len({row.row for row in table})
    terminalreporter.write_line(f"{kept} of {len(table)} plays of {names} rows ended as promised")
