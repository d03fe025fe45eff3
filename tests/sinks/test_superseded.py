"""A version of a record that the sink did not take, and a newer version of the same document behind it."""

import pytest

from dagster_offload.ledger.sinks import deliveries
from dagster_offload.ledger.sinks import sinks as ledger_sinks
from dagster_offload.sinks.next_try import REFUSAL_PAUSES, WAITS_BEFORE_OTHERS_GO
from dagster_offload.sinks.planning import plan
from tests.sinks.conftest import Sinks
from tests.support.sink_servers import Receiver, Request


def titles(receiver: Receiver) -> list[str]:
    return [request.json["record"]["title"] for request in receiver.got]


def states(sinks: Sinks, document: str = "a.txt") -> list[str]:
    return [found.state for found in sinks.engine.ledger.run(deliveries.of_document, document)]


def is_old(request: Request) -> bool:
    return request.json["record"]["title"] not in {"A new title", "The newest"}


@pytest.mark.rule("sink-2")
@pytest.mark.parametrize(
    ("status", "tries"), [(500, WAITS_BEFORE_OTHERS_GO + 1), (0, WAITS_BEFORE_OTHERS_GO + 1), (422, 1)]
)
def test_a_newer_version_takes_the_place_of_one_that_the_sink_does_not_take(
    sinks: Sinks, webhook: str, receiver: Receiver, status: int, tries: int
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.refuses = lambda request: status if is_old(request) else None
    sinks.answered("a.txt")
    for _ in range(tries):
        assert sinks.send("hook").sent == 0
        sinks.end_waits()
    sinks.retitle("a.txt")
    assert sinks.send("hook").sent == 1
    assert titles(receiver) == ["A new title"]
    assert states(sinks) == ["sent"], "nothing of the older one is left to retry"


@pytest.mark.rule("sink-2")
def test_a_newer_version_that_waits_already_goes_when_the_sink_has_not_taken_the_older_one(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.refuses = lambda request: 500 if is_old(request) else None
    sinks.answered("a.txt")
    sinks.send("hook")
    sinks.retitle("a.txt")
    for _ in range(WAITS_BEFORE_OTHERS_GO + 1):
        sinks.end_waits()
        sinks.send("hook")
    assert titles(receiver) == ["A new title"]


@pytest.mark.rule("sink-2")
def test_versions_that_wait_for_a_sink_that_is_down_all_arrive_in_order(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": "http://127.0.0.1:1/"})
    sinks.answered("a.txt")
    for title in ("A new title", "The newest"):
        sinks.send("hook")
        sinks.end_waits()
        sinks.retitle("a.txt", title)
    sinks.use(hook={"webhook": webhook})
    assert sinks.send("hook").sent == 3
    assert titles(receiver)[1:] == ["A new title", "The newest"]


@pytest.mark.rule("sink-2")
def test_a_version_that_arrives_while_a_newer_one_supersedes_it_is_followed_by_that_one(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.status = 422
    sinks.answered("a.txt")
    sinks.send("hook")
    sinks.end_waits()
    settings = sinks.engine.settings()

    def supersede(request: Request) -> int:
        if is_old(request):
            sinks.retitle("a.txt")
            assert plan(settings, sinks.engine.ledger)
        return 200

    receiver.refuses = supersede
    assert sinks.send("hook").sent == 2
    assert titles(receiver)[1:] == ["A new title"]
    assert states(sinks) == ["sent"]


@pytest.mark.rule("sink-2", "sink-3")
def test_only_the_newest_version_counts_as_waiting_or_dead_and_is_sent_again(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    receiver.status = 422
    sinks.answered("a.txt")
    for _ in range(len(REFUSAL_PAUSES) + 1):
        sinks.send("hook")
        sinks.end_waits()
    assert states(sinks) == ["dead"]
    sinks.retitle("a.txt")
    sinks.send("hook")
    [row] = sinks.engine.ledger.run(ledger_sinks.list_sinks)
    assert (row.waiting, row.refused, row.dead) == (1, 1, 0)
    assert states(sinks) == ["superseded", "pending"]
    assert sinks.engine.sql("select record from deliveries where state = 'superseded'") == [{"record": None}]
    receiver.status = 200
    assert sinks.engine.ledger.run(deliveries.revive, "hook") == 1
    assert sinks.send("hook").sent == 1
    assert titles(receiver) == ["A new title"]
