"""Poison and brown-outs: one document's fault is its own and harms nobody; a slot's fault is nobody's.

Time passes in the ledger by SQL; the drain sensor looks and drains run as often as in real time.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.drain import run_drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import State
from tests.faults.acts import answers_after, cut, says
from tests.faults.play import FIRST, Play
from tests.faults.raw_server import Act, Asked, Hits, Line, RawServer, well

CHECK_EVERY_SECONDS = 15.0  # a breaker's first pause: looking more often finds nothing new


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


def crashes(line: Line, asked: Asked) -> None:
    """The document ends the server's process, and with it everybody's call."""
    line.pause(0.05)
    line.crash()


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("act", [cut("length", Line.reset), crashes], ids=["cut", "crash"])
def test_a_poison_document_is_quarantined_after_at_most_three_lone_tries_and_all_others_are_done_first(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path, act: Act, concurrency: int
) -> None:
    play = Play(server, empty_ledger, tmp_path, others=20, deep_concurrency=concurrency)
    slowly = answers_after(0.02)  # so that calls are open beside the poison
    server.act, server.hits = lambda line, asked: (act if asked.is_marked else slowly)(line, asked), Hits.DOCUMENTS
    looks = 0
    while play.states()[FIRST] != State.QUARANTINED:
        looks += 1
        play.tick(CHECK_EVERY_SECONDS)
        assert looks < 200
    tries = [asked for asked in server.asked if asked.is_marked]
    in_company = play.bench.sql(
        "select epoch from cuts group by epoch having count(distinct item_id) > 1 and %s = any(array_agg(item_id))",
        play.bench.item(FIRST, play.stage)["item_id"],
    )
    assert len(tries) - len(in_company) <= 3
    assert len(in_company) <= 2
    assert {asked.document for asked in server.asked[tries[-1].number :]} <= {None}, "all others were done first"
    assert play.all_done(*play.others)
    assert play.sum_of("attempts") == 0
    assert server.calls() <= 2 * len(play.others) + len(tries) + 2 * 3, "who was open beside the poison asks again"
    assert not play.tick(CHECK_EVERY_SECONDS), "its other stage goes with it"


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("hits", "minutes"), [(Hits.ALL, 10), (Hits.DOCUMENTS, 40)], ids=["trials-cut", "trials-answered"]
)
def test_a_brown_out_under_green_health_convicts_nobody_and_asks_with_measure(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path, hits: Hits, concurrency: int, minutes: int
) -> None:
    play = Play(server, empty_ledger, tmp_path, others=30, deep_concurrency=concurrency)
    assert run_drain(play.settings(), empty_ledger, limit=5).done == 5
    server.act, server.hits = cut("length", Line.close), hits
    before = len(server.asked)
    for _ in range(minutes * 2):
        play.tick(30)
    assert not {State.FAILED, State.QUARANTINED} & set(play.states().values())
    assert play.sum_of("attempts") == 0
    assert play.bench.sql("select 1 from cuts where is_suspicion") == []
    # A trial and a look by the work itself per pause of 45 s, and what was in flight when it began.
    assert len(server.asked) - before <= 2 * minutes * (2 + 1) + 6 * concurrency
    server.mend()
    for _ in range(8):
        play.tick(30)
    assert play.all_done(FIRST, *play.others)


def test_a_document_that_alone_is_refused_is_asked_twice_an_hour_and_done_when_it_no_longer_is(
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


def test_a_slot_that_drops_every_10th_call_quarantines_nobody_and_does_everything(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path
) -> None:
    play = Play(server, empty_ledger, tmp_path, others=60, deep_concurrency=2)
    server.act, server.hits = cut("before", Line.close), Hits.TENTH
    for _ in range(120):
        play.tick(CHECK_EVERY_SECONDS)
        if play.all_done(FIRST, *play.others):
            break
    assert play.all_done(FIRST, *play.others), play.bench.sql("select * from work_items where state <> 'done'")
    assert play.sum_of("attempts") == 0
