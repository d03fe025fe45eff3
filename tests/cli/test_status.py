"""`status` over a real ledger: counts, the slot, long documents, the pipeline in force, and what needs a person."""

import json
import os
from pathlib import Path

import pytest

from dagster_offload.drain import drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.pipelines import announce
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import permits, slots
from dagster_offload.service.home import RunningUp, hold_up_lock
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.pipeline import pipeline_of
from dagster_offload.testing import ChangeTiming
from tests.faults.acts import writes
from tests.faults.raw_server import ALIAS, Hits, RawServer
from tests.support.cli import Call, drained

NOTHING = {
    "in_back_off": 0,
    "not_applicable": 0,
    "pending": 0,
    "claimed": 0,
    "deferred": 0,
    "done": 0,
    "failed": 0,
    "quarantined": 0,
    "outdated": 0,
}


def test_status_of_an_empty_ledger_is_all_zeros(call: Call, with_ledger: str) -> None:
    result = call("status", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "deep": {
            "configured": False,
            "healthy": None,
            "breaker": None,
            "reason": "OFFLOAD_DEEP_URL is not set",
            "retry_at": None,
            "in_reserve_for": [],
        },
        "slots": {},
        "library": None,
        "up": None,
        "workers": [],
        "rests": [],
        "holds": [],
        "wakes": None,
        "in_work": [],
        "stopped_sensors": [],
        "has_scanned": False,
        "failed_scan": None,
        "next_attempts": [],
        "problems": [],
        "problem_groups": [],
        "stages": {"extract": NOTHING, "classify": NOTHING, "summarize": NOTHING},
        "events_pending": 0,
        "concurrency": None,
        "estimate": {
            "tokens_per_second": None,
            "documents_per_hour": None,
            "slot_hours_left": None,
            "done_at": None,
            "note": "speed not known: the slot answered no call in the last two weeks",
            "held_hours": None,
        },
        "last_drain": None,
        "long_documents": [],
        "long_documents_ahead": [],
        "needs_ocr": 0,
        "pipeline": None,
        "ocr": {"documents": 0, "pages": 0, "pages_per_minute": None, "hours": None},
        "backups": [],
        "disk": None,
        "doubtful": [],
        "doubtful_groups": [],
        "corrections_for_review": 0,
        "sinks": [],
        "channels": [],
    }


@pytest.mark.rule("disk-1")
def test_status_and_doctor_name_the_disk_that_is_too_full(
    call: Call, ledger_url: str, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An embedded Postgres in every respect but one: it is the session's server.
    monkeypatch.setattr("dagster_offload.ledger.core.opening.ensure_postgres", lambda _settings: ledger_url)
    monkeypatch.setattr("dagster_offload.ledger.core.opening.has_embedded", lambda _home: True)
    assert json.loads(call("status", "--json").stdout)["disk"]["problem"] is None
    assert "OFFLOAD_MIN_FREE_DISK" not in call("status").stdout
    os.environ["OFFLOAD_MIN_FREE_DISK"] = "1EiB"
    disk = json.loads(call("status", "--json").stdout)["disk"]
    assert disk["free_bytes"] < disk["needed_bytes"]
    assert "free some space or lower the setting" in disk["problem"]
    assert "of OFFLOAD_MIN_FREE_DISK, so no work is started" in call("status").stdout
    result = call("doctor")
    assert "no  disk" in result.stdout
    assert "OFFLOAD_MIN_FREE_DISK" in result.stdout.splitlines()[-1]


@pytest.mark.rule("pipeline-5")
def test_status_says_that_the_library_is_missing_and_what_to_do(call: Call, with_ledger: str, tmp_path: Path) -> None:
    library = tmp_path / "library"
    os.environ["OFFLOAD_LIBRARY"] = str(library)
    problem = (
        "cannot be listed: no such file or directory. "
        "Mount it, or set library.path (OFFLOAD_LIBRARY) to the folder of documents"
    )
    assert json.loads(call("status", "--json").stdout)["library"] == {"path": str(library), "problem": problem}
    assert f"library  {library} {problem}" in call("status").stdout.splitlines()
    library.mkdir()
    assert json.loads(call("status", "--json").stdout)["library"] == {"path": str(library), "problem": None}
    assert f"library  {library}" in call("status").stdout.splitlines()


def test_status_probes_the_slot_and_registers_nothing(call: Call, with_ledger: str, router: Router) -> None:
    router.set(mode="cold")
    found = json.loads(call("status", "--json").stdout)["deep"]
    assert found == {
        "configured": True,
        "healthy": False,
        "breaker": "closed",
        "reason": "upstream_cold",
        "retry_at": None,
        "in_reserve_for": [],
    }
    assert "has no slot" in call("slot", "show").stdout


@pytest.mark.rule("slot-12")
def test_a_slot_that_answers_no_health_request_during_a_call_is_busy(
    call: Call, scanned: Path, router: Router, change_timing: ChangeTiming
) -> None:
    change_timing(probe_limit=0.2)
    settings = load_settings()
    router.set(health="hang")
    with open_ledger(settings) as ledger, Worker(ledger, "drain") as worker:
        deep = settings.slots.deep
        assert deep is not None
        ledger.run(slots.register, deep)
        assert not json.loads(call("status", "--json").stdout)["deep"]["healthy"]
        ledger.run(permits.acquire, DEEP, worker.id, is_person=False)
        found = json.loads(call("status", "--json").stdout)["deep"]
        assert found["healthy"]
        assert found["reason"].startswith("busy, 1 of our calls open")
        assert "busy, 1 of our calls open" in call("status").stdout


def test_status_shows_what_is_waiting_and_why(call: Call, scanned: Path) -> None:
    result = call("status")
    assert result.exit_code == 0
    assert "4 work items waiting: no deep slot is configured" in result.stdout


def test_status_shows_the_speed_of_the_slot_and_the_tokens_of_the_last_drain(
    call: Call, scanned: Path, router: Router
) -> None:
    router.set(latency=0.05)
    drained()
    found = json.loads(call("status", "--json").stdout)
    assert found["last_drain"]["calls"] == 4
    assert found["last_drain"]["cached"] > 0
    assert found["last_drain"]["written"] > 0
    assert found["estimate"]["documents_per_hour"] > 0
    assert found["estimate"]["slot_hours_left"] == 0
    assert found["concurrency"] == {
        "concurrency": 1,
        "permits": 1,
        "prompt_cache_size": None,
        "is_auto": False,
        "found": None,
    }
    shown = call("status").stdout
    assert "documents an hour" in shown
    read = "{read:,} read, {cached:,} more from the server's cache, {written:,} written".format(**found["last_drain"])
    assert f"tokens   last drain: {read}\n" in shown


def test_status_shows_no_tokens_if_the_last_drain_used_none(call: Call, scanned: Path, router: Router) -> None:
    router.set(mode="refuse", status=400)
    drain()
    assert json.loads(call("status", "--json").stdout)["last_drain"]["calls"] > 0
    assert "tokens   " not in call("status").stdout


def test_status_and_explain_show_the_progress_of_a_long_document(call: Call, scanned: Path, with_ledger: str) -> None:
    with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
        cur.execute(
            "update work_items set parts_done = 37, parts_total = 400, part_sizes = '[[0, 1000]]' "
            "where stage = 'summarize' and document_id = (select document_id from documents where key = 'letter.txt')"
        )
    read = {"document": "letter.txt", "stage": "summarize", "state": "pending", "done": 37, "total": 400}
    assert json.loads(call("status", "--json").stdout)["long_documents"] == [read]
    assert "letter.txt  summarize pending: 37 of 400 parts" in call("status").stdout
    assert "pending, 37 of 400 parts" in call("explain", "letter.txt").stdout


@pytest.mark.rule("drain-10")
def test_the_time_of_the_next_check_is_shown_only_while_a_process_makes_it(
    call: Call, scanned: Path, router: Router
) -> None:
    router.set(mode="cold")
    assert drain().is_slot_unavailable
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        cur.execute("update slots set retry_at = clock_timestamp() + interval '1 hour'")  # not due on a slow machine
    alone = call("status").stdout
    assert "; next check" not in alone
    assert "`dagster-offload drain` or `up` checks it again" in alone
    assert "up       does not run" in alone
    assert "start `dagster-offload up`" in call("drain").stdout
    home = load_settings().home
    with hold_up_lock(home) as lock:
        assert "up       starts (process" in call("status").stdout
        lock.write(RunningUp(os.getpid(), "http://127.0.0.1:3000"))
        beside_up = call("status").stdout
        assert "; next check" in beside_up
        assert "up       runs, UI at http://127.0.0.1:3000" in beside_up
        assert json.loads(call("status", "--json").stdout)["up"]["address"] == "http://127.0.0.1:3000"
        assert "`up` checks it again at" in call("drain").stdout
        assert "now" not in call("slot", "show").stdout.split()
        assert call("slot", "set", "deep", "--try-again").exit_code == 0
        output = call("status").stdout
        assert "now" in call("slot", "show").stdout.split()
    assert "; `up` checks it every few seconds" in output
    assert "; next check" not in output
    assert "by `drain` or `up`" in " ".join(call("slot", "show").stdout.split())


def test_status_counts_what_is_in_work_and_what_waits_for_its_next_attempt(
    call: Call, scanned: Path, router: Router
) -> None:
    router.set(answers="garbage")
    drained = json.loads(call("drain", "classify", "--json").stdout)
    assert (drained["done"], drained["left"], drained["in_back_off"]) == (0, 2, 2)
    assert "2 of them waiting for their next attempt" in call("drain", "classify").stdout
    found = json.loads(call("status", "--json").stdout)
    assert found["stages"]["classify"]["in_back_off"] == 2
    assert found["stages"]["summarize"]["in_back_off"] == 0
    shown = call("status").stdout
    assert "2 work items wait for the next attempt" in shown
    assert "2 work items waiting for deep" in shown, "the two of summarize"
    with open_ledger(load_settings()) as ledger, Worker(ledger, "command"), Worker(ledger, "drain"):
        assert "working now: drain\n" in call("status").stdout


def test_a_doubtful_summary_is_shown_by_status_explain_and_records(call: Call, scanned: Path) -> None:
    loop = writes('{"summary": "' + "The heating is cold. " * 8 + '"}')
    with RawServer(loop, Hits.DOCUMENTS) as server:
        os.environ |= {"OFFLOAD_DEEP_URL": server.url, "OFFLOAD_DEEP_MODEL": ALIAS}
        assert drain("summarize").done == 2
        assert server.calls() == 4, "one more question for each"
    marks = ["longer_than_document", "repeats_itself"]
    found = json.loads(call("status", "--json").stdout)["doubtful"]
    assert {(entry["document"], entry["stage"]) for entry in found} == {
        ("letter.txt", "summarize"),
        ("minutes.md", "summarize"),
    }
    assert all("repeats_itself" in entry["marks"] and set(entry["marks"]) <= set(marks) for entry in found)
    assert "doubtful: repeats_itself" in " ".join(call("explain", "letter.txt").stdout.split())
    records = [json.loads(line) for line in call("records", "--format", "jsonl").stdout.splitlines()]
    assert ["repeats_itself" in record["doubtful"] for record in records] == [True, True]


def test_status_and_redo_report_a_lost_slot(call: Call, scanned: Path, router: Router) -> None:
    drained()
    del os.environ["OFFLOAD_DEEP_URL"]
    assert "this ledger has a deep slot" in call("status").stdout
    result = call("redo", "--outdated")
    assert result.exit_code == 2
    assert "dagster-offload slot forget deep" in result.stderr


def test_results_that_the_running_up_made_are_not_outdated_where_its_slot_is_not_configured(
    call: Call, scanned: Path, router: Router
) -> None:
    drained()
    settings = load_settings()
    del os.environ["OFFLOAD_DEEP_URL"]
    with open_ledger(settings) as ledger, Worker(ledger, "up") as worker:
        ledger.run(announce, worker.id, pipeline_of(settings), "/own/offload.yaml")
        shown, found = call("status").stdout, json.loads(call("status", "--json").stdout)
    assert "stages.classify.slots is unset here and deep there" in found["pipeline"]["differs_here"]
    assert "redo --outdated" not in shown
    assert {stage: counts["outdated"] for stage, counts in found["stages"].items()} == dict.fromkeys(found["stages"], 0)


def test_status_shows_the_pipeline_of_the_running_up_and_what_differs_here(
    scanned: Path, router: Router, call: Call
) -> None:
    settings = load_settings()
    with open_ledger(settings) as ledger, Worker(ledger, "up") as worker:
        ledger.run(announce, worker.id, pipeline_of(load_settings(classes="tax")), "/own/offload.yaml", "3:5: no key")
        found = json.loads(call("status", "--json").stdout)["pipeline"]
        shown = call("status").stdout
    assert found == {
        "file": "/own/offload.yaml",
        "edit_not_in_force": "3:5: no key",
        "differs_here": "stages.classify.classes is invoice, letter, contract, report, minutes, manual, article, form, other "
        "here and tax there (classify)",
    }
    assert "The last edit of the settings is not in force: 3:5: no key" in shown
    assert "differ from those of the running `up`" in shown


def test_status_does_not_announce_a_drain_for_work_that_waits_for_its_next_try(
    call: Call, scanned: Path, router: Router
) -> None:
    assert call("drain", "classify").exit_code == 0
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        cur.execute(
            "update work_items set state = 'deferred', deferred_slot = 'deep', not_before = now() + interval '9 days', "
            "deferred_epoch = (select epoch from slots) where stage = 'summarize'"
        )
    shown = " ".join(call("status").stdout.split())
    assert "2 work items waiting for deep: none is due now (dagster-offload explain DOCUMENT)" in shown
    assert "in 9.0 days" in " ".join(call("explain", "letter.txt").stdout.split())


def test_status_says_that_work_waits_for_the_end_of_a_pause_though_the_slot_is_away_too(
    call: Call, scanned: Path, router: Router
) -> None:
    call("pause", "deep")
    router.stop()
    shown = " ".join(call("status").stdout.split())
    assert "4 work items waiting for deep: until `dagster-offload resume deep`" in shown


@pytest.mark.rule("disk-1")
def test_work_that_waits_for_free_space_says_so(
    call: Call, scanned: Path, with_ledger: str, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An embedded Postgres in every respect but one: it is the session's server.
    monkeypatch.setattr("dagster_offload.ledger.core.opening.ensure_postgres", lambda _settings: with_ledger)
    monkeypatch.setattr("dagster_offload.ledger.core.opening.has_embedded", lambda _home: True)
    monkeypatch.delenv("OFFLOAD_POSTGRES_URL")
    os.environ["OFFLOAD_MIN_FREE_DISK"] = "1EiB"
    shown = " ".join(call("status").stdout.split())
    assert "of OFFLOAD_MIN_FREE_DISK, so no work is started" in shown
    assert "4 work items waiting until the disk has enough free space" in shown
    explained = " ".join(call("explain", "letter.txt").stdout.split())
    assert "classify and summarize wait for free space: the disk of " in explained
