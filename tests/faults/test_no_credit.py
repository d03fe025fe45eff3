"""A provider whose account is empty: it answers trials, which cost next to nothing, and refuses every document."""

from pathlib import Path
from typing import Any

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import BreakerState, State
from tests.faults.acts import says
from tests.faults.play import MISCONFIGURED, Play, exit_code
from tests.faults.raw_server import Hits, RawServer

OPENROUTER = 402, {"message": "Insufficient credits", "code": 402}
OPENAI = 429, {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}


@pytest.mark.rule("breaker-14")
@pytest.mark.parametrize(("status", "error"), [OPENROUTER, OPENAI])
def test_an_empty_account_costs_no_attempt_and_one_call_in_half_an_hour(
    empty_ledger: Ledger, tmp_path: Path, status: int, error: dict[str, Any]
) -> None:
    with RawServer(says(status, {"error": error}), Hits.DOCUMENTS) as server:
        play = Play(server, empty_ledger, tmp_path, 2)
        assert exit_code(play.drain()) == MISCONFIGURED
        slot = play.bench.slot()
        assert slot.breaker is BreakerState.MISCONFIGURED
        assert slot.reason == f'HTTP {status} (add credit to its account): "{error["message"]}"'
        for _ in range(3):
            sent = len(server.requests)
            assert not any(play.tick(60.0) for _ in range(29)), "no trial, which would be answered"
            assert len(server.requests) == sent
            assert play.tick(61.0)
            assert len(server.requests) <= sent + 2, "the trial, and one document"
        assert play.sum_of("attempts") == 0
        server.mend()
        for _ in range(2):  # those that were refused run alone, after the others
            play.let_time_pass(1_800.0)
            play.drain()
        assert set(play.states().values()) == {State.DONE}
