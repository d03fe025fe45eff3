"""`notify`: what a person types, and what `status` shows of it."""

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
def topic(call: Call, library: Path, with_ledger: str, router: Router, receiver: Receiver) -> Iterator[str]:
    """A library of two documents, and a pipeline file with the channel `phone`."""
    with serving(receiver.answer) as address:
        file = Path("offload.yaml")
        file.write_text(f"notify:\n  phone: {{ntfy: '{address}/my-topic', token: '${{TOPIC_TOKEN}}'}}\n")
        os.environ |= {"OFFLOAD_CONFIG": str(file.absolute()), "TOPIC_TOKEN": "tk-secret"}
        yield address


@pytest.fixture
def all_done(call: Call, topic: str) -> None:
    """The backlog is done since the channel first looked, so a message to `phone` is due."""
    assert "phone: 0 sent" in call("notify", "send").output
    scan_and_extract()
    drained()


def test_a_message_is_sent_once_without_a_running_up(call: Call, all_done: None, receiver: Receiver) -> None:
    for sent in (1, 0):
        assert f"phone: {sent} sent" in call("notify", "send").output, "what was sent now"
    assert "1 sent" in call("notify", "list").output, "what was ever sent"
    [request] = receiver.got
    assert request.headers["title"].endswith("all done")
    assert "events: done, needs_you" in " ".join(call("notify", "list").output.split())


def test_a_send_through_a_channel_that_refuses_the_token_exits_with_78_until_it_is_corrected(
    call: Call, all_done: None, receiver: Receiver
) -> None:
    receiver.status = 401
    assert call("notify", "send").exit_code == 78
    assert call("notify", "send").exit_code == 78, "the cause is the same"
    receiver.status = 200
    sent = call("notify", "send")
    assert (sent.exit_code, "phone: 1 sent" in sent.output) == (0, True), "it is tried before its wait is over"


def test_a_message_that_waits_is_in_the_status_without_the_address_or_the_token(
    call: Call, all_done: None, receiver: Receiver
) -> None:
    receiver.status = 503
    sent = call("notify", "send")
    assert sent.exit_code == 75
    shown = call("status").output
    assert "notify   phone: 0 sent; 1 waiting (HTTP 503, next try" in shown
    assert not [secret for secret in ("my-topic", "tk-secret") if secret in sent.output + shown]
    [channel] = json.loads(call("status", "--json").output)["channels"]
    assert (channel["name"], channel["waiting"]) == ("phone", 1)


def test_a_test_message_is_taken_or_the_setting_to_change_is_named(call: Call, topic: str, receiver: Receiver) -> None:
    assert json.loads(call("notify", "test", "phone", "--json").output) == {"channel": "phone", "is_taken": True}
    receiver.status = 403
    refused = call("notify", "test", "phone")
    assert (refused.exit_code, "check its token" in refused.output) == (78, True)
    assert "did you mean phone?" in call("notify", "test", "fone").output


def test_without_a_channel_the_page_is_named(call: Call, with_ledger: str) -> None:
    assert "add one under notify in the pipeline file" in call("notify", "list").output
    assert call("notify", "send").exit_code == 0


def test_a_secret_that_is_not_set_holds_up_no_other_channel_and_is_named(
    call: Call, topic: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOPIC_TOKEN")
    with Path("offload.yaml").open("a", encoding="utf-8") as file:
        file.write(f"  tablet: {{ntfy: '{topic}/my-other-topic'}}\n")
    call("notify", "send")
    for command in ("scan", "drain", "status"):
        assert call(command).exit_code == 0
    sent = call("notify", "send")
    assert (sent.exit_code, "the variable TOPIC_TOKEN is not set" in " ".join(sent.output.split())) == (2, True)
    assert [request.headers["title"][-8:] for request in receiver.got] == ["all done"]
    printed = json.loads(call("notify", "send", "--json").stdout)
    assert ("TOPIC_TOKEN" in printed["error"], [channel["sent"] for channel in printed["channels"]]) == (True, [0, 1])
    phone, tablet = json.loads(call("notify", "list", "--json").output)["channels"]
    assert (phone["waiting"], "TOPIC_TOKEN" in phone["reason"]) == (1, True)
    assert ("TOPIC_TOKEN" in phone["unset"], tablet["unset"]) == (True, None)
    assert " ".join(call("notify", "list").output.split()).count("the variable TOPIC_TOKEN is not set") == 1
