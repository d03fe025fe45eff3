"""The lines of `up` about sinks and channels of notifications: one when a problem begins, one when all is well again."""

from datetime import datetime, timedelta

import pytest

from dagster_offload.ledger.reports import news
from dagster_offload.ledger.reports.news import News
from dagster_offload.ledger.reports.recipients import MOST_DEAD_COUNTED, ChannelFault, SinkState
from dagster_offload.ledger.sinks import deliveries, notifications
from dagster_offload.ledger.sinks import sinks as ledger_sinks
from dagster_offload.service.event_lines import lines
from dagster_offload.text.times import shown_moment
from tests.notify.conftest import Channels
from tests.sinks.conftest import Sinks
from tests.support.engine import Engine
from tests.support.said_lines import saying
from tests.support.sink_servers import Receiver, serving

FINE = SinkState("hook")


def said(before: SinkState, now: SinkState) -> list[str]:
    """The lines between two looks, without the sink's name."""
    found = lines(News(sinks={"hook": before}), News(sinks={"hook": now}))
    assert all(line.startswith("sink hook: ") for line in found)
    return [line.removeprefix("sink hook: ") for line in found]


def test_a_sink_that_waits_is_reported_once_and_so_is_its_end() -> None:
    waits = SinkState("hook", reason="HTTP 503")
    assert said(FINE, waits) == ["HTTP 503; its records wait, and none is lost"]
    assert said(waits, waits) == []
    assert said(waits, FINE) == ["takes its records again"]


def test_a_refused_record_is_reported_again_only_when_it_was_refused_for_good() -> None:
    refused, dead = SinkState("hook", refused="HTTP 422"), SinkState("hook", dead=2)
    assert said(FINE, refused) == ["did not take a record: HTTP 422; it is tried again"]
    assert said(refused, SinkState("hook", refused="HTTP 400")) == []
    assert said(refused, dead) == [
        "refused 2 records for good; correct the cause, then dagster-offload retry --sink hook"
    ]
    assert said(dead, SinkState("hook", dead=3)) == []
    (line,) = said(FINE, SinkState("hook", dead=MOST_DEAD_COUNTED))
    assert line.startswith("refused 1,000 or more records for good"), "no more are counted"
    assert said(dead, refused) == [], "a person wants another try"
    assert said(dead, FINE) == ["takes its records again"]


def test_a_pause_of_a_sink_and_its_end_are_reported() -> None:
    paused = SinkState("hook", is_paused=True)
    assert said(FINE, paused) == ["paused; its records are kept: dagster-offload sink resume hook"]
    assert said(SinkState("hook", reason="HTTP 503"), paused) == said(FINE, paused), "it does not take records now"
    assert said(paused, FINE) == ["no longer paused"]


def test_at_a_start_of_up_an_old_failure_is_what_is_so_and_not_what_happens() -> None:
    at = datetime.now().astimezone() + timedelta(minutes=5)
    found = lines(
        News(),
        News(
            sinks={
                "a": SinkState("a", refused="HTTP 422", next_try=at),
                "b": SinkState("b", reason="HTTP 503", next_try=at),
                "c": SinkState("c", is_paused=True),
                "d": SinkState("d", dead=2),
                "e": FINE,
            },
            channels=["phone", "mail"],
            channel_faults={"phone": ChannelFault("HTTP 503"), "mail": ChannelFault("HTTP 422", is_given_up=True)},
        ),
    )
    assert found == [
        f"sink a: a record that it did not take waits: HTTP 422; next try at {shown_moment(at)}",
        f"sink b: its records wait: HTTP 503; next try at {shown_moment(at)}",
        "sink c: is paused; its records are kept: dagster-offload sink resume c",
        "sink d: 2 records refused for good; correct the cause, then dagster-offload retry --sink d",
        "notify phone: its messages wait: HTTP 503",
    ]


def test_a_record_that_waits_at_a_start_has_the_time_of_its_next_try(sinks: Sinks) -> None:
    receiver = Receiver(status=422)
    with serving(receiver.answer) as address:
        sinks.use(hook={"webhook": address})
        sinks.answered("a.txt")
        sinks.send("hook")
        now, _ = sinks.engine.ledger.run(news.read, sinks.engine.ledger.run(news.begin, None))
    [line] = [line for line in lines(News(), now) if line.startswith("sink hook: ")]
    assert line.startswith("sink hook: a record that it did not take waits: HTTP 422")
    assert "; next try at " in line


def test_a_sink_that_was_removed_says_nothing() -> None:
    assert lines(News(sinks={"hook": SinkState("hook", reason="HTTP 503")}), News()) == []


@pytest.fixture
def sinks(engine: Engine) -> Sinks:
    return Sinks(engine)


def test_what_the_sender_and_a_person_do_is_said_at_once(sinks: Sinks) -> None:
    receiver, ledger = Receiver(), sinks.engine.ledger
    with serving(receiver.answer) as address:
        sinks.use(hook={"webhook": address})
        sinks.answered("a.txt", "b.txt")
        with saying(ledger) as up_says:
            receiver.status = 503
            sinks.send("hook")
            up_says.wait_for("sink hook: HTTP 503")
            receiver.status = 200
            sinks.end_waits()
            sinks.send("hook")
            up_says.wait_for("sink hook: takes its records again")
            ledger.run(ledger_sinks.pause, "hook")
            up_says.wait_for("sink hook: paused")
            ledger.run(ledger_sinks.resume, "hook")
            up_says.wait_for("sink hook: no longer paused")


def test_a_record_that_is_tried_again_at_once_is_not_yet_taken(sinks: Sinks) -> None:
    receiver = Receiver()
    with serving(receiver.answer) as address:
        sinks.use(hook={"webhook": address})
        sinks.answered("a.txt")
        receiver.status = 422
        sinks.send("hook")
        receiver.status = 200
        marks = sinks.engine.ledger.run(news.begin, None)
        refused, marks = sinks.engine.ledger.run(news.read, marks)
        assert sinks.engine.ledger.run(deliveries.revive, "hook") == 1
        revived, marks = sinks.engine.ledger.run(news.read, marks)
        sinks.send("hook")
        taken, _ = sinks.engine.ledger.run(news.read, marks)
    assert lines(refused, revived) == []
    assert lines(revived, taken) == ["sink hook: takes its records again"]


def test_a_channel_that_refused_a_message_for_good_has_not_sent_it(engine: Engine) -> None:
    receiver, channels = Receiver(status=422), Channels(engine)

    def look(marks: news.Marks) -> tuple[News, news.Marks]:
        return engine.ledger.run(news.read, marks, channels=["phone"])

    with serving(receiver.answer) as address:
        channels.use(phone={"webhook": address})
        channels.fail("broken.txt")
        channels.round("phone")
        waits, marks = look(engine.ledger.run(news.begin, None))
        while channels.stored("phone")[-1][1] == "pending":
            channels.end_waits()
            channels.round("phone")
        dead, marks = look(marks)
        receiver.status = 200
        engine.ledger.run(notifications.add, "phone", "away", "another", "title", "message")
        untried, marks = look(marks)
        channels.round("phone")
        sent, _ = look(marks)

    def said_of_it(before: News, now: News) -> list[str]:
        return [line for line in lines(before, now) if line.startswith("notify ")]

    (line,) = said_of_it(waits, dead)
    assert line.startswith("notify phone: HTTP 422")
    assert line.endswith("; a message was given up: dagster-offload notify list")
    assert said_of_it(dead, untried) == []
    assert said_of_it(untried, sent) == ["notify phone: its messages are sent again"]


def test_a_channel_that_fails_is_reported_once_and_so_is_its_end(engine: Engine) -> None:
    receiver, channels = Receiver(status=503), Channels(engine)
    with serving(receiver.answer) as address:
        channels.use(phone={"webhook": address})
        with saying(engine.ledger, ["phone"]) as up_says:
            channels.fail("broken.txt")
            channels.round("phone")
            up_says.wait_for("notify phone: HTTP 503")
            receiver.status = 200
            channels.end_waits()
            channels.round("phone")
            up_says.wait_for("notify phone: its messages are sent again")
