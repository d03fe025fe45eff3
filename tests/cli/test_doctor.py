"""`doctor` with the stand-in router: its checks, and the setting it names."""

import json
import os
import socket
from pathlib import Path

import pytest

from dagster_offload.drain import drain
from dagster_offload.extraction import private_folder
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import holds, slots
from dagster_offload.simulator import Router
from dagster_offload.stages.graph import CLASSIFY
from tests.faults.acts import answers_with, says
from tests.faults.health_acts import LiteLLM, models
from tests.faults.raw_server import RawServer
from tests.support.cli import Call, drained
from tests.support.ledger import hold_stage


def test_a_healthy_slot_gets_every_check(call: Call, router: Router) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    result = call("doctor")
    assert result.exit_code == 0
    assert [line.split()[1] for line in result.stdout.splitlines()[:12]] == [
        "extractor",
        "ocr",
        "disk",
        "slot",
        "resolves",
        "connects",
        "health",
        "context",
        "model",
        "speed",
        "thinking",
        "json",
    ]
    assert "reported by the server, and matches OFFLOAD_DEEP_EXPECTED_MODEL" in result.stdout
    assert "speed        unknown: answered in" in result.stdout, "the stand-in router writes one word"
    assert result.stdout.endswith("Nothing to change.\n")


@pytest.mark.rule("pipeline-5")
def test_doctor_names_a_missing_library_and_its_exit_code_stays_that_of_the_slot(
    call: Call, router: Router, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    os.environ["OFFLOAD_LIBRARY"] = str(library)
    result = call("doctor")
    assert result.exit_code == 0
    assert f"no  library      {library} cannot be listed: no such file or directory\n" in result.stdout
    assert result.stdout.endswith("Mount it, or set library.path (OFFLOAD_LIBRARY) to the folder of documents\n")
    library.mkdir()
    assert f"ok  library      {library} can be listed\n" in call("doctor").stdout


@pytest.mark.parametrize(
    ("reported", "setting", "message"),
    [
        (None, None, "the server reports no size; 32,768 are used because OFFLOAD_DEEP_CONTEXT_TOKENS is not set"),
        (8_192, None, "the server reports 8,192 tokens"),
        (
            262_144,
            None,
            "the server reports 262,144 tokens; 32,768 are used because OFFLOAD_DEEP_CONTEXT_TOKENS is not set",
        ),
        (8_192, "4096", "4,096 tokens, set by OFFLOAD_DEEP_CONTEXT_TOKENS; the server reports 8,192 tokens"),
        (8_192, "16384", "lower OFFLOAD_DEEP_CONTEXT_TOKENS to 8192"),
    ],
)
def test_doctor_shows_how_much_of_a_document_fits_one_request(
    call: Call, router: Router, reported: int | None, setting: str | None, message: str
) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    router.set(context_tokens=reported)
    if setting is not None:
        os.environ["OFFLOAD_DEEP_CONTEXT_TOKENS"] = setting
    result = call("doctor")
    assert result.exit_code == 0
    assert message in result.stdout


def test_doctor_suggests_the_reported_model_as_the_expected_one(call: Call, router: Router) -> None:
    result = call("doctor")
    assert result.exit_code == 0
    assert result.stdout.rstrip().endswith(
        "OFFLOAD_DEEP_EXPECTED_MODEL='extractive-8bit' (answers that were made without it are outdated then)"
    )


def test_an_echoed_model_name_proves_nothing(call: Call, router: Router) -> None:
    router.set(model="echo")
    assert "proves nothing" in call("doctor").stdout


@pytest.mark.parametrize(
    ("behaviour", "exit_code", "advice"),
    [
        ({"mode": "cold"}, 75, "the slot is unavailable"),
        ({"api_key": "secret"}, 78, "OFFLOAD_DEEP_API_KEY"),
        ({"mode": "refuse", "status": 404}, 78, "the server lists qwen-macbook and refuses it"),
        ({"mode": "refuse", "status": 500}, 75, "the server explains its refusal itself"),
    ],
)
def test_doctor_names_the_setting_of_a_slot_that_does_not_answer(
    call: Call, router: Router, behaviour: dict[str, object], exit_code: int, advice: str
) -> None:
    router.set(**behaviour)
    result = call("doctor", "--json")
    assert result.exit_code == exit_code
    assert advice in json.loads(result.stdout)["advice"]


def test_doctor_names_a_certificate_file_that_cannot_be_used(call: Call, router: Router, tmp_path: Path) -> None:
    wrong = tmp_path / "router.pem"
    wrong.write_text("no certificate", encoding="utf-8")
    os.environ["OFFLOAD_DEEP_CA_FILE"] = str(wrong)
    result = call("doctor", "--deep-url", router.url.replace("http:", "https:"), "--json")
    assert result.exit_code == 78
    found = json.loads(result.stdout)
    assert found["advice"].startswith(f"OFFLOAD_DEEP_CA_FILE: {wrong} cannot be used")
    assert [check["found"] for check in found["checks"] if not check["ok"] and check["is_about_slot"]] == [
        "no request was sent",
        "no request was sent",
    ]


@pytest.mark.rule("slot-15")
def test_doctor_lists_the_names_of_a_server_that_does_not_know_the_alias(call: Call) -> None:
    refusal = says(404, {"error": {"message": "model 'qwen-macbok' not found"}})
    with RawServer(refusal, health=models("llama3:latest", "qwen-macbook")) as server:
        result = call("doctor", "--deep-url", server.url, "--deep-model", "qwen-macbok", "--json")
    assert result.exit_code == 78
    advice = json.loads(result.stdout)["advice"]
    assert advice == "set OFFLOAD_DEEP_MODEL to a name that the server lists: qwen-macbook, llama3:latest"


def test_doctor_names_the_key_that_litellm_misses(call: Call) -> None:
    with RawServer(says(500, "Internal Server Error"), health=LiteLLM("qwen-macbook")) as server:
        result = call("doctor", "--deep-url", server.url, "--deep-model", "qwen-macbook", "--json")
    assert result.exit_code == 78
    assert "set OFFLOAD_DEEP_API_KEY: LiteLLM" in json.loads(result.stdout)["advice"]


@pytest.mark.parametrize(
    ("written", "shown"),
    [(80, "tokens/s (80 in"), (63, "unknown: answered in"), (None, "reports no token counts")],
)
def test_doctor_shows_a_speed_only_if_the_answer_has_64_tokens(call: Call, written: int | None, shown: str) -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": written}
    with RawServer(answers_with(usage=usage)) as server:
        result = call("doctor", "--deep-url", server.url, "--deep-model", "qwen-macbook")
    assert shown in result.stdout


def test_doctor_and_slot_show_call_a_slot_that_was_away_unavailable(call: Call, scanned: Path, router: Router) -> None:
    """An open breaker sounds like a slot that can be used."""
    router.set(mode="cold")
    drain("classify")
    assert " unavailable " in " ".join(call("slot", "show").stdout.split())
    router.set(mode="awake")
    shown = " ".join(call("doctor").stdout.split())
    assert "backlog deep was unavailable before this check: " in shown


def test_doctor_ends_with_what_is_wrong_even_if_the_server_is_right(call: Call, scanned: Path, router: Router) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    router.set(answers="garbage")
    drain("classify")
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        cur.execute("update work_items set state = 'failed', not_before = null where stage = 'classify'")
        cur.execute("update slots set breaker = 'misconfigured', reason = 'HTTP 401', retry_at = null")
    router.set(answers="good")
    result = call("doctor")
    assert result.exit_code == 0, "the exit code is about the slot"
    shown = " ".join(result.stdout.split())
    assert "backlog deep was misconfigured before this check: HTTP 401" in shown
    assert "2 documents failed" in shown
    assert result.stdout.rstrip().endswith("dagster-offload status lists them with their reasons")


def test_doctor_ends_with_the_advice_on_the_connection_although_a_document_failed(
    call: Call, scanned: Path, router: Router
) -> None:
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        cur.execute("update work_items set state = 'failed', not_before = null where stage = 'classify'")
    router.stop()
    result = call("doctor")
    assert result.exit_code == 75
    assert "2 documents failed" in " ".join(result.stdout.split())
    assert result.stdout.endswith(
        "\n\nbacklog: dagster-offload status lists them with their reasons\n"
        "start the router on 127.0.0.1, or correct the port in OFFLOAD_DEEP_URL\n"
    )


@pytest.mark.rule("breaker-11")
def test_doctor_names_a_held_stage_and_a_document_and_leaves_the_stage_held(
    call: Call, scanned: Path, router: Router
) -> None:
    assert drain("summarize").done == 2
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger:
        hold_stage(ledger, CLASSIFY, "no_json")
        result = call("doctor")
        assert result.exit_code == 78, "as that of drain"
        shown = " ".join(result.stdout.split())
        assert "deep holds the stage classify: 2 documents in a row ended in no_json" in shown
        assert "failed in the stage classify: dagster-offload explain letter.txt shows why" in shown
        assert shown.endswith("to try it again as it is, run dagster-offload slot set deep --try-again")
        assert [hold.stage for hold in ledger.run(holds.list_holds)] == [CLASSIFY]


def test_doctor_shows_the_longest_wait_before_it_waits(call: Call, router: Router) -> None:
    router.set(mode="hang")
    os.environ["OFFLOAD_DEEP_READ_TIMEOUT"] = "0.5"
    result = call("doctor")
    assert result.exit_code == 75
    assert "no answer in time" in result.stdout
    assert "each may take up to 0.5 s" in result.stderr
    assert call("doctor", "--json").stderr == ""


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({}, "off: obeyed as chat_template_kwargs"),
        ({"thinking": "obeys_effort"}, "off: obeyed as reasoning_effort none (chat_template_kwargs ignored)"),
        ({"refuses": ["chat_template_kwargs"]}, "off: obeyed as reasoning_effort none (chat_template_kwargs refused)"),
        ({"thinking": "obeys_no_think"}, "off: obeyed as /no_think"),
        ({"thinking": "always"}, "the server still thinks: 400 tokens"),
        ({"thinking": "always"}, "obeyed as json_schema\n"),
        ({"response_format": "honoured"}, "obeyed as json_schema\n"),
        ({"response_format": "json_object_only"}, "obeyed as json_object with schema (json_schema refused)"),
        ({"response_format": "refused"}, "requested by the prompt alone, every answer is checked (json_schema refused"),
        ({"response_format": "ignored"}, "requested by the prompt alone, every answer is checked (json_schema ignored"),
        ({"response_format": "blanks"}, "the answer to json_schema was cut or blank"),
        ({"response_format": "empty"}, "every answer is checked (json_schema answered with nothing"),
        ({"answers": "in_reasoning"}, "obeyed as json_schema, in its reasoning field\n"),
        ({"system_role": False}, "each stage reads the document again"),
        ({"refuses": ["max_tokens"]}, "sent as max_completion_tokens: the server refuses max_tokens"),
    ],
)
def test_doctor_shows_the_dialect_of_requests_and_the_reason(
    call: Call, router: Router, behaviour: dict[str, object], message: str
) -> None:
    router.set(**behaviour)
    result = call("doctor")
    assert result.exit_code == 0
    assert message in result.stdout


def test_a_good_answer_makes_the_next_check_of_a_misconfigured_slot_a_trial(
    call: Call, scanned: Path, router: Router
) -> None:
    router.set(mode="refuse", status=404, health="green")
    assert drain().is_misconfigured
    assert call("doctor").exit_code == 78
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger:
        assert not is_retry_due(ledger), "without an answer, doctor changes nothing"
        router.set(mode="awake")
        assert call("doctor").exit_code == 0
        assert is_retry_due(ledger)
    drained()


def is_retry_due(ledger: Ledger) -> bool:
    row = ledger.run(slots.get, "deep")
    assert row is not None
    return row.is_retry_due


def test_a_red_health_beside_a_good_answer_names_the_health_path(call: Call, router: Router) -> None:
    router.set(health="red")
    result = call("doctor")
    assert result.exit_code == 0
    assert "OFFLOAD_DEEP_HEALTH_PATH" in result.stdout.splitlines()[-1]


def test_another_model_than_expected_is_refused(call: Call, router: Router) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "Qwen3"
    result = call("doctor")
    assert result.exit_code == 75
    assert "wrong_model" in result.stdout


@pytest.mark.parametrize(
    ("concurrency", "behaviour", "message", "advice"),
    [
        ("1", {}, "the server does not report it; 2 made-up documents, each sent twice: 4 calls", None),
        ("1", {}, "reads each document once, even with 2 in flight", None),
        ("4", {"concurrency": 3}, "it dropped 1 of 4", "dagster-offload slot set deep --prompt-cache-size 3"),
        ("auto", {"concurrency": 5}, "reads each document once, even with 4 in flight", None),
        ("8", {"concurrency": 3, "tells_cache_size": True}, "3, says the server", None),
        ("8", {"concurrency": 3, "tells_cache_size": True}, "3 made-up documents, each sent twice: 6 calls", None),
        ("2", {"concurrency": 1}, "it dropped 1 of 2", "dagster-offload slot set deep --prompt-cache-size 1"),
    ],
)
def test_doctor_measures_how_many_documents_the_prompt_cache_keeps(
    call: Call, router: Router, concurrency: str, behaviour: dict[str, object], message: str, advice: str | None
) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    os.environ["OFFLOAD_DEEP_CONCURRENCY"] = concurrency
    router.set(**behaviour)
    result = call("doctor")
    assert result.exit_code == 0
    assert message in result.stdout
    assert result.stdout.splitlines()[-1].endswith(advice or "Nothing to change.")


def test_a_port_without_a_server_is_reported(call: Call) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        result = call("doctor", "--deep-url", f"http://127.0.0.1:{port}", "--deep-model", "m")
    assert result.exit_code == 75
    assert "connection refused" in result.stdout
    assert "correct the port in OFFLOAD_DEEP_URL" in result.stdout


def test_an_unknown_host_is_reported(call: Call) -> None:
    result = call("doctor", "--deep-url", "http://no-such-host.invalid:8890", "--deep-model", "m")
    assert result.exit_code == 75
    assert "OFFLOAD_DEEP_URL: the name no-such-host.invalid cannot be resolved" in result.stdout


def test_without_a_slot_doctor_names_the_settings(call: Call) -> None:
    result = call("doctor")
    assert result.exit_code == 2
    assert "OFFLOAD_DEEP_URL=http://HOST:8890" in result.stderr


def test_doctor_explains_why_this_machine_cannot_extract_files(
    call: Call, router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("TMPDIR", str(shared))
    monkeypatch.setattr(private_folder, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("OFFLOAD_HOME", str(shared / "home"))
    result = call("doctor", "--json")
    (check,) = [check for check in json.loads(result.stdout)["checks"] if check["name"] == "extractor"]
    assert not check["ok"]
    assert f"{shared} can be written by everybody" in check["advice"]
    assert "TMPDIR" in check["advice"]
