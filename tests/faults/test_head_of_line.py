"""No document blocks those behind it. These two backlogs were once blocked for ever by one document.

Drains follow one another as the sensor launches them. A crashed server is back before the next drain.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import State
from dagster_offload.testing import ChangeTiming
from tests.faults.acts import CoolsDown, crashes_on_one
from tests.faults.play import FIRST, UNAVAILABLE, Play, exit_code
from tests.faults.raw_server import CompletionRequest, Connection, Hits, RawServer, well

UNTIL_THE_NEXT_DRAIN_SECONDS = 15.0


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer(hits=Hits.ONE_AND_AFTER) as server:
        yield server


@pytest.fixture(autouse=True)
def short_pauses(change_timing: ChangeTiming) -> None:
    change_timing(busy_pause=0.01)


def last_document_request(server: RawServer) -> CompletionRequest:
    return [request for request in server.requests if request.document is not None][-1]


def test_after_a_short_cooldown_the_first_drain_does_all_others_and_the_404_is_the_documents_fault(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path
) -> None:
    server.act = CoolsDown(404, refusals=1)
    play = Play(server, empty_ledger, tmp_path, others=3, stage="all")
    play.drain()
    assert play.all_done(*play.others)
    for _ in range(3):
        play.let_time_pass(3700)
        play.drain()
    item = play.bench.item(FIRST, "classify")
    assert (item["state"], item["attempts"]) == (State.FAILED, 3)
    assert "HTTP 404" in item["reason"]
    assert "429" not in item["reason"]


@pytest.mark.rule("breaker-8")
def test_a_cooldown_longer_than_the_trial_reports_the_first_error_and_blocks_no_other_document(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path
) -> None:
    server.act = CoolsDown(404, refusals=3)
    play = Play(server, empty_ledger, tmp_path, others=3, stage="classify")
    summary = play.drain()
    assert exit_code(summary) == UNAVAILABLE
    assert f"HTTP 404 on {FIRST}" in str(summary.reason)
    assert "429" not in str(summary.reason)
    play.let_time_pass(UNTIL_THE_NEXT_DRAIN_SECONDS)
    play.drain()
    assert play.all_done_in_stage(*play.others)
    assert last_document_request(server).is_marked, "the bad document comes last"
    for _ in range(4):
        play.let_time_pass(3700)
        play.drain()
    item = play.bench.item(FIRST, "classify")
    assert (item["state"], item["attempts"]) == (State.QUARANTINED, 0)
    assert '4 times HTTP 404 (trial: HTTP 429: "No deployments available' in item["reason"]


@pytest.mark.rule("suspect-5")
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_document_that_crashes_its_server_comes_last_and_is_quarantined_after_three_more_crashes(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path, concurrency: int
) -> None:
    server.act = crashes_on_one
    play = Play(server, empty_ledger, tmp_path, others=6, stage="classify", deep_concurrency=concurrency)
    assert exit_code(play.drain()) == UNAVAILABLE
    assert server.crashes == 1
    drains = 0
    while not play.all_done_in_stage(*play.others):
        play.let_time_pass(UNTIL_THE_NEXT_DRAIN_SECONDS)
        play.drain()
        drains += 1
        assert drains <= 12
    # If other calls were cut too, the bad document may be the first of those that run alone.
    assert server.crashes <= 2 + (concurrency > 1)
    while play.states()[FIRST] != State.QUARANTINED:
        play.let_time_pass(660)
        play.drain()
        drains += 1
        assert drains <= 12, play.bench.item(FIRST, "classify")
    assert server.crashes <= 4
    assert play.sum_of("attempts") == 0
    assert "answered others" in play.bench.item(FIRST, "classify")["reason"]


def test_with_one_call_at_a_time_all_healthy_documents_are_done_in_the_first_drain_after_a_crash(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path
) -> None:
    server.act = crashes_on_one
    play = Play(server, empty_ledger, tmp_path, others=6, stage="all")
    play.drain()
    play.let_time_pass(UNTIL_THE_NEXT_DRAIN_SECONDS)
    play.drain()
    assert play.all_done(*play.others)
    assert last_document_request(server).is_marked, "the bad document comes last"
    assert server.crashes == 2


def test_several_documents_that_crash_their_server_are_all_quarantined_and_all_others_done(
    empty_ledger: Ledger, server: RawServer, tmp_path: Path
) -> None:
    bad = [FIRST, *(f"other-{n}.txt" for n in range(3))]

    def crashes_on_four(connection: Connection, request: CompletionRequest) -> bool:
        if request.document is None or not (request.is_marked or any(key in request.document for key in bad)):
            return well(connection, request)
        connection.go_down()
        return False

    server.act = crashes_on_four
    play = Play(server, empty_ledger, tmp_path, others=8, stage="classify")
    healthy = sorted(set(play.others) - set(bad))
    drains = 0
    while not play.all_done_in_stage(*healthy):
        play.let_time_pass(UNTIL_THE_NEXT_DRAIN_SECONDS)
        play.drain()
        drains += 1
        assert drains <= len(bad) + 1, "each bad document may be first once"
    while {play.states()[key] for key in bad} != {State.QUARANTINED}:
        play.let_time_pass(660)
        play.drain()
        drains += 1
        assert drains <= 8 * len(bad), play.states()
    assert server.crashes <= 4 * len(bad)
