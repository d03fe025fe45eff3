"""`sink` and `retry --sink`: what a person types, and what `status` and `explain` show of it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.simulator import Router
from tests.support.cli import Call, drained, scan_and_extract
from tests.support.sink_servers import Receiver, serving


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def hook(
    call: Call, library: Path, with_ledger: str, router: Router, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A library of two documents with records, and a pipeline file with the sink `hook`."""
    monkeypatch.setenv("OFFLOAD_DEEP_URL", router.url)
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "qwen-macbook")
    monkeypatch.setenv("HOOK_SECRET", "whsec_c2VjcmV0")
    with serving(receiver.answer) as address:
        file = Path("offload.yaml")
        file.write_text(f"on_record:\n  hook: {{webhook: '{address}/private-path', secret: '${{HOOK_SECRET}}'}}\n")
        os.environ["OFFLOAD_CONFIG"] = str(file.absolute())
        scan_and_extract()
        drained()
        yield address


def test_records_are_sent_refused_and_sent_again(call: Call, hook: str, receiver: Receiver) -> None:
    assert "new: records are sent by" in call("sink", "list").output
    receiver.refuses = lambda request: 422 if request.json["document"] == "letter.txt" else None
    sent = json.loads(call("sink", "send", "--json").output)["sinks"]["hook"]
    assert (sent["sent"], sent["refused"], sent["left"]) == (1, 1, 1)
    for _ in range(3):
        call("sink", "resume", "hook")
        call("sink", "send")
    assert "1 dead" in call("status").output
    [state] = json.loads(call("status", "--json").output)["sinks"]
    assert (state["name"], state["dead"], state["waiting"]) == ("hook", 1, 0)
    assert "HTTP 422 about detail" in " ".join(call("explain", "letter.txt").output.split())
    receiver.refuses = lambda _request: None
    assert "1 record will be sent again" in call("retry", "--sink", "hook", "letter.txt").output
    assert "hook: 1 sent, nothing waits" in call("sink", "send").output
    assert [request.json["document"] for request in receiver.got] == ["minutes.md", "letter.txt"]


def test_a_sink_that_is_down_is_named_with_its_reason_and_no_secret(call: Call, hook: str, receiver: Receiver) -> None:
    receiver.status = 503
    sent = call("sink", "send")
    assert sent.exit_code == 75
    assert "2 waiting (HTTP 503 since" in sent.output
    shown = sent.output + "".join(
        call(*command).output for command in (["status"], ["sink", "list"], ["config", "show"])
    )
    assert "private-path" not in shown
    assert "c2VjcmV0" not in shown
    assert call("sink", "test", "hook").exit_code == 75


def test_a_paused_sink_gets_nothing_until_it_is_resumed(call: Call, hook: str, receiver: Receiver) -> None:
    assert call("sink", "pause", "hook").exit_code == 0
    assert "paused" in call("sink", "send").output
    assert receiver.seen == []
    call("sink", "resume", "hook")
    assert call("sink", "send").exit_code == 0
    assert len(receiver.got) == 2


def test_a_test_sends_an_invented_sample(call: Call, hook: str, receiver: Receiver) -> None:
    assert "the address took the sample" in call("sink", "test", "hook").output
    [request] = receiver.got
    assert (request.json["event"], request.json["document"]) == ("sample", "samples/letter.txt")
    assert "webhook-signature" in request.headers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sink", "test", "hok"], "did you mean hook?"),
        (["sink", "pause", "nothing"], "the sinks are hook"),
        (["retry", "--sink", "hok"], "did you mean hook?"),
        (["retry", "--sink", "hook", "--state", "failed"], "does not go with"),
    ],
)
def test_a_mistake_is_refused(call: Call, hook: str, arguments: list[str], message: str) -> None:
    refused = call(*arguments)
    assert refused.exit_code == 2
    assert message in " ".join(refused.output.split())
