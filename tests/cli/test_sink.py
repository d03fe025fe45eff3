"""`sink` and `retry --sink`: what a person types, and what `status` and `explain` show of it."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dagster_offload.service.home import hold_up_lock
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from tests.support.cli import Call, drained, scan_and_extract
from tests.support.sink_servers import Receiver, Request, serving


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
    assert re.search(r"2 waiting \(since \d\d:\d\d: HTTP 503, next try ", sent.output)
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
    assert "hook is resumed." in call("sink", "resume", "hook").output
    assert "hook was not paused." in call("sink", "resume", "hook").output
    assert call("sink", "send").exit_code == 0
    assert len(receiver.got) == 2


def test_doctor_names_a_sink_whose_program_does_not_exist(call: Call, hook: str) -> None:
    Path("offload.yaml").write_text("on_record:\n  archive: {command: [/nowhere/archive]}\n")
    call("sink", "send")
    shown = call("doctor").stdout
    assert "archive: 2 waiting for a changed setting" in " ".join(shown.split())
    assert (
        "archive: /nowhere/archive cannot be started: No such file or directory: check its path and its mode\n" in shown
    )
    call("sink", "pause", "archive")
    assert "archive" not in call("doctor").stdout, "a person stopped it"


@pytest.mark.parametrize("change", ["pause", "remove"])
def test_a_sink_to_which_nothing_is_sent_has_no_next_try(
    call: Call, hook: str, receiver: Receiver, change: str
) -> None:
    receiver.status = 503
    call("sink", "send")
    assert "next try" in call("status").output
    if change == "pause":
        call("sink", "pause", "hook")
    else:
        Path("offload.yaml").write_text("language: English\n")
        call("sink", "send")
    shown = call("status").output
    assert "HTTP 503" in shown
    assert "next try" not in shown


def test_beside_a_running_up_send_says_that_it_sends_and_how_many_records_wait(call: Call, hook: str) -> None:
    call("sink", "pause", "hook")
    call("sink", "send")
    with hold_up_lock(load_settings().home):
        sent = call("sink", "send", "hook")
    assert (sent.exit_code, sent.stderr) == (0, "The running `up` sends them: 2 records wait now.\n")
    assert "or a running `up` sends it" in " ".join(call("sink", "send", "--help").output.split())


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


def test_a_secret_that_is_not_set_stops_only_what_sends_and_is_named(
    call: Call, hook: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOOK_SECRET")
    for command in (["status"], ["records"], ["explain", "letter.txt"], ["config", "check"]):
        assert call(*command).exit_code == 0, command
    missing = (
        "the variable HOOK_SECRET is not set: set it in the environment, or in .env in the folder in which the command runs "
        f"({Path.cwd()})"
    )
    assert f"here, {missing}" in " ".join(call("sink", "list").output.split())
    tested = call("sink", "test", "hook")
    assert (tested.exit_code, missing in " ".join(tested.output.split())) == (2, True)
    for _ in range(2):  # the second time, the sink already waits
        sent = call("sink", "send")
        assert (sent.exit_code, missing in " ".join(sent.output.split())) == (2, True)
        assert " ".join((sent.output).split()).count(missing) == 1
    assert " ".join(call("sink", "list").output.split()).count(missing) == 1
    assert missing in json.loads(call("sink", "send", "--json").stdout)["error"], "one object"
    assert receiver.seen == []
    [state] = json.loads(call("sink", "list", "--json").output)["sinks"]
    assert (state["waiting"], missing in state["reason"], missing in state["unset"]) == (2, True, True)
    assert state["reason_since"] < state["not_before"]
    checks = json.loads(call("doctor", "--json").output)["checks"]
    assert [missing in check["advice"] for check in checks if check["name"] == "sink"] == [True]
    with psycopg.connect(os.environ["OFFLOAD_POSTGRES_URL"]) as connection:  # a fault beside it
        connection.execute("update work_items set state = 'failed' where stage = 'classify'")
    assert missing in " ".join(call("doctor").stdout.split())
    monkeypatch.setenv("HOOK_SECRET", "whsec_c2VjcmV0")
    call("sink", "resume", "hook")
    assert "hook: 2 sent" in call("sink", "send").output


@pytest.mark.parametrize(("status", "exit_code"), [(503, 75), (401, 78)])
def test_a_send_exits_by_whether_the_sink_is_away_or_does_not_accept_a_setting(
    call: Call, hook: str, receiver: Receiver, with_ledger: str, status: int, exit_code: int
) -> None:
    receiver.refuses = lambda _request: status
    sent = call("sink", "send", "--json")
    assert sent.exit_code == exit_code
    assert json.loads(sent.stdout)["sinks"]["hook"]["is_misconfigured"] is (status == 401)
    with psycopg.connect(with_ledger, autocommit=True) as connection:
        connection.execute("update offload.sinks set not_before = now() + interval '1 hour'")
    again = call("sink", "send", "--json")
    assert (again.exit_code, again.stdout.count("HTTP")) == (exit_code, 1), "the cause is the same"
    with psycopg.connect(with_ledger, autocommit=True) as connection:
        connection.execute("delete from offload.deliveries")
    last = call("sink", "send", "--json")
    assert (last.exit_code, json.loads(last.stdout)["sinks"]["hook"]["waits"]) == (0, None), "nothing waits"


@pytest.mark.rule("sink-3")
def test_a_send_tries_a_sink_whose_setting_was_corrected_before_its_wait_is_over(
    call: Call, hook: str, receiver: Receiver, with_ledger: str
) -> None:
    receiver.status = 401
    assert call("sink", "send").exit_code == 78
    with psycopg.connect(with_ledger, autocommit=True) as connection:
        connection.execute("update offload.sinks set not_before = now() + interval '1 hour'")
    receiver.status = 200
    sent = call("sink", "send")
    assert (sent.exit_code, "hook: 2 sent, nothing waits" in sent.output) == (0, True)


@pytest.mark.rule("sink-3")
def test_a_send_does_not_try_a_sink_that_is_down_before_its_next_try(
    call: Call, hook: str, receiver: Receiver, with_ledger: str
) -> None:
    receiver.status = 503
    call("sink", "send")
    with psycopg.connect(with_ledger, autocommit=True) as connection:
        connection.execute("update offload.sinks set not_before = now() + interval '1 hour'")
    seen = len(receiver.seen)
    assert call("sink", "send").exit_code == 75
    assert len(receiver.seen) == seen


def test_a_send_prints_what_the_other_sinks_got_beside_the_error_of_one(
    call: Call, hook: str, receiver: Receiver
) -> None:
    with Path("offload.yaml").open("a", encoding="utf-8") as file:
        file.write(f"  other: {{webhook: '{hook}/other', secret: '${{OTHER_SECRET}}'}}\n")
    sent = call("sink", "send", "--json")
    printed = json.loads(sent.stdout)
    assert (sent.exit_code, printed["exit_code"], printed["sinks"]["hook"]["sent"]) == (2, 2, 2)
    assert "OTHER_SECRET" in printed["error"]


def test_a_refused_record_is_listed_with_its_reason_and_its_next_try(call: Call, hook: str, receiver: Receiver) -> None:
    receiver.refuses = lambda request: 422 if request.json["document"] == "letter.txt" else None
    call("sink", "send")
    assert "1 waiting; 1 of them not taken (HTTP 422 about detail, next try" in call("sink", "list").output
    [state] = json.loads(call("sink", "list", "--json").output)["sinks"]
    assert (state["refused"], state["refused_reason"]) == (1, "HTTP 422 about detail")
    assert state["refused_next"] is not None


def test_a_refused_record_that_waits_for_its_next_try_is_sent_again_by_retry(
    call: Call, hook: str, receiver: Receiver
) -> None:
    receiver.refuses = lambda request: 422 if request.json["document"] == "letter.txt" else None
    call("sink", "send")
    assert "nothing to send again: hook refused none" in call("retry", "--sink", "hook", "minutes.md").output
    receiver.refuses = lambda _request: None
    assert "hook: 0 sent, 1 waiting" in call("sink", "send").output, "another document was named, so it still waits"
    assert "1 record will be sent again by `up`" in call("retry", "--sink", "hook", "letter.txt").output
    assert "hook: 1 sent, nothing waits" in call("sink", "send").output


def test_retry_says_that_records_wait_for_a_sink_that_refused_none(call: Call, hook: str, receiver: Receiver) -> None:
    receiver.status = 503
    call("sink", "send")
    assert "hook refused none of its records; 2 records wait" in call("retry", "--sink", "hook").output
    call("sink", "pause", "hook")
    assert "sent after dagster-offload sink resume hook" in call("retry", "--sink", "hook").output


def test_retry_of_a_document_that_was_not_refused_does_not_end_the_wait_of_the_sink(
    call: Call, hook: str, receiver: Receiver
) -> None:
    receiver.status = 503
    call("sink", "send")
    before = json.loads(call("sink", "list", "--json").output)["sinks"]
    assert "nothing to send again" in call("retry", "--sink", "hook", "letter.txt").output
    assert json.loads(call("sink", "list", "--json").output)["sinks"] == before
    assert before[0]["not_before"] is not None


def test_retry_for_a_sink_that_was_removed_says_that_it_must_be_in_the_pipeline_file_again(
    call: Call, hook: str, receiver: Receiver
) -> None:
    receiver.refuses = lambda request: 422 if request.json["document"] == "letter.txt" else None
    call("sink", "send")
    Path("offload.yaml").write_text("on_record: {}\n")
    retried = call("retry", "--sink", "hook")
    assert "1 record will be sent again after hook is in the pipeline file again" in " ".join(retried.output.split())


def test_records_that_wait_for_an_added_stage_are_counted(call: Call, hook: str, router: Router) -> None:
    assert "until all stages" not in call("sink", "list").output
    with Path("offload.yaml").open("a", encoding="utf-8") as file:
        file.write("stages:\n  letter: {prompt: Who wrote this?, answer: {writer: string}}\n")
    router.set(mode="cold")
    assert call("drain").exit_code == 75
    assert "2 records wait until all stages of the document are done" in call("sink", "list").output
    assert json.loads(call("sink", "list", "--json").output)["waiting_for_stages"] == 2


def test_connections_that_postgres_ends_while_a_record_is_sent_cost_nothing(
    call: Call, hook: str, receiver: Receiver, with_ledger: str
) -> None:
    def end_connections(_request: Request) -> int | None:
        with psycopg.connect(with_ledger, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        return None

    receiver.refuses = end_connections
    sent = call("sink", "send")
    assert (sent.exit_code, "hook: 2 sent, nothing waits" in sent.output) == (0, True)
    assert len(receiver.got) == 2
