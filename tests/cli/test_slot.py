"""`slot` over a real ledger, and the URLs of slots in what commands print."""

import json
import os
from pathlib import Path

import pytest

from dagster_offload.cli.up import _lines
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from tests.support.cli import Call, drained


def test_slot_set_changes_a_slot_and_forget_removes_it(call: Call, scanned: Path, router: Router) -> None:
    assert call("slot", "set", "deep", "--concurrency", "4").exit_code == 2
    drained()
    assert call("slot", "set", "deep", "--concurrency", "4").exit_code == 0
    [slot] = json.loads(call("slot", "show", "--json").stdout)["slots"]
    assert (slot["name"], slot["permits"], slot["breaker"]) == ("deep", 4, "closed")
    assert "It is still configured (OFFLOAD_DEEP_URL), so" in call("slot", "forget", "deep").stdout
    assert json.loads(call("slot", "show", "--json").stdout) == {"slots": []}


def test_forget_names_the_place_in_the_pipeline_file(
    call: Call, scanned: Path, router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OFFLOAD_DEEP_URL", "OFFLOAD_DEEP_MODEL"):
        monkeypatch.delenv(variable)
    file = tmp_path / "offload.yaml"
    file.write_text(f"slots:\n  deep:\n    url: {router.url}\n    model: qwen-macbook\n")
    monkeypatch.setenv("OFFLOAD_CONFIG", str(file))
    drained()
    assert f"({file}:3:10: slots.deep.url)" in call("slot", "forget", "deep").stdout


def test_forget_is_refused_while_work_is_in_progress_at_the_slot(
    call: Call, scanned: Path, router: Router, with_ledger: str
) -> None:
    drained()
    with Ledger(with_ledger) as ledger, Worker(ledger, "drain") as worker:
        with ledger.transaction() as cur:
            cur.execute('insert into slots select (jsonb_populate_record(s, \'{"name": "removed"}\')).* from slots s')
            for slot in ("deep", "removed"):
                cur.execute("insert into permits (slot, worker_id) values (%s, %s)", [slot, worker.id])
        refused, removed = call("slot", "forget", "deep"), call("slot", "forget", "removed")
    assert (refused.exit_code, removed.exit_code) == (2, 2)
    assert "work is in progress at deep: `dagster-offload pause deep`" in refused.stderr
    assert "before the slot was removed from the settings" in removed.stderr
    assert "pause" not in removed.stderr, "it knows only the slots of the settings"
    assert "deep: forgotten." in call("slot", "forget", "deep").stdout


def test_slot_show_shows_the_dialects_of_requests_and_the_reasons(call: Call, scanned: Path, router: Router) -> None:
    router.set(system_role=False, response_format="json_object_only")
    drained()
    shown = " ".join(call("slot", "show").stdout.split())
    assert (
        "JSON is requested as json_object with schema (json_schema: refused, json_object with schema: obeyed)" in shown
    )
    assert "the document is sent as part of the user message (system message: refused)" in shown
    assert "each stage reads the document again" in shown
    [slot] = json.loads(call("slot", "show", "--json").stdout)["slots"]
    assert slot["dialects"]["document"] == {"system message": "refused"}


@pytest.mark.rule("answer-5")
def test_try_again_forgets_the_dialect(call: Call, scanned: Path, router: Router) -> None:
    router.set(response_format="json_object_only")
    drained()
    assert "is forgotten" in call("slot", "set", "deep", "--try-again").stdout
    [slot] = json.loads(call("slot", "show", "--json").stdout)["slots"]
    assert slot["dialects"] == {}


def test_slot_show_with_a_name_shows_its_last_24_hours(call: Call, scanned: Path, router: Router) -> None:
    assert call("slot", "show", "deep").exit_code == 2
    drained()
    found = json.loads(call("slot", "show", "deep", "--json").stdout)
    assert [slot["name"] for slot in found["slots"]] == ["deep"]
    assert sum(hour["calls"] for hour in found["hours"]) == 4
    assert {hour["available_share"] for hour in found["hours"]} == {1.0}
    header, present, *_ = call("slot", "show", "deep").stdout.rpartition("\n\n")[2].splitlines()
    assert " ".join(header.split()) == "hour available calls without an answer tokens/s prompt from cache"
    assert "100%" in present
    assert "no slot named 'studio'" in call("slot", "show", "studio").output


def test_slot_set_accepts_auto_and_a_prompt_cache_size(call: Call, scanned: Path, router: Router) -> None:
    drained()
    assert call("slot", "set", "deep", "--concurrency", "auto", "--prompt-cache-size", "3").exit_code == 0
    [slot] = json.loads(call("slot", "show", "--json").stdout)["slots"]
    assert (slot["permits"], slot["is_auto"]) == (1, True)
    assert (slot["prompt_cache_size"], slot["prompt_cache_size_from"]) == (3, "person")
    shown = call("slot", "show").stdout
    assert "1 (auto)" in shown
    assert "3 (set by you)" in shown
    assert call("slot", "set", "deep", "--prompt-cache-size", "auto").exit_code == 0
    [slot] = json.loads(call("slot", "show", "--json").stdout)["slots"]
    assert (slot["prompt_cache_size"], slot["prompt_cache_size_from"]) == (None, None)
    assert call("slot", "set", "deep", "--prompt-cache-size", "0").exit_code == 2
    assert call("slot", "set", "deep", "--concurrency", "many").exit_code == 2


def test_a_password_in_a_slots_url_is_never_shown(call: Call, scanned: Path, router: Router) -> None:
    os.environ["OFFLOAD_DEEP_URL"] = router.url.replace("http://", "http://me:s3cret@")
    drained()
    commands = [["status"], ["slot", "show"], ["doctor"]]
    results = [call(*command, *more) for command in commands for more in ([], ["--json"])]
    router.stop()
    results += [call("status"), call("doctor", "--json")]
    del os.environ["OFFLOAD_DEEP_URL"], os.environ["OFFLOAD_DEEP_MODEL"]
    results += [call("status"), call("status", "--json"), call("redo", "--outdated")]
    for result in results:
        assert "s3cret" not in result.output
        assert not isinstance(result.exception, Exception)
    assert router.url in results[0].output, "the rest of the URL is"
    assert f"the deep slot qwen-macbook ({router.url}) is no longer configured" in results[-1].output


def test_up_shows_the_urls_of_its_slots_without_passwords(call: Call, library: Path) -> None:
    for name in ("DEEP", "PRIMARY"):
        settings = load_settings(**{f"{name.lower()}_url": "http://me:s3cret@laptop:1", f"{name.lower()}_model": "m"})
        shown = str(list(_lines(settings, ["http://127.0.0.1:3000"])))
        assert "m at http://laptop:1" in shown
        assert "s3cret" not in shown
