"""`doctor` against the stand-in router: what it finds, and the line to change."""

import json
import os
import socket
from pathlib import Path

import pytest

from dagster_offload.extraction import private_folder
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import slots
from dagster_offload.simulator import Router
from tests.support.cli import Call


def test_a_healthy_slot_is_examined_to_the_end(call: Call, router: Router) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    result = call("doctor")
    assert result.exit_code == 0
    assert [line.split()[1] for line in result.stdout.splitlines()[:11]] == [
        "extractor",
        "ocr",
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
    assert "named by the server itself, and as OFFLOAD_DEEP_EXPECTED_MODEL expects" in result.stdout
    assert "tokens/s" in result.stdout
    assert result.stdout.endswith("Nothing to change.\n")


@pytest.mark.parametrize(
    ("tells", "setting", "words"),
    [
        (None, None, "the server does not tell; 32,768 are used where OFFLOAD_DEEP_CONTEXT_TOKENS is not set"),
        (8_192, None, "8,192 tokens, says the server"),
        (
            262_144,
            None,
            "262,144 tokens, says the server; 32,768 are used where OFFLOAD_DEEP_CONTEXT_TOKENS is not set",
        ),
        (8_192, "4096", "4,096 tokens by OFFLOAD_DEEP_CONTEXT_TOKENS; 8,192 tokens, says the server"),
        (8_192, "16384", "lower OFFLOAD_DEEP_CONTEXT_TOKENS to 8192"),
    ],
)
def test_it_says_how_much_of_a_document_goes_into_one_request(
    call: Call, router: Router, tells: int | None, setting: str | None, words: str
) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    router.set(context_tokens=tells)
    if setting is not None:
        os.environ["OFFLOAD_DEEP_CONTEXT_TOKENS"] = setting
    result = call("doctor")
    assert result.exit_code == 0
    assert words in result.stdout


def test_a_server_that_names_its_model_is_offered_as_the_expected_one(call: Call, router: Router) -> None:
    result = call("doctor")
    assert result.exit_code == 0
    assert result.stdout.rstrip().endswith("OFFLOAD_DEEP_EXPECTED_MODEL='extractive-8bit'")


def test_an_echoed_name_is_no_proof(call: Call, router: Router) -> None:
    router.set(model="echo")
    assert "proves nothing" in call("doctor").stdout


@pytest.mark.parametrize(
    ("behaviour", "exit_code", "advice"),
    [
        ({"mode": "cold"}, 75, "the slot is away"),
        ({"api_key": "secret"}, 78, "OFFLOAD_DEEP_API_KEY"),
        ({"mode": "refuse", "status": 404}, 78, "OFFLOAD_DEEP_MODEL"),
        ({"mode": "refuse", "status": 500}, 75, "OFFLOAD_DEEP_URL"),
    ],
)
def test_a_slot_that_does_not_answer_ends_with_the_line_to_change(
    call: Call, router: Router, behaviour: dict[str, object], exit_code: int, advice: str
) -> None:
    router.set(**behaviour)
    result = call("doctor", "--json")
    assert result.exit_code == exit_code
    assert advice in json.loads(result.stdout)["advice"]


def test_before_it_waits_for_an_answer_it_says_how_long_at_most(call: Call, router: Router) -> None:
    router.set(mode="hang")
    os.environ["OFFLOAD_DEEP_READ_TIMEOUT"] = "0.5"
    result = call("doctor")
    assert result.exit_code == 75
    assert "no answer in time" in result.stdout
    assert "waits up to 0.5 s for each" in result.stderr
    assert call("doctor", "--json").stderr == ""


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({}, "off: obeyed as chat_template_kwargs"),
        ({"thinking": "obeys_effort"}, "off: obeyed as reasoning_effort none (chat_template_kwargs ignored)"),
        ({"refuses": ["chat_template_kwargs"]}, "off: obeyed as reasoning_effort none (chat_template_kwargs refused)"),
        ({"thinking": "obeys_no_think"}, "off: obeyed as /no_think"),
        ({"thinking": "always"}, "the server thinks all the same: 400 tokens"),
        ({"thinking": "always"}, "obeyed as json_schema\n"),
        ({"response_format": "honoured"}, "obeyed as json_schema\n"),
        ({"response_format": "json_object_only"}, "obeyed as json_object with schema (json_schema refused)"),
        ({"response_format": "refused"}, "the prompt alone asks for it, every answer is checked (json_schema refused"),
        ({"response_format": "ignored"}, "the prompt alone asks for it, every answer is checked (json_schema ignored"),
        ({"response_format": "blanks"}, "the answer as json_schema was cut or blank"),
        ({"response_format": "empty"}, "every answer is checked (json_schema answered with nothing"),
        ({"answers": "in_reasoning"}, "obeyed as json_schema, in its field for thinking\n"),
        ({"system_role": False}, "each stage reads the document again"),
        ({"refuses": ["max_tokens"]}, "sent as max_completion_tokens: the server refuses max_tokens"),
    ],
)
def test_it_shows_in_which_dialect_a_request_is_sent_and_why(
    call: Call, router: Router, behaviour: dict[str, object], words: str
) -> None:
    router.set(**behaviour)
    result = call("doctor")
    assert result.exit_code == 0
    assert words in result.stdout


def test_what_it_finds_out_goes_before_what_workers_found_out(call: Call, scanned: Path, router: Router) -> None:
    router.set(response_format="refused")
    assert call("drain", "--json").exit_code == 0
    router.set(response_format="honoured")  # the server was upgraded
    assert call("doctor").exit_code == 0
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger, ledger.transaction() as cur:
        (row,) = cur.execute("select dialects from slots where name = 'deep'").fetchall()
    assert row["dialects"]["findings"]["response_format"] == {"json_schema": "obeyed"}


def test_a_good_answer_makes_the_next_look_at_a_misconfigured_slot_a_trial(
    call: Call, scanned: Path, router: Router
) -> None:
    router.set(mode="refuse", status=404, health="green")
    assert call("drain", "--json").exit_code == 78
    assert call("doctor").exit_code == 78
    with Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger:
        assert not is_retry_due(ledger), "a doctor that got no answer changes nothing"
        router.set(mode="awake")
        assert call("doctor").exit_code == 0
        assert is_retry_due(ledger)
    assert call("drain", "--json").exit_code == 0


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
    ("concurrency", "behaviour", "words", "advice"),
    [
        ("1", {}, "the server does not report it; 2 made-up documents, each sent twice: 4 calls", None),
        ("1", {}, "reads a document once, also with 2 in flight", None),
        ("4", {"width": 3}, "of 4 it forgot 1", "dagster-offload slot set deep --places 3"),
        ("auto", {"width": 5}, "reads a document once, also with 4 in flight", None),
        ("8", {"width": 3, "tells_places": True}, "3, says the server", None),
        ("8", {"width": 3, "tells_places": True}, "3 made-up documents, each sent twice: 6 calls", None),
        ("2", {"width": 1}, "of 2 it forgot 1", "dagster-offload slot set deep --places 1"),
    ],
)
def test_it_finds_out_how_many_documents_the_server_keeps(
    call: Call, router: Router, concurrency: str, behaviour: dict[str, object], words: str, advice: str | None
) -> None:
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    os.environ["OFFLOAD_DEEP_CONCURRENCY"] = concurrency
    router.set(**behaviour)
    result = call("doctor")
    assert result.exit_code == 0
    assert words in result.stdout
    assert result.stdout.splitlines()[-1].endswith(advice or "Nothing to change.")


def test_nothing_at_the_port_is_told_as_such(call: Call) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        result = call("doctor", "--deep-url", f"http://127.0.0.1:{port}", "--deep-model", "m")
    assert result.exit_code == 75
    assert "connection refused" in result.stdout
    assert "correct the port in OFFLOAD_DEEP_URL" in result.stdout


def test_an_unknown_host_is_told_as_such(call: Call) -> None:
    result = call("doctor", "--deep-url", "http://no-such-host.invalid:8890", "--deep-model", "m")
    assert result.exit_code == 75
    assert "OFFLOAD_DEEP_URL: no machine is known as no-such-host.invalid" in result.stdout


def test_without_a_slot_it_says_what_to_set(call: Call) -> None:
    result = call("doctor")
    assert result.exit_code == 2
    assert "OFFLOAD_DEEP_URL=http://HOST:8890" in result.stderr


def test_it_says_why_this_machine_cannot_read_files(
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
