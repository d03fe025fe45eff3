"""What is said about an outage if its end and late failures come in any order."""

import logging
import time

import pytest

from dagster_offload.ledger.core.outage import POOL_NAME, Outage


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def fail(outage: Outage, began: float | None = None) -> None:
    outage.report("db:5432", lambda: "connection refused", "retrying", time.monotonic() if began is None else began)


def test_a_failure_of_an_attempt_that_began_before_the_outage_ended_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage, early = Outage(), time.monotonic()
    fail(outage)
    outage.end(time.monotonic())
    fail(outage, early)
    assert said(caplog) == ["Postgres is unavailable at db:5432 (connection refused); retrying"]


def test_the_next_outage_is_said_if_the_last_one_ended_while_its_cause_was_looked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage()

    def ends_meanwhile() -> str:
        outage.end(time.monotonic())
        return "connection refused"

    outage.report("db:5432", ends_meanwhile, "retrying", time.monotonic())
    fail(outage)
    assert len(said(caplog)) == 2


def test_an_outage_is_said_once_until_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    outage, before = Outage(), time.monotonic()
    fail(outage)
    outage.end(before)  # a success of an attempt that began before the failure shows nothing
    fail(outage)
    assert len(said(caplog)) == 1


def test_warnings_of_the_driver_about_connections_of_others_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "psycopg")  # a command that was called in this process leaves them out
    pool = logging.getLogger("psycopg.pool")
    pool.warning("error connecting in %r: %s", "pool-1", "refused")
    for of_ledger in (POOL_NAME, f"{POOL_NAME}-worker-0", f"<AddConnection {POOL_NAME!r} at 0x7f>"):
        pool.warning("error connecting in %r: %s", of_ledger, "refused")
    assert said(caplog) == ["error connecting in 'pool-1': refused"]
