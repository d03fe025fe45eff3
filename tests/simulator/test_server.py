"""The stand-in router follows its configured behaviour, logs its requests, and keeps no document's text."""

import asyncio
import contextlib
import gc
import json
import socket
import threading
import warnings
from pathlib import Path
from typing import Any

import httpx
import pytest

from dagster_offload.simulator import app, request_log
from dagster_offload.simulator.answers import answer, classification, language_of, summary
from dagster_offload.simulator.connections import ConnectionHolder
from dagster_offload.simulator.prompt_cache import PromptCaches
from dagster_offload.simulator.request_log import COMPLETIONS, RequestLog, fingerprint
from dagster_offload.simulator.script import Behaviour, Script, read_script
from dagster_offload.simulator.server import Router, listen, make_server
from tests.support.patience import PATIENCE_SECONDS

KOREAN = "회의록\n\n참석자: 김민수, 이영희. 안건은 다음 분기 예산입니다.\n예산을 10% 늘리기로 결정했습니다."


def chat(document: str | None = None, instruction: str = "hi", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": instruction}]
    if document is not None:
        messages.insert(
            0, {"role": "system", "content": f"Rules about <document>.\n\n<document>\n{document}\n</document>"}
        )
    return {"model": "qwen-macbook", "messages": messages, **more}


def ask(router: Router, body: dict[str, Any]) -> httpx.Response:
    with httpx.Client(base_url=router.url, trust_env=False, timeout=PATIENCE_SECONDS) as http:
        return http.post("/v1/chat/completions", json=body)


def test_a_completion_has_openais_format(router: Router) -> None:
    body = ask(router, chat("A letter.", "Summarize")).json()
    assert body["model"].startswith("simulated/")
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    with httpx.Client(base_url=router.url, trust_env=False, timeout=PATIENCE_SECONDS) as http:
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["qwen-macbook"]


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"5",
        b"{}",
        b'{"messages": "x"}',
        b'{"messages": []}',
        b'{"messages": [{"role": "user"}], "max_tokens": "abc"}',
        b'{"messages": [{"role": "user"}], "response_format": "json"}',
    ],
)
def test_a_malformed_request_is_refused_and_not_open_for_ever(router: Router, body: bytes) -> None:
    router.set(refuses_above=1)
    with httpx.Client(base_url=router.url, trust_env=False, timeout=PATIENCE_SECONDS) as http:
        response = http.post("/v1/chat/completions", content=body)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")
    assert (router.log()["open"], router.log()["refusals"]) == (0, 1)
    assert ask(router, chat("A letter.")).status_code == 200


def test_a_router_that_fails_ends_the_request_in_its_log(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ValueError

    monkeypatch.setattr(app, "reply_to", fails)
    assert ask(router, chat("A letter.")).status_code == 500
    assert router.log()["open"] == 0


def test_the_log_keeps_the_newest_requests_and_counts_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "MOST_KEPT", 3)
    log = RequestLog()
    for _ in range(5):
        entry = log.begin(COMPLETIONS, 0.0)
        entry.document, entry.document_tokens, entry.document_tokens_read = "a", 10, 5
        log.end(entry, 1.0, 200, "answered")
    summary = log.summary()
    assert [each["number"] for each in summary["requests"]] == [3, 4, 5]
    assert (summary["answers"], summary["document_tokens_read"], summary["document_tokens_once"]) == (5, 15, 10)


def test_the_log_holds_fingerprints_and_times_but_no_text(router: Router) -> None:
    ask(router, chat("The secret plan.", '{"summary": ...}', max_tokens=50))
    log = router.log()
    (entry,) = router.completions()
    assert entry["document"] == fingerprint("The secret plan.")
    assert (entry["stage"], entry["outcome"], entry["status"], entry["max_tokens"]) == (
        "summarize",
        "answered",
        200,
        50,
    )
    assert entry["ended"] >= entry["started"]
    assert "secret" not in json.dumps(log)


def test_the_admin_path_accepts_what_curl_sends(router: Router) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}  # the header of `curl -d`
    response = httpx.post(
        f"{router.url}/admin/state", content='{"mode": "busy"}', headers=form, trust_env=False, timeout=PATIENCE_SECONDS
    )
    assert response.json()["mode"] == "busy"
    assert ask(router, chat()).json()["error"]["type"] == "editor_busy"


@pytest.mark.parametrize("change", [{"mode": "sleepy"}, {"colour": "red"}, {"latency": "slow"}, {"concurrency": 0}])
def test_an_unknown_or_invalid_behaviour_is_refused(router: Router, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        router.set(**change)


def test_one_document_can_always_be_cut_while_others_are_answered(router: Router) -> None:
    poison = "This one cuts."
    for mark in ("one cuts", fingerprint(poison)):
        router.set(cut_documents=[mark])
        assert ask(router, chat(poison)).status_code == 502
        assert ask(router, chat("This one does not.")).status_code == 200
        assert ask(router, chat()).status_code == 200


def test_a_slot_that_becomes_unavailable_cuts_open_generations() -> None:
    with Router(hold=True) as router:
        answers: list[int] = []
        call = threading.Thread(target=lambda: answers.append(ask(router, chat()).status_code))
        call.start()
        router.wait(open=1)
        router.set(mode="cold", hold=False)
        call.join()
        assert answers == [502]
        assert ask(router, chat()).status_code == 503


def test_a_restart_keeps_port_log_and_behaviour(router: Router) -> None:
    router.set(mode="busy")
    ask(router, chat())
    port = router.port
    router.stop()
    with pytest.raises(httpx.ConnectError):
        ask(router, chat())
    router.start()
    assert router.port == port
    assert ask(router, chat()).status_code == 503
    assert len(router.completions()) == 2


def test_a_script_wakes_after_refusals_and_sleeps_after_answers() -> None:
    script: list[dict[str, Any]] = [
        {"set": {"mode": "cold"}},
        {"after_refusals": 2, "set": {"mode": "awake"}},
        {"after_answers": 1, "set": {"mode": "busy"}},
    ]
    with Router(script=script) as router:
        assert [ask(router, chat()).status_code for _ in range(5)] == [503, 503, 200, 503, 503]


def test_a_timed_step_counts_from_the_previous_step() -> None:
    steps = read_script(
        [{"after_seconds": 5, "set": {"mode": "cold"}}, {"after_seconds": 10, "set": {"mode": "awake"}}]
    )
    script = Script(steps, now=100.0)
    assert script.due_changes(104.9, 0, 0) == []
    assert script.due_changes(105.0, 0, 0) == [{"mode": "cold"}]
    assert script.due_changes(114.9, 0, 0) == []
    assert script.due_changes(200.0, 0, 0) == [{"mode": "awake"}]


@pytest.mark.parametrize(
    "content",
    ['{"set": {}}', '[{"after_seconds": 1}]', '[{"set": {"mode": "x"}}]', '[{"when": 1, "set": {}}]', "[", "3"],
)
def test_an_invalid_script_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "script.json"
    file.write_text(content)
    with pytest.raises(ValueError):
        read_script(file)


def test_refusals_carry_retry_after(router: Router) -> None:
    router.set(mode="refuse", status=429, retry_after="17")
    response = ask(router, chat())
    assert (response.status_code, response.headers["retry-after"]) == (429, "17")


def test_a_prompt_is_read_from_the_first_difference_to_the_cached_one() -> None:
    caches = PromptCaches()
    first, cached_characters = caches.take("rules document A classify", size=1)
    assert cached_characters == 0
    assert not caches.has_idle(size=1)
    caches.release(first, size=1)
    second, cached_characters = caches.take("rules document A summarize", size=1)
    assert second is first
    assert cached_characters == len("rules document A ")


def test_two_stages_at_once_read_the_document_twice() -> None:
    caches = PromptCaches()
    _, first = caches.take("rules document A classify", size=2)
    _, second = caches.take("rules document A summarize", size=2)
    assert (first, second) == (0, 0)


def test_korean_and_english_are_distinguished() -> None:
    assert language_of(KOREAN) == "ko"
    assert language_of("Minutes of the meeting with 김민수") == "en"
    assert language_of("") == "en"


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("INVOICE No. 7\nSubtotal 20, VAT 4, amount due 24.", "invoice"),
        ("Dear Ms Kim,\nthank you.\nKind regards, Lee", "letter"),
        (KOREAN, "minutes"),
        ("xyzzy", "other"),
    ],
)
def test_classes_are_chosen_by_keywords(text: str, category: str) -> None:
    classes = ["invoice", "letter", "contract", "report", "minutes", "other"]
    record = classification(text, classes)
    assert record["category"] == category
    assert 2 <= record["confidence"] <= 100


def test_the_owners_classes_are_used_even_without_a_schema() -> None:
    instruction = 'Classify. Answer {"category": one of "recipe", "poem", "other", "confidence": 0..1}.'
    body = chat("A recipe for soup. This recipe needs salt.", instruction)
    assert json.loads(answer(body["messages"], None))["category"] == "recipe"


def test_a_summary_is_extracted_from_the_document() -> None:
    record = summary(KOREAN)
    assert record["title"] == "회의록"
    assert "예산" in record["summary"]
    assert record["language"] == "ko"
    assert summary("")["summary"]


def test_health_follows_the_mode_unless_it_is_set_explicitly() -> None:
    assert Behaviour(mode="busy").is_healthy
    assert not Behaviour(mode="cold").is_healthy
    assert Behaviour(mode="cold", health="green").is_healthy
    assert not Behaviour(health="red").is_healthy


def test_an_answer_on_a_reused_connection_does_not_wait_for_an_acknowledgement() -> None:
    """Head and body are written separately. With Nagle's algorithm each answer but the first is 40 ms late."""
    with Router() as router, httpx.Client(base_url=router.url, trust_env=False, timeout=PATIENCE_SECONDS) as http:
        http.post("/v1/chat/completions", json=chat())
        sockets = [transport.get_extra_info("socket") for transport in ConnectionHolder.transports.values()]
        assert any(served.getsockname()[1] == router.port for served in sockets)
        assert all(served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for served in sockets)


@pytest.mark.parametrize("turns", range(8))
def test_a_connection_that_is_accepted_while_the_server_ends_is_closed(turns: int) -> None:
    """The server is told to end, and some turns of its loop later a client connects."""
    listening = listen("127.0.0.1", 0)
    server = make_server(app.RouterApp(Behaviour()))
    clients: list[socket.socket] = []

    def connect_after(turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(connect_after, turns - 1)
        else:
            with contextlib.suppress(ConnectionRefusedError):  # the port is closed by now
                clients.append(socket.create_connection(listening_address))

    def wait_for_the_loop() -> None:
        asyncio.get_running_loop().call_later(0.01, end_and_connect)

    def end_and_connect() -> None:
        server.end()
        connect_after(turns)

    listening_address = listening.getsockname()
    server.on_started = wait_for_the_loop
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        server.run([listening])
        for client in clients:
            client.close()
        gc.collect()
    assert not [str(warning.message) for warning in caught]
