"""A server that fails over one record: which other records it holds up."""

import sys

import pytest

from dagster_offload.ledger.sinks import sinks as ledger_sinks
from dagster_offload.sinks.next_try import REFUSALS_OF_A_BROKEN_SINK, WAITS_BEFORE_OTHERS_GO
from tests.sinks.conftest import Sinks
from tests.support.sink_servers import Receiver


def documents(receiver: Receiver) -> list[str]:
    return [request.json["document"] for request in receiver.got]


@pytest.mark.rule("sink-2", "sink-3")
@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (500, "HTTP 500"),
        (502, "HTTP 502"),  # a proxy, behind which the handler died over the record
        (504, "HTTP 504"),  # ... or took too long
        (503, "HTTP 503"),
        (423, "HTTP 423"),
        (403, "HTTP 403: it may need a token: set `token`"),  # a firewall, which takes its text for an attack
        (404, "HTTP 404: check its address"),  # a handler that does not know its document
        (0, "the server closed the connection before its answer was complete"),
    ],
)
def test_a_record_over_which_a_server_fails_holds_up_no_other(
    sinks: Sinks, webhook: str, receiver: Receiver, answers: int, reason: str
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.refuses = lambda request: answers if request.json["document"] == "bad.txt" else None
    sinks.answered("bad.txt", "good.txt")
    for _ in range(4):
        assert sinks.send("hook").waits == reason
        sinks.end_waits()
    assert sinks.send("hook").sent == 1
    assert documents(receiver) == ["good.txt"]
    sinks.answered("new.txt")
    sinks.end_waits()
    assert (sent := sinks.send("hook")).waits is None, "the sink does not wait for the bad one again"
    assert (sent.sent, sent.refused) == (1, 1)
    assert documents(receiver) == ["good.txt", "new.txt"]
    receiver.refuses = lambda _request: None
    sinks.end_waits()
    assert sinks.send("hook").sent == 1
    assert documents(receiver) == ["good.txt", "new.txt", "bad.txt"], "it has lost no attempt"


@pytest.mark.rule("sink-2", "sink-3")
def test_a_record_over_which_a_program_always_says_not_now_holds_up_no_other(sinks: Sinks) -> None:
    code = "import json, sys; raise SystemExit(75 if json.load(sys.stdin)['document'] == 'bad.txt' else 0)"
    sinks.use(script={"command": [sys.executable, "-c", code]})
    sinks.answered("bad.txt", "good.txt")
    for _ in range(WAITS_BEFORE_OTHERS_GO + 1):
        assert sinks.send("script").waits == "exit code 75: not now"
        sinks.end_waits()
    assert sinks.send("script").sent == 1
    assert sinks.states() == {"bad.txt": "pending", "good.txt": "sent"}


@pytest.mark.rule("sink-3")
def test_a_sink_that_gets_too_many_requests_waits_with_all_records(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.status = 429
    sinks.answered("a.txt", "b.txt")
    for _ in range(WAITS_BEFORE_OTHERS_GO + 2):
        assert sinks.send("hook").waits == "HTTP 429"
        sinks.end_waits()
    assert documents(receiver) == []
    assert {request.json["document"] for request in receiver.seen} == {"a.txt"}, "it says nothing about the record"


@pytest.mark.rule("sink-3")
def test_after_a_setting_was_corrected_the_records_that_let_others_go_first_are_sent_at_once(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.status = 404
    sinks.answered("a.txt")
    for _ in range(WAITS_BEFORE_OTHERS_GO + 1):
        assert sinks.send("hook").is_misconfigured
        sinks.engine.ledger.run(ledger_sinks.end_wait_for_setting, "hook")
    receiver.status = 200
    assert sinks.send("hook").sent == 1


@pytest.mark.rule("sink-3")
def test_tries_for_a_corrected_setting_do_not_put_a_record_in_front_of_the_others_again(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.refuses = lambda request: 404 if request.json["document"] == "bad.txt" else None
    sinks.answered("bad.txt", "good.txt")
    for _ in range(WAITS_BEFORE_OTHERS_GO + 2):
        sinks.send("hook")
        sinks.engine.ledger.run(ledger_sinks.end_wait_for_setting, "hook")
    assert documents(receiver) == ["good.txt"]


@pytest.mark.rule("sink-3")
def test_a_sink_that_takes_others_is_not_misconfigured_over_one_record(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.refuses = lambda request: 404 if request.json["document"] == "bad.txt" else None
    sinks.answered("bad.txt", "good.txt")
    for _ in range(WAITS_BEFORE_OTHERS_GO + 2):
        sinks.send("hook")
        sinks.end_waits()
    sent = sinks.send("hook")
    assert (sent.refused, sent.waits, sent.is_misconfigured) == (1, None, False)
    [row] = sinks.engine.ledger.run(ledger_sinks.list_sinks)
    assert (row.reason, row.is_misconfigured, row.refused_reason) == (None, False, "HTTP 404: check its address")


@pytest.mark.rule("sink-3", "sink-4")
def test_a_server_that_is_down_again_does_not_get_all_records_that_wait_without_a_pause(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.status = 502
    sinks.answered(*(f"{number}.txt" for number in range(9)))
    sinks.send("hook")
    sinks.engine.sql("update deliveries set not_before = clock_timestamp(), reason = 'HTTP 502'")  # after hours of that
    sinks.end_waits()
    receiver.seen.clear()
    receiver.refuses = lambda request: 200 if request.json["document"] == "0.txt" else None
    sent = sinks.send("hook")
    assert (sent.sent, sent.refused, sent.waits) == (1, REFUSALS_OF_A_BROKEN_SINK, "HTTP 502")
    assert len(receiver.seen) == sent.sent + sent.refused + 1
