"""Finds the concurrency with the highest throughput of a slot, for `OFFLOAD_DEEP_CONCURRENCY=auto`.

The functions are pure: given a measurement at one concurrency, they return the next one to use. They compare two
neighbouring values at a time, and keep the higher one only if it does clearly more work per second. So the concurrency
climbs from 1 until that ends, backs off by one, and stays. From time to time it tries a higher or a lower value again,
because servers and documents change.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

# A higher concurrency is kept if it brings at least this part of the gain it would bring on an unloaded server.
NEEDED_GAIN = 0.2
CLEARLY = 0.5
# Calls to measure per unit of concurrency if the result is clear, and if it is not. FEWEST: two documents of two stages.
CLEAR_CALLS, ALL_CALLS, FEWEST_CALLS = 1.5, 10, 4
# Windows between two tests of another concurrency; doubled while the tests change nothing.
FIRST_STAY, LONGEST_STAY = 8, 64
# A slot has changed if its calls take this many times longer than when the concurrency was found, for no more work.
SLOWER = 1.5


class Phase(StrEnum):
    """What the current concurrency is for."""

    CLIMBING = "climbing"  # it is higher than the best known one, to see whether it does more work
    STAYING = "staying"  # it is the best known one
    DOUBTING = "doubting"  # it is lower than the best known one, to see whether that one is still worth it


@dataclass(frozen=True)
class Window:
    """A measurement at one concurrency. A call that lies partly outside the window counts with its part inside."""

    calls: float  # answered calls
    work: float  # their tokens, weighted
    seconds: float  # length of the window
    call_seconds: float  # mean duration of a call
    refused: int  # 429s since the last change of the concurrency
    held: int  # permits in use now


@dataclass(frozen=True)
class ConcurrencyState:
    """The current concurrency and the best known one. `known_concurrency` 0: none is known yet."""

    concurrency: int = 1
    phase: Phase = Phase.CLIMBING
    known_concurrency: int = 0
    known_rate: float = 0.0  # its work per second
    known_seconds: float = 0.0  # its mean duration of a call
    lone_rate: float = 0.0  # work per second at concurrency 1
    stay: int = FIRST_STAY  # windows left until another concurrency is tested
    next_stay: int = FIRST_STAY
    doubts_next: bool = False  # whether the next test is of a lower one
    has_met_a_limit: bool = False  # a hard limit (a 429, or the longest duration of a call): it now climbs one by one

    @property
    def is_found(self) -> bool:
        """Whether the current concurrency is the best known one."""
        return self.phase is Phase.STAYING

    @property
    def expected_seconds(self) -> float:
        """How long a call may take at this concurrency; older calls have ended and are recorded. 0.0 = not known."""
        return (
            self.known_seconds * max(1.0, self.concurrency / self.known_concurrency) if self.known_concurrency else 0.0
        )

    @property
    def settling_seconds(self) -> float:
        """For how long after a change calls still queue behind those of the old concurrency, in seconds."""
        return 0.0 if self.phase is Phase.STAYING else self.expected_seconds


def next_concurrency(
    now: ConcurrencyState, window: Window, *, widest: int, longest_seconds: float
) -> ConcurrencyState | None:
    """The next state after the measurement `window`; None = measure more calls first.

    `widest` limits the concurrency; a call may take `longest_seconds` on average. The next window begins with the returned
    state, even if it equals `now`.
    """
    if window.refused:
        return _limited(now)
    if now.concurrency > widest:
        return _stay_unmeasured(now, widest, now.next_stay)
    if window.calls < max(FEWEST_CALLS, CLEAR_CALLS * now.concurrency):
        return None
    if window.call_seconds > longest_seconds and now.concurrency > 1:
        return _limited(now)
    if window.held < now.concurrency:  # too little work, or a person's run: this shows nothing about the concurrency
        return now
    rate = window.work / window.seconds
    if not now.known_concurrency:
        return _first_known(now, window, rate, widest, longest_seconds)
    if now.phase is Phase.STAYING:
        return _stay_on(now, window, rate, widest, longest_seconds)
    return _compared(now, window, rate, widest)


def _first_known(
    now: ConcurrencyState, window: Window, rate: float, widest: int, longest_seconds: float
) -> ConcurrencyState:
    known = replace(now, known_concurrency=now.concurrency, known_rate=rate, known_seconds=window.call_seconds)
    if now.phase is Phase.STAYING:  # a limit lowered it, not a comparison
        return known
    known = replace(known, lone_rate=rate)
    return (
        _climb(known, widest)
        if window.call_seconds <= longest_seconds
        else _stay_at(known, now.concurrency, now.next_stay)
    )


def _compared(now: ConcurrencyState, window: Window, rate: float, widest: int) -> ConcurrencyState | None:
    """Compare the current concurrency with the best known one; None while the result is close and more calls may help."""
    if not (rate and now.known_rate):  # without any work there is nothing to compare
        return _stay_at(now, now.known_concurrency, _longer(now))
    is_higher = now.concurrency > now.known_concurrency
    low, high = sorted((now.concurrency, now.known_concurrency))
    gain = (rate / now.known_rate if is_higher else now.known_rate / rate) - 1
    at_best = (high - low) / low
    is_clear = not -CLEARLY * at_best < gain < (NEEDED_GAIN + CLEARLY) * at_best
    if not is_clear and window.calls < ALL_CALLS * now.concurrency:
        return None
    is_worth_it = gain >= NEEDED_GAIN * at_best
    if is_higher != is_worth_it:
        return _stay_at(now, now.known_concurrency, _longer(now))
    # Throughput grows at most in proportion to concurrency. A higher rate was luck, and the next comparison must not use it.
    likely_rate = min(rate, now.known_rate * (1 + at_best)) if is_higher else rate
    changed = replace(
        now,
        known_concurrency=now.concurrency,
        known_rate=likely_rate,
        known_seconds=window.call_seconds,
        next_stay=FIRST_STAY,
    )
    return _climb(changed, widest) if is_higher else _doubt(changed)


def _stay_on(
    now: ConcurrencyState, window: Window, rate: float, widest: int, longest_seconds: float
) -> ConcurrencyState:
    """One more window at the best known concurrency; at the end of the stay another one is tested."""
    has_slowed = window.call_seconds > SLOWER * now.known_seconds and rate <= now.known_rate
    updated = replace(
        now,
        known_rate=0.7 * now.known_rate + 0.3 * rate,
        known_seconds=0.7 * now.known_seconds + 0.3 * window.call_seconds,
        stay=now.stay - 1,
    )
    if has_slowed and now.concurrency > 1:
        return _doubt(replace(updated, known_rate=rate, known_seconds=window.call_seconds, next_stay=FIRST_STAY))
    if updated.stay > 0:
        return updated
    if now.doubts_next and now.concurrency > 1:
        return _doubt(updated)
    if window.call_seconds > longest_seconds:
        return _stay_at(updated, now.concurrency, _longer(now))
    return _climb(updated, widest)


def _climb(now: ConcurrencyState, widest: int) -> ConcurrencyState:
    step = 1 if now.has_met_a_limit else 1 + now.known_concurrency // 8
    higher = min(now.known_concurrency + step, widest)
    if higher <= now.known_concurrency:
        return _stay_at(now, now.known_concurrency, now.next_stay)
    return replace(now, concurrency=higher, phase=Phase.CLIMBING)


def _doubt(now: ConcurrencyState) -> ConcurrencyState:
    if now.known_concurrency <= 1:
        return _stay_at(now, now.known_concurrency, now.next_stay)
    return replace(now, concurrency=now.known_concurrency - 1, phase=Phase.DOUBTING)


def _limited(now: ConcurrencyState) -> ConcurrencyState:
    """After a 429, or calls that take too long: lower by one, and a longer stay before the next test."""
    lower = max(1, now.concurrency - 1)
    careful = replace(now, has_met_a_limit=True)
    if 0 < now.known_concurrency <= lower:
        return _stay_at(careful, now.known_concurrency, _longer(now))
    return _stay_unmeasured(careful, lower, _longer(now))


def _stay_unmeasured(now: ConcurrencyState, concurrency: int, stay: int) -> ConcurrencyState:
    """Stay at a concurrency without a measurement: the best known one is too high now."""
    return _stay_at(replace(now, known_concurrency=0), concurrency, stay)


def _stay_at(now: ConcurrencyState, concurrency: int, stay: int) -> ConcurrencyState:
    return replace(
        now,
        concurrency=concurrency,
        phase=Phase.STAYING,
        stay=stay,
        next_stay=stay,
        doubts_next=not now.doubts_next,
    )


def _longer(now: ConcurrencyState) -> int:
    return min(2 * now.next_stay, LONGEST_STAY)
