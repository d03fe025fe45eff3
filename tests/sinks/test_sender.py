"""From a finished document to its sinks: what is sent, when, in which order, and what a failure holds up."""

import json
import threading
from typing import Any

import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.sinks import deliveries
from dagster_offload.ledger.sinks import sinks as ledger_sinks
from dagster_offload.ledger.sinks.deliveries import Delivery
from dagster_offload.sinks.build import build
from dagster_offload.sinks.planning import plan, register
from dagster_offload.sinks.sender import only_sender, send_due, sending_to
from dagster_offload.testing import ChangeTiming
from tests.sinks.conftest import Sinks
from tests.support.disks import no_space_for_updates
from tests.support.patience import PATIENCE_SECONDS
from tests.support.sink_servers import Receiver, Request


def got(receiver: Receiver) -> list[str]:
    return [request.json["document"] for request in receiver.got]


@pytest.mark.rule("sink-1")
def test_a_record_is_sent_once_when_all_its_stages_are_done_and_again_when_it_changes(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    sinks.engine.texts("a.txt")
    sinks.engine.drain("classify")
    assert sinks.send("hook").sent == 0, "summarize is not done"
    sinks.engine.drain()
    assert (sinks.send("hook").sent, sinks.send("hook").sent) == (1, 0)
    assert receiver.got[0].json["record"]["summary"]
    sinks.engine.sql("select note_record_changes(array(select document_id from documents))")
    assert sinks.send("hook").sent == 0, "nothing in the record changed"
    sinks.retitle("a.txt")
    assert sinks.send("hook").sent == 1
    first, second = receiver.got
    assert second.json["record"]["title"] == "A new title"
    assert first.json["idempotency_key"] != second.json["idempotency_key"]
    sinks.retitle("a.txt", first.json["record"]["title"])
    sinks.retitle("a.txt", "A new title")
    sinks.send("hook")
    assert len({request.json["idempotency_key"] for request in receiver.got}) == len(receiver.got)


@pytest.mark.rule("sink-1")
def test_a_sink_that_is_added_gets_the_records_that_exist_unless_it_does_not_want_them(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.answered("a.txt", "b.txt")
    sinks.use(all={"webhook": webhook}, new={"webhook": webhook, "existing": False})
    assert (sinks.send("all").sent, sinks.send("new").sent) == (2, 0)
    sinks.answered("c.txt")
    assert (sinks.send("all").sent, sinks.send("new").sent) == (1, 1)


def test_a_sink_that_is_removed_and_back_gets_what_it_missed(sinks: Sinks, webhook: str, receiver: Receiver) -> None:
    sinks.use(hook={"webhook": webhook})
    sinks.answered("a.txt")
    sinks.send("hook")
    sinks.use()
    sinks.answered("b.txt")
    sinks.use(hook={"webhook": webhook})
    assert sinks.send("hook").sent == 1
    assert got(receiver) == ["a.txt", "b.txt"]


@pytest.mark.rule("sink-1")
def test_a_sink_that_is_back_does_not_get_existing_records_that_it_does_not_want(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    only_new = {"webhook": webhook, "existing": False}
    sinks.answered("before.txt")
    sinks.use(hook=only_new)
    sinks.answered("a.txt")
    sinks.send("hook")
    sinks.use()
    sinks.answered("missed.txt")
    sinks.use(hook=only_new)
    sinks.answered("b.txt")
    sinks.send("hook")
    assert got(receiver) == ["a.txt", "b.txt"]


@pytest.mark.rule("sink-1")
def test_a_sink_that_wants_no_existing_records_gets_none_that_another_sink_is_still_to_get(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(all={"webhook": webhook})
    sinks.answered("before.txt", "again.txt")  # no sender has looked at them when the other sink is added
    sinks.use(all={"webhook": webhook}, new={"webhook": webhook, "existing": False})
    sinks.retitle("again.txt")
    sinks.answered("a.txt")
    sinks.send("new")
    assert got(receiver) == ["again.txt", "a.txt"]
    assert sinks.send("all").sent == 3


@pytest.mark.rule("sink-2")
def test_a_sink_that_is_down_or_paused_holds_up_no_other_and_loses_nothing(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook}, down={"webhook": "http://127.0.0.1:1/"}, rest={"webhook": webhook})
    sinks.engine.ledger.run(ledger_sinks.pause, "rest")
    sinks.answered("a.txt", "b.txt")
    assert sinks.send("down").waits == "connection refused"
    assert sinks.send("rest").sent == 0
    assert sinks.send("hook").sent == 2
    rows = {row.name: row for row in sinks.engine.ledger.run(ledger_sinks.list_sinks)}
    assert (rows["down"].waiting, rows["rest"].waiting, rows["hook"].waiting) == (2, 2, 0)
    assert rows["down"].reason == "connection refused"
    assert sinks.send("down").waits == "connection refused", "the reason of the wait that is not over"
    assert sinks.engine.ledger.run(ledger_sinks.in_a_row, "down") == (1, 0), "it is left alone until then"
    sinks.engine.ledger.run(ledger_sinks.resume, "rest")
    assert sinks.send("rest").sent == 2


@pytest.mark.rule("sink-3")
def test_an_unavailable_sink_costs_its_records_no_attempt_and_gets_them_when_it_is_back(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    sinks.answered("a.txt")
    receiver.status = 503
    for _ in range(10):
        assert sinks.send("hook").waits == "HTTP 503"
        sinks.end_waits()
    assert sinks.engine.sql("select attempts, state from deliveries") == [{"attempts": 0, "state": "pending"}]
    receiver.status = 200
    assert sinks.send("hook").sent == 1
    assert len({request.json["idempotency_key"] for request in receiver.seen}) == 1
    assert sinks.engine.ledger.run(ledger_sinks.in_a_row, "hook") == (0, 0)


@pytest.mark.rule("sink-2", "sink-3")
def test_a_refused_record_is_tried_again_then_dead_and_others_go_on(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.refuses = lambda request: 422 if request.json["document"] == "bad.txt" else None
    sinks.answered("bad.txt", "good.txt")
    assert sinks.send("hook").sent == 1
    assert got(receiver) == ["good.txt"]
    for _ in range(3):
        assert sinks.states()["bad.txt"] == "pending"
        sinks.end_waits()
        sinks.send("hook")
    assert sinks.states() == {"bad.txt": "dead", "good.txt": "sent"}
    [state] = sinks.engine.ledger.run(deliveries.of_document, "bad.txt")
    assert (state.state, state.attempts, state.reason) == ("dead", 4, "HTTP 422 about detail")
    sinks.end_waits()
    assert sinks.send("hook").refused == 0
    receiver.refuses = lambda _request: None
    assert sinks.engine.ledger.run(deliveries.revive, "hook") == 1
    assert sinks.send("hook").sent == 1


@pytest.mark.rule("sink-4")
def test_a_sink_that_refuses_every_record_waits_and_kills_none(sinks: Sinks, webhook: str, receiver: Receiver) -> None:
    sinks.use(hook={"webhook": webhook})
    names = [f"{n}.txt" for n in range(8)]
    sinks.answered(*names)
    receiver.status = 400
    assert sinks.send("hook").waits == "it refuses every record: HTTP 400 about detail"
    assert len(receiver.seen) == 6
    for _ in range(20):
        sinks.end_waits()
        sinks.send("hook")
    assert set(sinks.states().values()) == {"pending"}
    receiver.status = 200
    sinks.end_waits()
    assert sinks.send("hook").sent == 8
    assert sorted(got(receiver)) == names


def test_what_changes_while_no_sink_is_configured_costs_nothing(sinks: Sinks) -> None:
    sinks.answered("a.txt")
    assert sinks.engine.sql("select * from changed_records") == []


def test_the_sinks_of_a_file_without_a_change_write_nothing(sinks: Sinks, webhook: str) -> None:
    sinks.use(hook={"webhook": webhook})
    before = sinks.engine.sql("select xmin::text, * from sinks")
    register(sinks.engine.settings(), sinks.engine.ledger)
    assert sinks.engine.sql("select xmin::text, * from sinks") == before


def test_a_delivery_holds_its_record_only_until_it_has_arrived(sinks: Sinks, webhook: str) -> None:
    sinks.use(hook={"webhook": webhook})
    sinks.answered("a.txt")
    for title in ("one", "two", "three"):
        sinks.retitle("a.txt", title)
        sinks.send("hook")
    assert sinks.engine.sql("select state, record from deliveries") == [{"state": "sent", "record": None}]


def test_the_message_of_a_repetition_is_the_same_to_the_byte(sinks: Sinks, webhook: str, receiver: Receiver) -> None:
    sinks.use(hook={"webhook": webhook})
    sinks.answered("난방비.txt")

    def hang_up_once(request: Request) -> Any:
        return 503 if len(receiver.seen) == 1 else None

    receiver.refuses = hang_up_once
    sinks.send("hook")
    sinks.end_waits()
    sinks.send("hook")
    first, second = receiver.seen
    assert first.body == second.body
    assert json.loads(second.body)["document"] == "난방비.txt"


@pytest.mark.rule("sink-1")
@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_record_is_not_sent_again_while_its_outcome_cannot_be_stored(
    sinks: Sinks,
    webhook: str,
    receiver: Receiver,
    change_timing: ChangeTiming,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    change_timing(ledger_patience=0.0)
    sinks.use(hook={"webhook": webhook})
    sinks.answered("a.txt", "b.txt")
    while plan(sinks.engine.settings(), sinks.engine.ledger):
        pass
    receiver.status = status
    table = "deliveries" if status != 503 else "sinks"
    with no_space_for_updates(sinks.engine, table) as wait_for_refused:
        sending = sinks.engine.beside(sinks.send, "hook")
        wait_for_refused(3, sending)
        assert len(receiver.seen) == 1
        assert not sending.done()
        [said, *_] = [line for line in caplog.messages if line.startswith("waiting to record what was just sent")]
        assert "the same is sent again at the next start" in said
    sent = sending.result(PATIENCE_SECONDS)
    keys = [request.json["idempotency_key"] for request in receiver.seen]
    assert len(keys) == len(set(keys)) == (1 if status == 503 else 2)
    assert (sent.sent, sent.refused) == ({200: 2}.get(status, 0), {400: 2}.get(status, 0))


def test_a_sender_that_is_stopped_does_not_wait_for_a_full_disk(
    sinks: Sinks, webhook: str, receiver: Receiver, change_timing: ChangeTiming
) -> None:
    change_timing(ledger_patience=0.0)
    sinks.use(hook={"webhook": webhook})
    sinks.answered("a.txt")
    settings = sinks.engine.settings()
    with no_space_for_updates(sinks.engine, "deliveries"), pytest.raises(LedgerUnavailable):
        send_due(settings, sinks.engine.ledger, "hook", build(settings, "hook"), lambda: bool(receiver.seen))
    assert len(receiver.seen) == 1
    assert sinks.send("hook").sent == 1


def test_a_command_that_sends_ends_if_postgres_stays_unavailable(change_timing: ChangeTiming) -> None:
    change_timing(ledger_patience=0.0)
    with (
        Ledger("host=127.0.0.1 port=1 dbname=none") as ledger,
        pytest.raises(LedgerUnavailable, match=r"Postgres stays unavailable: .*start Postgres if it is your own"),
        only_sender(ledger, "hook"),
    ):
        pytest.fail("nothing may be sent without the lock")


@pytest.mark.parametrize("failure", [LedgerUnavailable("Postgres was restarted"), None])
def test_a_lost_connection_replaces_neither_the_error_nor_the_result_of_a_sender(
    sinks: Sinks, failure: LedgerUnavailable | None
) -> None:
    ledger, caught = sinks.engine.ledger, None
    try:
        with ledger.connect() as connection, sending_to(connection, ledger.schema, "hook") as is_only_sender:
            assert is_only_sender
            sinks.engine.sql(f"select pg_terminate_backend({connection.info.backend_pid}, 60000)")
            if failure is not None:
                raise failure
    except LedgerUnavailable as error:
        caught = error
    assert caught is failure


def test_a_stop_after_the_look_for_a_delivery_starts_no_program(sinks: Sinks, monkeypatch: pytest.MonkeyPatch) -> None:
    sinks.use(script={"command": ["touch", "started"]})
    sinks.answered("a.txt")
    look, stopped = deliveries.next_due, threading.Event()

    def look_and_stop(cur: Cursor, name: str) -> Delivery | None:
        found = look(cur, name)
        stopped.set()
        return found

    monkeypatch.setattr(deliveries, "next_due", look_and_stop)
    settings = sinks.engine.settings()
    send_due(settings, sinks.engine.ledger, "script", build(settings, "script"), stopped.is_set)
    assert stopped.is_set()
    assert sinks.states() == {"a.txt": "pending"}
