"""Every row of the fault matrix ends as promised, through the real engine, over real sockets, on a real ledger."""

import functools
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from dagster_offload import errors, gate, probe, transport, walk
from dagster_offload.drain import DrainSummary, look_for_drain, run_drain
from dagster_offload.ledger import Ledger, slots
from dagster_offload.ledger.records import State
from dagster_offload.settings import Settings, load_settings
from dagster_offload.trial import trial
from tests.faults.conftest import Played
from tests.faults.matrix import MATRIX, NOTHING_LEFT, WRONG, Promise, Row
from tests.faults.raw_server import ALIAS, MARK, Hits, RawServer
from tests.ledger.conftest import Bench

PRODUCT, PLAIN = "aiohttp", "plain httpx"
OTHERS = [f"other-{n}.txt" for n in range(5)]  # with the first: as many as make a slot of documents' equal faults
FIRST = (
    "a-first.txt"  # the oldest, so that nothing is done before it: a fault of one document must not hold up the rest
)
ROUNDS = 7

PLAYS = [
    pytest.param(row, kind, id=re.sub(r"\W+", "-", f"{row.id} {kind}"))
    for row in MATRIX
    for kind in ((PRODUCT, PLAIN) if row.is_plain_too else (PRODUCT,))
]


def plain_transport(context: Any, *, is_fresh: bool, proxy: str | None = None) -> httpx.AsyncHTTPTransport:
    kept = 0 if is_fresh else 20
    return httpx.AsyncHTTPTransport(
        verify=context or False, limits=httpx.Limits(max_keepalive_connections=kept), proxy=proxy
    )


class Play:
    """A row on its bench: a server, a library of documents, and a drain as often as time allows."""

    def __init__(self, row: Row, server: RawServer, ledger: Ledger, home: Path) -> None:
        self.row, self.server, self.bench = row, server, Bench(ledger)
        self._options: dict[str, Any] = {
            "home": home,
            "deep_url": f"{row.scheme}://{row.host}:{server.port}",
            "deep_model": ALIAS,
            "deep_connect_timeout": 5.0,
            "deep_read_timeout": 10.0,
            **row.settings,
        }
        deep = self.settings().slots.deep
        assert deep is not None
        ledger.run(slots.register, deep)
        self.bench.extracted(FIRST, *OTHERS, texts={FIRST: f"This one is {MARK}, an invoice."})

    def settings(self, **changes: Any) -> Settings:
        return load_settings(**(self._options | changes))

    def drain(self, **changes: Any) -> DrainSummary:
        return run_drain(self.settings(**changes), self.bench.ledger, self.row.stage)

    def let_time_pass(self) -> None:
        """Eleven minutes for suspicions, a breaker's next look, the end of every wait."""
        self.bench.sql("update cuts set at = at - interval '11 minutes'")
        self.bench.sql("update slots set retry_at = clock_timestamp() where retry_at is not null")
        self.bench.make_due()

    def states(self) -> dict[str, str]:
        return {key: self.bench.state(key, self.row.stage) for key in (FIRST, *OTHERS)}


def exit_code(summary: DrainSummary) -> int:
    """As `dagster-offload drain` ends."""
    return WRONG if summary.is_misconfigured else 75 if summary.is_slot_away else NOTHING_LEFT


def seen(state: str, reason: str | None, summary: DrainSummary, calls: int, attempts: int) -> str:
    return f"{state} ({reason}), attempts {attempts}, exit {exit_code(summary)}, calls {calls}"


def assert_kept(promise: Promise, state: str, reason: str | None, code: int, calls: int, attempts: int) -> None:
    assert any(words in str(reason) for words in promise.reason.split("|"))
    assert (state, code, attempts) == (promise.state, promise.exit_code, promise.attempts)
    assert calls <= promise.most_calls


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses and time limits for a test's patience; who waits for what stays as it is."""
    monkeypatch.setattr(walk, "BUSY_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(probe, "TOTAL_SECONDS", 2.0)


@pytest.mark.parametrize(("row", "kind"), PLAYS)
def test_a_row_of_the_matrix_ends_as_promised(
    row: Row, kind: str, empty_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, played: list[Played]
) -> None:
    if kind == PLAIN:
        monkeypatch.setattr(transport, "_transport", plain_transport)
    if "429" in row.name:
        monkeypatch.setattr(errors, "MIN_RETRY_AFTER_SECONDS", 0.1)
    limit = float(row.settings.get("deep_read_timeout", 20.0))
    monkeypatch.setattr(gate, "trial", functools.partial(trial, limit_seconds=limit))
    entry = Played(row.id, kind, str(row.promise))
    played.append(entry)
    with RawServer(row.act, row.hits, row.door, row.health) as server:
        names = pretend_names(monkeypatch, row.host)
        play = Play(row, server, empty_ledger, tmp_path)
        if row.hits is Hits.ONE:
            one_document_pays(play, entry)
        else:
            the_slot_pays(play, entry, names)
    entry.is_kept = True


def pretend_names(monkeypatch: pytest.MonkeyPatch, host: str) -> dict[str, str]:
    """A name server of the test's own for `host`: it knows nothing until it is told."""
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


def the_slot_pays(play: Play, entry: Played, names: dict[str, str]) -> None:
    """The promise about the first drain; then the server is mended and everything is done, nobody blamed."""
    promise, bench, stage = play.row.promise, play.bench, play.row.stage
    if play.row.sensor is not None:
        decision = look_for_drain(play.settings(), bench.ledger)
        assert decision.launch == (play.row.sensor == "")
        assert play.row.sensor in decision.words
    summary = play.drain()
    item = bench.item(FIRST, stage)
    calls = len(play.server.asked)
    (attempts,) = (row["n"] for row in bench.sql("select sum(attempts)::int as n from work_items"))
    reason = summary.reason if promise.exit_code else item["reason"]
    entry.seen = seen(item["state"], reason, summary, calls, attempts)
    assert bench.slot().refusal_wait_seconds == promise.wait_seconds or promise.wait_seconds is None
    if promise.state is State.DONE:
        calls = play.server.calls(marked=True)
    assert summary.failed == 0
    assert_kept(promise, item["state"], reason or "", exit_code(summary), calls, attempts)
    if promise.state is not State.DONE:
        assert set(play.states().values()) <= {State.PENDING, State.DEFERRED}
    play.server.mend()
    names[play.row.host] = "127.0.0.1"
    mended: dict[str, Any] = {"deep_connect_timeout": 5.0, "deep_read_timeout": 10.0, "deep_expected_model": ".*"}
    if play.row.scheme == "https" or exit_code(summary) == WRONG:
        mended |= {"deep_url": f"http://{play.row.host}:{play.server.port}", "deep_api_key": "the right one"}
    last = summary
    for _ in range(2):  # who was suspected runs alone, after the others
        play.let_time_pass()
        last = play.drain(**mended)
    assert set(play.states().values()) == {State.DONE}
    assert exit_code(last) == NOTHING_LEFT
    assert bench.sql("select 1 from results group by stage, input_digest having count(*) > 1") == []


def one_document_pays(play: Play, entry: Played) -> None:
    """Time goes on until the document's end, which comes after all others are done, and is its own."""
    promise, bench = play.row.promise, play.bench
    summary = play.drain()
    others_done_after = 0
    for n in range(1, ROUNDS):
        if not others_done_after and all(play.states()[key] == State.DONE for key in OTHERS):
            others_done_after = n
        is_ended = play.states()[FIRST] in {State.FAILED, State.QUARANTINED}
        if is_ended or (promise.state is State.DEFERRED and 0 < others_done_after < n):
            break
        play.let_time_pass()
        summary = play.drain()
    item = bench.item(FIRST, play.row.stage)
    calls = play.server.calls(marked=True)
    entry.seen = seen(item["state"], item["reason"], summary, calls, item["attempts"])
    entry.seen += f", others done after {others_done_after or 'never'}"
    code = exit_code(summary)
    if promise.state is State.DEFERRED:
        code = NOTHING_LEFT  # its own waiting is told as `deferred`; whether the slot is open just now is no matter
    assert_kept(promise, item["state"], item["reason"], code, calls, item["attempts"])
    assert 0 < others_done_after <= 4  # a suspect comes last at once, what is only refused from its third time on
    assert bench.sql("select 1 from work_items where attempts > 0 and state = 'done'") == []
