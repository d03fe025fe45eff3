"""`status` shows what happens now: work, next attempts, sensors that are off. It fits the terminal, and watches."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_offload.drain import drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.work import claims
from dagster_offload.service.home import RunningUp, hold_up_lock
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from dagster_offload.stages.catalog import recipes
from tests.support.cli import Call, drained, scan_and_extract

OWN = """\
stages:
  payment:
    prompt: What must be paid?
    when: {classify: {category: [invoice]}}
    answer: {amount: number?}
"""


def test_documents_in_work_are_shown_with_their_worker(call: Call, scanned: Path) -> None:
    settings = load_settings()
    with open_ledger(settings) as ledger, Worker(ledger, "drain") as worker:
        ledger.run(claims.take, worker.id, ["classify", "summarize"], recipes(settings), count=1)
        (found,) = json.loads(call("status", "--json").stdout)["in_work"]
        assert (found["document"], found["stages"], found["worker"]) == (
            "letter.txt",
            ["classify", "summarize"],
            "drain",
        )
        assert "letter.txt  classify, summarize, by a drain since " in call("status").stdout


def test_a_call_that_is_open_far_longer_than_usual_is_named_with_its_age_and_its_limit(
    call: Call, scanned: Path, router: Router
) -> None:
    assert drain("classify").done == 2
    settings = load_settings()
    with open_ledger(settings) as ledger, Worker(ledger, "drain") as worker:
        (claim,) = ledger.run(claims.take, worker.id, ["summarize"], recipes(settings), count=1)
        with ledger.transaction() as cur:
            cur.execute("update calls set seconds = 20, ended_at = ended_at - interval '1 hour'")
        assert "no answer" not in call("status").stdout
        with ledger.transaction() as cur:
            cur.execute("update work_items set claimed_at = claimed_at - interval '9 minutes' where state = 'claimed'")
        said = " ".join(call("status").stdout.split())
        assert (
            "no answer for 9 min (the last calls took at most 20 s), and its call ends after 15 min "
            "(OFFLOAD_DEEP_READ_TIMEOUT) at the latest"
        ) in said
        with ledger.transaction() as cur:  # a part of it was answered now
            cur.execute("update calls set ended_at = clock_timestamp() where document_id = %s", [claim.document_id])
        assert "no answer" not in call("status").stdout
        (found,) = json.loads(call("status", "--json").stdout)["in_work"]
        assert 0 <= found["unanswered_seconds"] < 540
        assert found["longest_call"] == 20


def test_next_attempts_are_shown_with_their_time_and_reason(call: Call, scanned: Path, router: Router) -> None:
    router.set(answers="garbage")
    drain("classify")
    first, _second = json.loads(call("status", "--json").stdout)["next_attempts"]
    assert (first["stage"], first["attempts"]) == ("classify", 1)
    assert first["at"]
    assert f"  {first['document']}  classify: " in call("status").stdout
    assert ", after 1 attempt: " in call("status").stdout


def test_sensors_that_a_person_turned_off_are_shown(call: Call, scanned: Path, with_ledger: str) -> None:
    from dagster_offload.defs.instance import create_tables

    assert json.loads(call("status", "--json").stdout)["stopped_sensors"] == []
    with Ledger(with_ledger) as ledger:
        create_tables(ledger.conninfo)
        with ledger.transaction() as cur:
            for name, state in (("drain_sensor", "STOPPED"), ("library_sensor", "DECLARED_IN_CODE")):
                # The form in which Dagster 1.13 stores it, shortened.
                body = json.dumps({"__class__": "InstigatorState", "origin": {"job_name": name}})
                cur.execute(
                    "insert into offload_dagster.instigators (selector_id, repository_selector_id, status, "
                    "instigator_type, instigator_body) values (%s, 'r', %s, 'SENSOR', %s)",
                    [name, state, body],
                )
    assert json.loads(call("status", "--json").stdout)["stopped_sensors"] == ["drain_sensor"]
    assert "drain_sensor (no drain starts by itself)" in call("status").stdout


def test_a_document_that_a_condition_leaves_out_is_not_counted_as_done(
    call: Call, library: Path, with_ledger: str, router: Router, tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    file.chmod(0o600)
    os.environ["OFFLOAD_CONFIG"] = str(file)
    scan_and_extract()
    drained()
    payment = json.loads(call("status", "--json").stdout)["stages"]["payment"]
    assert (payment["done"], payment["not_applicable"]) == (2, 2)
    rows = [line.split() for line in call("status").stdout.splitlines()]
    assert ["payment", "-", "-", "-", "2", "-"] in rows


def test_before_the_first_scan_status_says_so(call: Call, with_ledger: str, library: Path) -> None:
    assert "No scan has ended yet" in call("status").stdout
    with hold_up_lock(load_settings().home):
        assert "`up` begins with one" in call("status").stdout


def test_status_names_the_work_that_changed_stages_wait_for(call: Call, scanned: Path) -> None:
    with hold_up_lock(load_settings().home) as lock:
        lock.write(RunningUp(os.getpid(), "http://127.0.0.1:3000", reload_waits_for="scan, run"))
        assert "shows them when the running work has ended: scan, run" in call("status").stdout


@pytest.mark.parametrize("columns", ["40", "80"])
def test_the_counts_fit_the_terminal(scanned: Path, columns: str) -> None:
    import pty

    lead, follow = pty.openpty()
    environment = {**os.environ, "COLUMNS": columns, "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "dagster_offload.cli", "status"], stdout=follow, env=environment
    ) as process:
        os.close(follow)
        shown = b""
        while chunk := _read(lead):
            shown += chunk
    assert process.returncode == 0
    assert b"\x1b[3" not in shown, "NO_COLOR"
    counts = [line for line in shown.decode().splitlines() if line.startswith(("stage", "extract", "classify"))]
    assert counts
    assert all(len(line.rstrip()) <= int(columns) for line in counts)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""


def test_a_terminal_that_is_not_utf8_gets_escapes_and_valid_json(library: Path, with_ledger: str, call: Call) -> None:
    (library / "서울 🎉.txt").write_text("text")
    scan_and_extract()
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    program = [sys.executable, "-m", "dagster_offload.cli", "explain", "서울"]
    shown = subprocess.run(program, env=environment, capture_output=True, check=True)
    assert b"\\uc11c\\uc6b8 \\U0001f389.txt" in shown.stdout
    shown = subprocess.run([*program, "--json"], env=environment, capture_output=True, check=True)
    assert json.loads(shown.stdout)["document"] == "서울 🎉.txt"


def test_watch_shows_a_change_and_ends_with_ctrl_c(scanned: Path, with_ledger: str) -> None:
    program = [sys.executable, "-m", "dagster_offload.cli", "status", "--watch"]
    with (
        Ledger(with_ledger) as ledger,
        subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        assert next(line for line in process.stdout if line.startswith("summarize"))
        with Worker(ledger, "drain"):
            assert next(line for line in process.stdout if "working now: drain" in line)
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 0
