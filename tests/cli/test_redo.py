"""`redo` and `retry`: what is redone, and its cost first."""

import json
import os
import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from dagster_offload.drain import drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.service.home import RunningUp, hold_up_lock
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from tests.support.cli import Call, drained, scan_and_extract


@pytest.fixture
def done(scanned: Path, router: Router) -> Router:
    """Two documents whose stages are done."""
    drained()
    return router


def test_a_redo_of_a_document_shows_its_cost_and_asks_about_it_again(call: Call, done: Router) -> None:
    refused = call("redo", "letter.txt", "--stage", "summarize")
    assert refused.exit_code == 2
    assert "summarize  1 document, 1 call: about " in refused.output
    assert "add --yes" in refused.output
    before = len(done.completions())
    assert "1 marked as pending" in call("redo", "letter.txt", "--stage", "summarize", "--yes").output
    drain()
    assert len(done.completions()) == before + 1


def test_a_redo_of_several_stages_shows_the_total(call: Call, done: Router) -> None:
    shown = call("redo", "letter.txt").output
    assert re.search(r"^total      2 calls: about [\d,]+ tokens and .* of the slot's time", shown, re.MULTILINE)
    assert "total" not in call("redo", "letter.txt", "--stage", "summarize").output


def test_a_redo_as_json_says_what_it_costs_and_needs_yes(call: Call, done: Router) -> None:
    assert "--json asks nothing: add --yes" in call("redo", "letter.txt", "--json").output
    found = json.loads(call("redo", "letter.txt", "--stage", "summarize", "--yes", "--json").output)
    [stage] = found["stages"]
    assert (stage["stage"], stage["documents"], stage["calls"], found["redone"]) == ("summarize", 1, 1, 1)
    assert json.loads(call("redo", "--outdated", "--yes", "--json").output) == {"stages": [], "redone": 0}


def test_a_redo_can_be_limited_by_a_condition(call: Call, done: Router) -> None:
    assert "summarize  1 document," in call("redo", "--where", "title~minutes", "--stage", "summarize", "--yes").output
    assert "nothing to redo" in call("redo", "--where", "title~minutes", "--stage", "summarize", "--yes").output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "name documents, or choose --outdated"),
        (("--needs-ocr", "--outdated"), "takes no document, stage or condition"),
        (("missing.txt",), "no such document: missing.txt"),
        (
            ("letter.txt", "--stage", "sumarize"),
            "'sumarize' is not one of extract, classify, summarize (did you mean summarize?)",
        ),
        (("--where", "titel=x"), "did you mean title?"),
    ],
)
def test_a_redo_that_cannot_be_meant_is_refused(
    call: Call, scanned: Path, arguments: tuple[str, ...], why: str
) -> None:
    refused = call("redo", *arguments)
    assert refused.exit_code == 2
    assert why in refused.output


def test_a_retry_can_be_limited_by_the_reason(call: Call, scanned: Path, router: Router) -> None:

    with open_ledger(load_settings()) as ledger, ledger.transaction() as cur:
        cur.execute(
            "update work_items set state = 'failed', reason = case stage when 'classify' then 'no_json: no JSON object' "
            "else 'empty_answer: the answer is empty' end where stage <> 'extract'"
        )
    refused = call("retry", "--reason", "no_jsno")
    assert refused.exit_code == 2
    assert "did you mean no_json?" in refused.output
    assert "empty_answer (2), no_json (2)" in refused.output
    retried = call("retry", "--reason", "no_json: no JSON object").output
    assert "2 will be retried" in retried
    assert "summarize" not in retried


def test_a_retry_without_a_selection_says_what_failed_and_retries_nothing(
    call: Call, scanned: Path, with_ledger: str
) -> None:
    with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
        cur.execute("update work_items set state = 'failed', reason = 'no_json: no JSON' where stage = 'classify'")
    refused = call("retry")
    assert refused.exit_code == 2
    assert "--all retries all of it: 2 classify no_json" in refused.output
    assert json.loads(call("status", "--json").stdout)["stages"]["classify"]["failed"] == 2
    assert "--all retries all: leave out DOCUMENT" in call("retry", "--all", "--stage", "classify").output
    assert "2 will be retried" in call("retry", "--all").output


@pytest.mark.parametrize(
    ("pauses", "runs", "then"),
    [
        (False, False, "start `dagster-offload up`, or run `dagster-offload drain` now"),
        (False, True, "`up` starts a drain within seconds; to start one now, run `dagster-offload drain`"),
        (True, True, "waiting for deep: resting: paused since "),
    ],
)
def test_a_redo_says_what_follows_as_things_are_now(
    call: Call, done: Router, *, pauses: bool, runs: bool, then: str
) -> None:
    if pauses:
        call("pause", "deep")
    with hold_up_lock(load_settings().home) if runs else nullcontext() as lock:
        if lock is not None:
            lock.write(RunningUp(os.getpid(), "http://127.0.0.1:3000"))
        shown = call("redo", "letter.txt", "--yes").output
    assert f"marked as pending.\nclassify and summarize: {then}" in shown
    assert ("(dagster-offload resume deep)" in shown) is pauses


def test_retry_reports_that_there_is_nothing_to_retry(call: Call, scanned: Path) -> None:
    result = call("retry")
    assert result.exit_code == 0
    assert "nothing to retry" in result.stdout


def test_retry_makes_failed_work_pending(call: Call, with_ledger: str, library: Path) -> None:
    (library / "broken.pdf").write_bytes(b"%PDF-1.7 no such thing")
    scan_and_extract()
    assert json.loads(call("status", "--json").stdout)["stages"]["extract"]["failed"] == 1
    result = call("retry", "broken.pdf", "--json")
    assert json.loads(result.stdout) == {"retried": [{"document": "broken.pdf", "stage": "extract"}]}
    assert json.loads(call("status", "--json").stdout)["stages"]["extract"]["pending"] == 1


def test_retry_tries_a_document_again_that_waits_for_its_next_attempt(
    call: Call, scanned: Path, router: Router
) -> None:
    router.set(answers="garbage")
    assert "2 of them waiting for their next attempt" in call("drain", "classify").stdout
    assert "--all retries all of it: 2 waiting for the next attempt" in call("retry").output
    router.set(answers="good")
    assert "letter.txt  classify\n\n1 will be retried." in call("retry", "letter.txt").stdout
    assert "1 will be retried." in call("retry", "--all").stdout
    assert "2 done" in call("drain", "classify").stdout


def test_retry_of_an_unknown_document_is_refused(call: Call, scanned: Path) -> None:
    result = call("retry", "nothing.txt")
    assert result.exit_code == 2
    assert "no such document: nothing.txt (is it in the library, and has it been scanned?)" in result.stderr


def test_redo_shows_the_cost_and_asks_for_confirmation(call: Call, scanned: Path, router: Router) -> None:
    drained()
    assert "nothing is outdated" in call("redo", "--outdated").stdout
    os.environ["OFFLOAD_CLASSES"] = "letter,minutes"
    refused = call("redo", "--outdated")
    assert refused.exit_code == 2
    assert "classify   2 documents, 2 calls: about " in refused.output
    assert json.loads(call("status", "--json").stdout)["stages"]["classify"]["outdated"] == 2
    assert call("redo", "--outdated", "--yes").exit_code == 0
    assert json.loads(call("status", "--json").stdout)["stages"]["classify"]["pending"] == 2


def test_redo_without_an_option_is_wrong_usage(call: Call) -> None:
    assert call("redo").exit_code == 2
