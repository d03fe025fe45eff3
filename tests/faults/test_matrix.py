"""Runs every row of the fault matrix with the real engine, real sockets and a real ledger."""

import asyncio
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from dagster_offload.client import transport
from dagster_offload.drain import DrainSummary
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.errors import CutAnswer
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import State
from dagster_offload.testing import ChangeTiming
from tests.faults.matrix import MATRIX
from tests.faults.play import FIRST, MISCONFIGURED, NOTHING_LEFT, Play, exit_code
from tests.faults.played import Played
from tests.faults.raw_server import Hits, RawServer
from tests.faults.rows import HELD, Promise, Row

PRODUCT, PLAIN = "aiohttp", "plain httpx"
HALF_AN_HOUR = 1800.0
OVER_AN_HOUR = 3700.0  # longer than any wait that a row's slot requests
ROUNDS = 7

PLAYS = [
    pytest.param(row, kind, id=re.sub(r"\W+", "-", f"{row.id} {kind}"))
    for row in MATRIX
    for kind in ((PRODUCT, PLAIN) if row.is_plain_too else (PRODUCT,))
]
if not os.environ.get("FAULTS_TABLE"):
    PLAYS = PLAYS[::3]  # the test suite runs a third of the rows, of all kinds; `make faults` runs all


class PlainHttpx:
    """httpx's own transport in the place of aiohttp."""

    def __init__(self, context: Any, *, is_fresh: bool, proxy: str | None = None) -> None:
        limits = httpx.Limits(max_keepalive_connections=0 if is_fresh else 20)
        self._transport = httpx.AsyncHTTPTransport(verify=context or False, limits=limits, proxy=proxy)

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, timeout: httpx.Timeout
    ) -> httpx.Response:
        request = httpx.Request(
            method, url, headers=headers, content=content, extensions={"timeout": timeout.as_dict()}
        )
        response = await self._transport.handle_async_request(request)
        response.request = request
        try:
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > transport.LONGEST_BODY_BYTES:
                    raise CutAnswer("its body is longer than 16 MiB")
        finally:
            await response.aclose()
        packing = {"content-encoding", "transfer-encoding", "content-length"}
        lasting = [(name, value) for name, value in response.headers.items() if name not in packing]
        return httpx.Response(response.status_code, headers=lasting, content=bytes(body), request=request)

    async def aclose(self) -> None:
        await self._transport.aclose()


def outcome(state: str, reason: str | None, summary: DrainSummary, calls: int, attempts: int) -> str:
    return f"{state} ({reason}), attempts {attempts}, exit {exit_code(summary)}, calls {calls}"


def assert_kept(promise: Promise, state: str, reason: str | None, code: int, calls: int, attempts: int) -> None:
    assert promise.reason in (reason or "")
    assert promise.reason or not reason, "a reason is present and none was promised"
    assert (state, code, attempts) == (promise.state, promise.exit_code, promise.attempts)
    assert calls <= promise.most_calls


@pytest.fixture(autouse=True)
def short_waits(change_timing: ChangeTiming) -> None:
    """Shorten pauses. What waits for what stays the same."""
    change_timing(busy_pause=0.01)


@pytest.mark.parametrize(("row", "kind"), PLAYS)
def test_a_row_of_the_matrix_ends_as_promised(
    row: Row,
    kind: str,
    empty_ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    played: list[Played],
    change_timing: ChangeTiming,
) -> None:
    if kind == PLAIN:
        monkeypatch.setattr(transport, "_sender", PlainHttpx)
        # httpx looks names up by the event loop, and that of uvloop does not see `pretend_names`.
        monkeypatch.setattr("uvloop.new_event_loop", asyncio.new_event_loop)
    change_timing(probe_limit=2.0 if row.health else 240.0)  # probes that are answered may take long on a busy machine
    if "429" in row.name:
        # With less, a slow machine checks the slot a second time within the drain.
        change_timing(shortest_retry_after=2.0)
    if kind == PLAIN and row.promise.plain_reason is not None:
        row = replace(row, promise=replace(row.promise, reason=row.promise.plain_reason))
    entry = Played(row.id, kind, str(row.promise))
    played.append(entry)
    with RawServer(row.act, row.hits, row.port_state, row.health) as server:
        names = pretend_names(monkeypatch, row.host)
        options = {"deep_url": f"{row.scheme}://{row.host}:{server.port}", **row.settings}
        # Equal faults of five documents are no fault of theirs. Other rows need fewer documents.
        is_about_five = row.promise.reason == HELD or "every_document" in row.promise.reason
        others = 2 if row.hits in {Hits.ALL, Hits.ONE, Hits.ONE_AND_AFTER} and not is_about_five else 5
        play = Play(server, empty_ledger, tmp_path, others, row.stage, **options)
        if row.hits in {Hits.ONE, Hits.ONE_AND_AFTER}:
            check_fault_of_one_document(row, play, entry)
        else:
            check_fault_of_the_slot(row, play, entry, names)
    entry.is_kept = True


def pretend_names(monkeypatch: pytest.MonkeyPatch, host: str) -> dict[str, str]:
    """Resolve `host` by the returned dict, which is empty at first."""
    known: dict[str, str] = {}
    real = socket.getaddrinfo

    def look_up(name: Any, *arguments: Any, **options: Any) -> Any:
        if name in {host, host.encode()} and host != "127.0.0.1":
            if host not in known:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            name = known[host]
        return real(name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def check_fault_of_the_slot(row: Row, play: Play, entry: Played, names: dict[str, str]) -> None:
    """Check the promise about the first drain. Then repair the server and check that all documents are done without blame."""
    promise, bench = row.promise, play.bench
    if row.sensor is not None:
        decision = decide_drain(play.settings(), bench.ledger)
        assert decision.launch == (row.sensor == "")
        assert row.sensor in decision.message
    summary = play.drain()
    item = bench.item(FIRST, row.stage)
    # If documents are done despite the fault, the limit is on the calls of one document.
    calls = play.server.calls(marked=True) if promise.state is State.DONE else len(play.server.requests)
    attempts = play.sum_of("attempts")
    reason = summary.reason if promise.exit_code else item["reason"]
    entry.seen = outcome(item["state"], reason, summary, calls, attempts)
    assert bench.slot().refusal_wait_seconds == promise.wait_seconds or promise.wait_seconds is None
    assert summary.failed == 0
    assert_kept(promise, item["state"], reason or "", exit_code(summary), calls, attempts)
    if promise.state is not State.DONE:
        assert set(play.states().values()) <= {State.PENDING, State.DEFERRED}
    play.server.mend()
    names[row.host] = "127.0.0.1"
    repaired: dict[str, Any] = {"deep_connect_timeout": 60.0, "deep_read_timeout": 240.0}
    if not row.is_mended_at_server:
        repaired |= {"deep_expected_model": ".*"}
    is_misconfigured = exit_code(summary) == MISCONFIGURED
    if row.scheme == "https" or (is_misconfigured and not row.is_mended_at_server):
        repaired |= {"deep_url": f"http://{row.host}:{play.server.port}", "deep_api_key": "the right one"}
    last = summary
    for _ in range(2):  # suspects run alone, after the others
        play.let_time_pass(HALF_AN_HOUR)
        last = play.drain(**repaired)
    assert set(play.states().values()) == {State.DONE}
    assert exit_code(last) == NOTHING_LEFT
    assert bench.sql("select 1 from results group by stage, input_digest having count(*) > 1") == []


def check_fault_of_one_document(row: Row, play: Play, entry: Played) -> None:
    """Drain until the document has its final state. All others must be done before it."""
    promise, bench = row.promise, play.bench
    summary = play.drain()
    others_done_after = 0
    for n in range(1, ROUNDS):
        if not others_done_after and all(play.states()[key] == State.DONE for key in play.others):
            others_done_after = n
        is_ended = play.states()[FIRST] in {State.FAILED, State.QUARANTINED}
        if is_ended or (promise.state is State.DEFERRED and 0 < others_done_after < n):
            break
        play.let_time_pass(OVER_AN_HOUR)
        summary = play.drain()
    item = bench.item(FIRST, row.stage)
    calls = play.server.calls(marked=True)
    entry.seen = outcome(item["state"], item["reason"], summary, calls, item["attempts"])
    entry.seen += f", others done after {others_done_after or 'never'}"
    code = exit_code(summary)
    if promise.state is State.DEFERRED:
        code = NOTHING_LEFT  # the document counts as deferred; the slot's breaker may be open or closed
    assert_kept(promise, item["state"], item["reason"], code, calls, item["attempts"])
    assert (
        0 < others_done_after <= 4
    )  # a suspect runs last at once, a document that is only refused from its third refusal on
    assert bench.sql("select 1 from work_items where attempts > 0 and state = 'done'") == []
