"""Automatic concurrency against simulated servers of several kinds."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_offload.ledger.slots.auto_concurrency import (
    LONGEST_STAY,
    ConcurrencyState,
    Phase,
    Window,
    next_concurrency,
)

PATIENT = 1e6  # seconds that a call may take: no limit


@dataclass
class Server:
    """A server whose calls take `seconds(concurrency)`, plus or minus `noise`. It refuses more than `refuses_above` at once."""

    seconds: Callable[[int], float]
    refuses_above: int = 10_000
    noise: float = 0.0
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def rate(self, concurrency: int) -> float:
        """Calls per second at a concurrency. Refused calls take no time."""
        concurrency = min(concurrency, self.refuses_above)
        return concurrency / self.seconds(concurrency)

    def window(self, concurrency: int, calls: int) -> Window:
        served = min(concurrency, self.refuses_above)
        took = sum(self.seconds(served) * self.dice.lognormvariate(0, self.noise) for _ in range(calls))
        return Window(calls, float(calls), took / concurrency, took / calls, max(0, concurrency - served), concurrency)


def flat_then_linear(k: int) -> Callable[[int], float]:
    """A server that works on k calls at once; further calls wait in a queue."""
    return lambda concurrency: 2.0 * max(1.0, concurrency / k)


def saturating(part: float) -> Callable[[int], float]:
    """A batch server: each additional call slows all calls by `part` of a call's time."""
    return lambda concurrency: 2.0 * (1 + part * (concurrency - 1))


def play(
    server: Server,
    windows: int = 150,
    start: ConcurrencyState | None = None,
    widest: int = 512,
    longest: float = PATIENT,
) -> list[ConcurrencyState]:
    """The states of the controller, one per decision."""
    now, window = start or ConcurrencyState(), []
    for _ in range(windows):
        for rounds in range(2, 12):
            verdict = next_concurrency(
                now,
                server.window(now.concurrency, max(4, rounds * now.concurrency)),
                widest=widest,
                longest_seconds=longest,
            )
            if verdict is not None:
                break
        else:
            pytest.fail("no verdict after all the calls it may ask for")
        now = verdict
        window.append(now)
    return window


def found(history: list[ConcurrencyState]) -> int:
    """The most frequent concurrency of the last third."""
    tail = [state.concurrency for state in history[-len(history) // 3 :]]
    return max(set(tail), key=tail.count)


def yield_of(server: Server, history: list[ConcurrencyState], best: float) -> float:
    """Work per second over the last two thirds, as a part of the best possible."""
    tail = history[len(history) // 3 :]
    return sum(server.rate(state.concurrency) for state in tail) / len(tail) / best


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6, 8, 12, 20, 40])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_it_settles_at_the_limit_of_a_server_with_k_workers(k: int, noise: float) -> None:
    server = Server(flat_then_linear(k), noise=noise)
    history = play(server)
    assert k * 0.85 - 1 <= found(history) <= k * 1.2 + 1
    assert yield_of(server, history, server.rate(k)) >= 0.9


@pytest.mark.parametrize("part", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_on_a_batch_server_it_settles_where_more_calls_bring_little(part: float, noise: float) -> None:
    server = Server(saturating(part), noise=noise)
    history = play(server)
    there = found(history)
    assert server.rate(there + 1) / server.rate(there) - 1 < 0.6 / there, "one more call would have been worth it"
    assert yield_of(server, history, 1 / (2.0 * part)) >= 0.5


@pytest.mark.parametrize("k", [1, 2, 6, 13])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_limit_of_a_server_that_refuses_above_k_is_found_with_few_refusals(k: int, noise: float) -> None:
    server = Server(lambda _: 2.0, refuses_above=k, noise=noise)
    history = play(server, 300)
    assert found(history) == k
    assert sum(state.concurrency > k for state in history) <= 12
    assert yield_of(server, history, server.rate(k)) >= 0.95


def test_the_first_steps_are_by_one_and_later_steps_are_larger() -> None:
    found_concurrencies = [state.concurrency for state in play(Server(lambda _: 1.0), 14)]
    assert found_concurrencies == [2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 19, 22, 25]


def test_it_stops_at_the_maximum() -> None:
    history = play(Server(lambda _: 1.0), widest=6)
    assert max(state.concurrency for state in history) == found(history) == 6


def test_calls_take_no_longer_than_the_longest_accepted_time() -> None:
    server = Server(saturating(0.2))  # 2 s alone, and 0.4 s more for each concurrent call
    history = play(server, longest=3.3)
    assert found(history) == 4
    assert max(state.concurrency for state in history) == 5, "it goes one step over the limit and sees it"


def test_it_stays_at_1_if_a_single_call_takes_too_long() -> None:
    assert {state.concurrency for state in play(Server(flat_then_linear(6)), longest=1.0)} == {1}


@pytest.mark.parametrize(("before", "after"), [(3, 8), (8, 3), (6, 1)])
def test_it_follows_a_server_that_changes(before: int, after: int) -> None:
    now = play(Server(flat_then_linear(before)))[-1]
    assert abs(found(play(Server(flat_then_linear(after)), 300, now)) - after) <= 1


def test_it_climbs_again_when_the_server_accepts_more_calls() -> None:
    now = play(Server(lambda _: 2.0, refuses_above=3), 60)[-1]
    assert found(play(Server(lambda _: 2.0, refuses_above=9), 600, now)) == 9


def test_tests_of_other_values_become_rare() -> None:
    history = play(Server(flat_then_linear(4)), 300)
    assert history[-1].next_stay == LONGEST_STAY
    assert sum(state.phase is not Phase.STAYING for state in history[-128:]) <= 4


def test_a_429_lowers_the_concurrency_at_once() -> None:
    now = ConcurrencyState(concurrency=7, known_concurrency=6, known_rate=3.0, known_seconds=2.0)
    lowered = next_concurrency(now, Window(0, 0, 0, 0, 1, 7), widest=512, longest_seconds=PATIENT)
    assert lowered is not None
    assert (lowered.concurrency, lowered.phase) == (6, Phase.STAYING)


def test_a_window_without_work_keeps_the_best_known_concurrency() -> None:
    now = ConcurrencyState()
    for _ in range(3):
        window = Window(calls=40, work=0.0, seconds=10, call_seconds=1, refused=0, held=now.concurrency)
        now = next_concurrency(now, window, widest=8, longest_seconds=900) or now
    assert now.concurrency == 1


def test_a_window_with_unused_permits_changes_nothing() -> None:
    now = ConcurrencyState(concurrency=4, known_concurrency=3, known_rate=1.5, known_seconds=2.0)
    assert next_concurrency(now, Window(40, 40, 40, 1, 0, 3), widest=512, longest_seconds=PATIENT) == now


def measured(ended: list[tuple[float, float]], t0: float, t1: float, concurrency: int) -> Window:
    """What the ledger measures between `t0` and `t1`: the parts inside of calls, given as (end, begin)."""
    inside = [(end, begun) for end, begun in ended if end > t0 and begun < t1]
    if not inside:
        return Window(0, 0, 0, 0, 0, concurrency)
    parts = sum((min(end, t1) - max(begun, t0)) / (end - begun) for end, begun in inside)
    mean = sum(end - begun for end, begun in inside) / len(inside)
    return Window(parts, parts, t1 - t0, mean, 0, concurrency)


def simulate_queue(capacity: int, noise: float, until: float, seed: int = 7) -> list[ConcurrencyState]:
    """Simulate a server that works on `capacity` calls and queues the others, with as many lanes as the concurrency. The
    controller runs after each call, as in the ledger. A call takes 2 s of work."""
    dice, now, state, changed = random.Random(seed), 0.0, ConcurrencyState(), 0.0
    waiting: list[float] = [0.0]  # when each call began, as its lane sees it
    served: list[tuple[float, float]] = []  # when each call ends, and when it began
    ended: list[tuple[float, float]] = []
    history = []
    while now < until:
        while waiting and len(served) < capacity:
            heapq.heappush(served, (now + 2.0 * dice.lognormvariate(0, noise), waiting.pop(0)))
        now, begun = heapq.heappop(served)
        ended.append((now, begun))
        window = measured(ended, changed + state.settling_seconds, now - state.expected_seconds, state.concurrency)
        following = next_concurrency(state, window, widest=64, longest_seconds=PATIENT)
        if following is not None:
            state, changed, ended = following, now, []  # calls that began before are recorded when they end
            history.append(state)
        waiting += [now] * (state.concurrency - len(waiting) - len(served))
    return history


@pytest.mark.parametrize("capacity", [1, 3, 6, 12])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_queue_that_builds_up_after_an_increase_is_no_gain(capacity: int, noise: float) -> None:
    history = simulate_queue(capacity, noise, until=1500.0)
    assert max(state.concurrency for state in history) <= 1.35 * capacity + 3
    assert capacity * 0.8 - 1 <= found(history) <= capacity * 1.25 + 1


@settings(max_examples=300, deadline=None)
@given(
    k=st.integers(1, 40),
    part=st.floats(0, 0.5),
    refuses_above=st.integers(1, 60),
    noise=st.floats(0, 1.5),
    widest=st.integers(1, 512),
    longest=st.floats(0.1, 100),
    seed=st.integers(0, 2**32),
)
def test_it_never_leaves_its_bounds(
    k: int, part: float, refuses_above: int, noise: float, widest: int, longest: float, seed: int
) -> None:
    server = Server(
        lambda concurrency: flat_then_linear(k)(concurrency) * (1 + part * concurrency),
        refuses_above,
        noise,
        random.Random(seed),
    )
    history = play(server, 40, widest=widest, longest=longest)
    assert all(1 <= state.concurrency <= widest for state in history)
    assert history[0].concurrency <= 2


@given(concurrency=st.integers(2, 512), widest=st.integers(1, 512))
def test_a_lowered_bound_holds_at_once(concurrency: int, widest: int) -> None:
    now = replace(
        ConcurrencyState(), concurrency=concurrency, known_concurrency=concurrency, known_rate=1.0, known_seconds=1.0
    )
    after = next_concurrency(now, Window(0, 0, 0, 0, 0, concurrency), widest=widest, longest_seconds=PATIENT)
    assert after is None if concurrency <= widest else after is not None and after.concurrency == widest
