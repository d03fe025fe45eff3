"""Each event is notified once per channel: over restarts, many looks, other channels and transactions out of order."""

import sys
from pathlib import Path

import pytest

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.reports import news
from dagster_offload.ledger.work import corrections
from dagster_offload.ledger.work.corrections import NewValue
from dagster_offload.service.senders import RunningSenders
from dagster_offload.stages.catalog import recipes
from dagster_offload.testing import ChangeTiming
from tests.notify.conftest import Channels
from tests.support.disks import no_space_for_updates
from tests.support.patience import PATIENCE_SECONDS
from tests.support.sink_servers import Receiver, serving


def got(receiver: Receiver) -> list[str]:
    return [request.json["event"] for request in receiver.got]


@pytest.mark.rule("notify-1")
def test_a_backlog_that_is_done_is_notified_once(channels: Channels, hook: str, receiver: Receiver) -> None:
    channels.round("hook")
    channels.engine.texts("a.txt", "b.txt")
    channels.end_work()
    channels.round("hook")
    assert got(receiver) == []  # two documents are left
    channels.engine.drain()
    for _ in range(3):
        channels.round("hook")
    assert got(receiver) == ["done"]
    assert "2 documents, nothing is left" in receiver.got[0].json["message"]
    assert receiver.got[0].headers["webhook-signature"].startswith("v1,")
    channels.engine.texts("c.txt")
    channels.engine.drain()
    channels.end_work()
    channels.round("hook")
    assert got(receiver) == ["done", "done"]
    new = [NewValue("summarize", "title", "A new title")]
    channels.engine.ledger.run(corrections.correct, "c.txt", new, None, recipes(channels.engine.settings()))
    channels.round("hook")
    assert got(receiver) == ["done", "done"], "a correction by a person is no work that is done"


@pytest.mark.rule("notify-1")
def test_a_document_that_needs_you_is_notified_once_and_again_after_a_retry(
    channels: Channels, hook: str, receiver: Receiver
) -> None:
    channels.fail("bad.txt")
    for _ in range(3):
        channels.round("hook")
    assert got(receiver) == ["needs_you", "done"] or got(receiver) == ["done", "needs_you"]
    [message] = [request.json for request in receiver.got if request.json["event"] == "needs_you"]
    assert "1 document needs you" in message["title"]
    assert "failed: bad.txt, classify: empty_answer" in message["message"]
    channels.fail("worse.txt")
    channels.round("hook")
    last = [request.json["message"] for request in receiver.got if request.json["event"] == "needs_you"][1:]
    assert ["bad.txt" in text for text in last] == [False]


@pytest.mark.rule("notify-2")
def test_failures_are_not_read_while_they_wait_for_others(
    channels: Channels, hook: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = news.failed_transitions
    channels.fail("bad.txt")
    channels.engine.extracted("left.txt")
    channels.end_work()
    channels.round("hook")
    assert got(receiver) == ["needs_you"]
    channels.fail("worse.txt")

    def counted(cur: Cursor, mark: int) -> list[int]:
        reads.append(mark)
        return read(cur, mark)

    monkeypatch.setattr(news, "failed_transitions", counted)
    for _ in range(3):
        channels.round("hook")
    assert (reads, got(receiver)) == ([], ["needs_you"])
    channels.engine.sql("update notify_channels set grouped_at = grouped_at - interval '1 hour'")
    channels.round("hook")
    assert (len(reads), got(receiver)) == (1, ["needs_you", "needs_you"])
    assert "worse.txt" in receiver.got[1].json["message"]


@pytest.mark.rule("notify-1")
def test_a_failure_that_commits_after_a_later_one_is_not_missed(channels: Channels, hook: str) -> None:
    engine = channels.engine
    channels.fail("early.txt", "late.txt")
    # Hide the earlier transitions, as a transaction that has not committed does.
    engine.sql(
        "create table hidden as select t.* from transitions t join documents d using (document_id) "
        "where d.key = 'early.txt' and to_state = 'failed'"
    )
    engine.sql("delete from transitions where transition_id in (select transition_id from hidden)")
    channels.round("hook")
    engine.sql("insert into transitions overriding system value select * from hidden")
    channels.round("hook")
    rows = engine.sql("select message from notifications where event = 'needs_you' order by notification_id")
    assert ["early.txt" in row["message"] for row in rows] == [False, True]


@pytest.mark.parametrize("code", ["HTTP 401: check the key"])
def test_a_misconfigured_slot_is_notified_once_until_it_answers_again(
    channels: Channels, hook: str, receiver: Receiver, code: str
) -> None:
    break_slot = (
        "update slots set breaker = 'misconfigured', reason = %s, reason_since = clock_timestamp(), "
        "opened_at = coalesce(opened_at, clock_timestamp())"
    )
    channels.engine.sql(break_slot, code)
    for _ in range(2):
        channels.round("hook")
    channels.engine.sql("update slots set breaker = 'open', reason = 'upstream_cold'")
    channels.engine.sql(break_slot, code)
    channels.round("hook")
    assert got(receiver) == ["misconfigured"]
    assert "HTTP 401: check the key" in receiver.got[0].json["message"]
    channels.engine.sql("update slots set breaker = 'closed', opened_at = null, reason = null")
    channels.round("hook")
    channels.engine.sql(break_slot, code)
    channels.round("hook")
    assert got(receiver) == ["misconfigured", "misconfigured"]


def test_a_slot_that_is_away_for_days_is_notified_once_if_work_is_due(
    channels: Channels, hook: str, receiver: Receiver
) -> None:
    channels.engine.router.set(mode="cold")
    channels.engine.texts("a.txt")
    channels.engine.drain()
    channels.round("hook")
    assert got(receiver) == []
    channels.engine.sql("update availability set since = since - interval '4 days'")
    for _ in range(2):
        channels.round("hook")
    assert got(receiver) == ["away"]
    assert "1 document waits for it" in receiver.got[0].json["message"]


def test_a_message_that_cannot_be_sent_is_kept_and_sent_with_the_same_key(
    channels: Channels, hook: str, receiver: Receiver
) -> None:
    receiver.status = 503
    channels.fail("bad.txt")
    channels.round("hook")
    assert got(receiver) == []
    channels.round("hook")  # it waits
    assert len(receiver.seen) == 1
    receiver.status = 200
    channels.end_waits()
    channels.round("hook")
    assert len(got(receiver)) == 2
    assert receiver.seen[0].headers["webhook-id"] == receiver.got[0].headers["webhook-id"]
    assert {state for _, state in channels.stored("hook")} == {"sent"}


@pytest.mark.rule("notify-3")
def test_a_message_that_is_refused_again_and_again_is_given_up_and_the_next_one_is_sent(
    channels: Channels, hook: str, receiver: Receiver
) -> None:
    receiver.refuses = lambda request: 422 if request.json["event"] == "done" else None
    channels.fail("bad.txt")
    for _ in range(4):
        channels.round("hook")
        channels.end_waits()
    channels.round("hook")
    assert sorted(channels.stored("hook")) == [("done", "dead"), ("needs_you", "sent")]


def test_a_new_channel_is_notified_of_what_happens_from_now_on(channels: Channels, receiver: Receiver) -> None:
    channels.fail("old.txt")
    with serving(receiver.answer) as address:
        channels.use(hook={"webhook": address})
        channels.round("hook")
        assert got(receiver) == []


@pytest.mark.rule("notify-3")
def test_a_command_that_hangs_is_bounded_and_holds_up_no_other_channel(channels: Channels, receiver: Receiver) -> None:
    said: list[str] = []
    hangs = [sys.executable, "-c", "import time; time.sleep(600)"]
    with serving(receiver.answer) as address:
        channels.use(stuck={"command": hangs, "timeout": 0.5}, hook={"webhook": address})
        running = RunningSenders(channels.engine.ledger, said.append)
        running.check(channels.engine.settings())
        try:
            channels.fail("bad.txt")
            channels.engine.ledger.run(lambda cur: cur.execute(f"notify {channels.engine.ledger.channel}".encode()))
            channels.engine.wait_until("select 1 from notifications where channel = 'hook' and state = 'sent'")
            channels.engine.wait_until(
                "select 1 from notifications where channel = 'stuck' and reason like 'not finished within 0.5 s%'"
            )
        finally:
            running.stop()
    assert said == []


def test_a_command_reads_the_message_as_json(channels: Channels, tmp_path: Path) -> None:
    code = "import sys; open('got', 'ab').write(sys.stdin.buffer.read())"
    channels.use(desk={"command": [sys.executable, "-c", code], "events": ["needs_you"]})
    channels.fail("편지.txt")
    channels.round("desk")
    assert "편지.txt" in (tmp_path / "got").read_text(encoding="utf-8")
    assert channels.stored("desk") == [("needs_you", "sent")]


@pytest.mark.rule("notify-1")
@pytest.mark.parametrize("status", [200, 503])
def test_a_message_is_not_sent_again_while_its_outcome_cannot_be_stored(
    channels: Channels, hook: str, receiver: Receiver, change_timing: ChangeTiming, status: int
) -> None:
    channels.round("hook")
    channels.engine.texts("a.txt")
    channels.engine.drain()
    channels.end_work()
    change_timing(ledger_patience=0.0)
    receiver.status = status
    with no_space_for_updates(channels.engine, "notifications") as wait_for_refused:
        sending = channels.engine.beside(channels.round, "hook")
        wait_for_refused(3, sending)
        assert len(receiver.seen) == 1
        assert not sending.done()
    sending.result(PATIENCE_SECONDS)
    assert len(receiver.seen) == 1


def test_a_message_waits_for_a_secret_that_cannot_be_read_and_is_sent_when_it_can(
    channels: Channels, receiver: Receiver
) -> None:
    said: list[str] = []
    engine, secret = channels.engine, channels.engine.library.parent / "token"
    with serving(receiver.answer) as address:
        channels.use(hook={"webhook": address, "token_file": str(secret)})
        running = RunningSenders(engine.ledger, said.append)
        try:
            running.check(engine.settings())
            [line] = said
            assert f"The channel hook sends no notifications: notify.hook.token_file: {secret} cannot be read" in line
            channels.fail("bad.txt")
            engine.wait_until("select 1 from notifications where reason like '%cannot be read%'")
            secret.write_text("secret-1", encoding="utf-8")
            running.check(engine.settings())  # an edit
            engine.wait_until("select 1 from notifications where state = 'sent'")
        finally:
            running.stop()
    assert receiver.got[0].headers["authorization"] == "Bearer secret-1"
