"""A scan that failed in Dagster, as `status` and `doctor` show it."""

import json
import os
from pathlib import Path

import psycopg
import pytest

from dagster_offload.defs.instance import create_tables
from dagster_offload.service.home import RunningUp, hold_up_lock
from tests.support.cli import Call

RUN = (
    "insert into offload_dagster.runs (run_id, pipeline_name, status, run_body, update_timestamp) "
    "values (%s, 'scan', %s, '', timezone('UTC', clock_timestamp()) - make_interval(mins => %s))"
)

EVENT = (
    "insert into offload_dagster.event_logs (run_id, event, dagster_event_type, timestamp) "
    "values (%s, %s, 'STEP_FAILURE', timezone('UTC', clock_timestamp()))"
)


@pytest.fixture
def dagster(with_ledger: str) -> "psycopg.Connection[object]":
    create_tables(with_ledger)
    return psycopg.connect(with_ledger, autocommit=True)


def test_status_says_that_the_last_scan_failed_and_when_up_scans_again(
    call: Call, dagster: "psycopg.Connection[object]", tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.environ["OFFLOAD_HOME"] = str(home)
    with dagster, hold_up_lock(home) as lock:
        lock.write(RunningUp(os.getpid(), "http://127.0.0.1:3000"))
        dagster.execute(RUN, ["0123456789", "FAILURE", 4])
        said = " ".join(call("status").stdout.split())
        assert "The last scan failed at " in said
        assert "; if files still differ, the next one is at " in said
        assert " at the latest: see the log of run 01234567 in Dagster's UI" in said
        assert json.loads(call("status", "--json").stdout)["failed_scan"]["run_id"] == "0123456789"
        dagster.execute(RUN, ["another", "QUEUED", 0])
        assert "scan failed" not in call("status").stdout


def test_a_scan_that_failed_long_ago_is_not_shown(call: Call, dagster: "psycopg.Connection[object]") -> None:
    with dagster:
        dagster.execute(RUN, ["0123456789", "FAILURE", 20])
        assert json.loads(call("status", "--json").stdout)["failed_scan"] is None


@pytest.mark.usefixtures("router")
def test_doctor_names_a_scan_that_failed_and_its_exit_code_stays_that_of_the_slot(
    call: Call, dagster: "psycopg.Connection[object]"
) -> None:
    with dagster:
        dagster.execute(RUN, ["0123456789", "FAILURE", 4])
        doctor = call("doctor")
    assert doctor.exit_code == 0
    assert "run 01234567 failed at " in doctor.stdout
    assert doctor.stdout.splitlines()[-1] == "the last scan failed: see the log of run 01234567 in Dagster's UI"


@pytest.mark.usefixtures("router")
def test_status_and_doctor_say_why_a_scan_was_refused(call: Call, dagster: "psycopg.Connection[object]") -> None:
    refusal = "20 of 38 documents are gone from /library. Nothing was changed"
    failure = {"dagster_event": {"event_specific_data": {"user_failure_data": {"description": refusal}}}}
    with dagster:
        dagster.execute(RUN, ["0123456789", "FAILURE", 4])
        dagster.execute(EVENT, ["0123456789", json.dumps(failure)])
        assert f": {refusal}" in " ".join(call("status").stdout.split())
        assert json.loads(call("status", "--json").stdout)["failed_scan"]["reason"] == refusal
        assert f"the last scan failed: {refusal}" in call("doctor").stdout.splitlines()
