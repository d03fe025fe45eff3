"""Poison documents and brown-outs: a document's fault harms no other document; a slot's fault harms none.

SQL moves the ledger's times; the drain sensor and the drains run as often as in real time.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.drain import run_drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import State
from tests.faults.acts import answers_after, cut, says
from tests.faults.play import FIRST, Play
from tests.faults.raw_server import Act, CompletionRequest, Connection, Hits, RawServer, well

CHECK_EVERY_SECONDS = 15.0  # a breaker's first pause: more frequent checks find nothing new
LONGEST_WAIT_SECONDS = 20.0  # for another call, which a slow machine sends late


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


def crashes(connection: Connection, request: CompletionRequest) -> None:
    """The document crashes the server's process, which ends all open calls."""
    connection.pause(0.05)
    connection.crash()


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("act", [cut("length", Connection.reset), crashes], ids=["cut", "crash"])
def test_a_poison_document_is_quarantined_after_at_most_three_calls_alone_and_all_others_are_done_first(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path, act: Act, concurrency: int
) -> None:
    play = Play(server, empty_ledger, tmp_path, others=20, deep_concurrency=concurrency)
    slowly = answers_after(0.02)  # so that other calls are open during the poison's
    server.act = lambda connection, request: (act if request.is_marked else slowly)(connection, request)
    server.hits = Hits.DOCUMENTS
    checks = 0
    while play.states()[FIRST] != State.QUARANTINED:
        checks += 1
        play.tick(CHECK_EVERY_SECONDS)
        assert checks < 200
    tries = [request for request in server.requests if request.is_marked]
    beside_others = play.bench.sql(
        "select epoch from cuts group by epoch having count(distinct item_id) > 1 and %s = any(array_agg(item_id))",
        play.bench.item(FIRST, play.stage)["item_id"],
    )
    # The first call is not alone, even if no other call was open yet when it failed (suspect-5).
    assert len(tries) - max(len(beside_others), 1) <= 3
    assert len(beside_others) <= 2
    assert {request.document for request in server.requests[tries[-1].number :]} <= {None}, "all others were done first"
    assert play.all_done(*play.others)
    assert play.sum_of("attempts") == 0
    assert server.calls() <= 2 * len(play.others) + len(tries) + 2 * 3, "calls open during the poison's are retried"
    assert not play.tick(CHECK_EVERY_SECONDS), "its other stage is quarantined too"


class LosesItsRunner:
    """Ollama: the marked document crashes the process of the model, the first time while another call is open. All open
    calls get a 500, and a new process starts."""

    def __init__(self) -> None:
        self._has_crashed, self._other_is_open = threading.Event(), threading.Event()

    def __call__(self, connection: Connection, request: CompletionRequest) -> bool | None:
        if request.is_marked:
            self._other_is_open.wait(LONGEST_WAIT_SECONDS)
            self._has_crashed.set()
        elif self._has_crashed.is_set():
            return well(connection, request)
        else:
            self._other_is_open.set()
            self._has_crashed.wait(LONGEST_WAIT_SECONDS)
        return RUNNER_STOPPED(connection, request)


RUNNER_STOPPED = says(500, {"error": {"message": "model runner has unexpectedly stopped", "type": "api_error"}})


@pytest.mark.rule("suspect-1")
def test_a_document_that_crashes_the_model_costs_the_documents_beside_it_no_attempt(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path
) -> None:
    play = Play(server, empty_ledger, tmp_path, others=8, deep_concurrency=4)
    server.act, server.hits = LosesItsRunner(), Hits.DOCUMENTS
    for _ in range(200):
        play.tick(CHECK_EVERY_SECONDS)
        if play.states()[FIRST] in {State.QUARANTINED, State.FAILED}:
            break
    assert play.states()[FIRST] == State.QUARANTINED
    assert play.all_done(*play.others)
    ended = play.bench.sql("select count(distinct item_id) as documents from calls where outcome = 'http_500'")
    assert ended[0]["documents"] > 1, "the crash ended the calls of other documents, too"
    assert play.sum_of("attempts") == 0


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("hits", "minutes"), [(Hits.ALL, 10), (Hits.DOCUMENTS, 40)], ids=["trials-cut", "trials-answered"]
)
def test_a_brown_out_with_green_health_blames_no_document_and_makes_few_calls(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path, hits: Hits, concurrency: int, minutes: int
) -> None:
    play = Play(server, empty_ledger, tmp_path, others=30, deep_concurrency=concurrency)
    assert run_drain(play.settings(), empty_ledger, limit=5).done == 5
    server.act, server.hits = cut("length", Connection.close), hits
    before = len(server.requests)
    for _ in range(minutes * 2):
        play.tick(30)
    assert not {State.FAILED, State.QUARANTINED} & set(play.states().values())
    assert play.sum_of("attempts") == 0
    assert play.bench.sql("select 1 from cuts where is_suspicion") == []
    # One trial and one retried document per pause of 45 s, and the calls in flight at the start.
    assert len(server.requests) - before <= 2 * minutes * (2 + 1) + 6 * concurrency
    server.mend()
    for _ in range(8):
        play.tick(30)
    assert play.all_done(FIRST, *play.others)


def test_a_document_that_is_refused_alone_is_retried_twice_an_hour_until_it_is_done(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path
) -> None:
    play = Play(server, empty_ledger, tmp_path, others=8)
    server.act, server.hits = says(503), Hits.ONE
    for _ in range(8):
        play.tick(CHECK_EVERY_SECONDS)
    assert play.all_done(*play.others)
    before = server.calls(marked=True)
    drains = sum(play.tick(30) for _ in range(120))
    assert drains <= 2
    assert server.calls(marked=True) - before <= 2
    assert play.sum_of("attempts") == 0
    server.act = well
    for _ in range(62):
        play.tick(30)
    assert play.states()[FIRST] == State.DONE


def test_a_slot_that_drops_every_10th_call_quarantines_no_document_and_does_all(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path
) -> None:
    play = Play(server, empty_ledger, tmp_path, others=60, deep_concurrency=2)
    server.act, server.hits = cut("before", Connection.close), Hits.TENTH
    for _ in range(120):
        play.tick(CHECK_EVERY_SECONDS)
        if play.all_done(FIRST, *play.others):
            break
    assert play.all_done(FIRST, *play.others), play.bench.sql("select * from work_items where state <> 'done'")
    assert play.sum_of("attempts") == 0
