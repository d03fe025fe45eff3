"""How many completions to keep open at a slot: found by trying, for `OFFLOAD_DEEP_CONCURRENCY=auto`.

Pure: fed with what a slot did at one width, it names the next. Two neighbouring widths are compared at a time, and the
wider one has to earn its place by more work per second. So it climbs from 1 until that ends, goes back one, stays, and
tries again now and then, upwards and downwards, because servers and documents change.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

# A wider width stays where it brings at least this part of what it would bring on a server with a place to spare.
NEEDED_GAIN = 0.2
CLEARLY = 0.5
# Calls to look at per width: enough where the answer is clear, and where it is not. At least two documents of two stages.
CLEAR_CALLS, ALL_CALLS, FEWEST_CALLS = 1.5, 10, 4
# Windows between two trials of another width; doubled while trials change nothing.
FIRST_STAY, LONGEST_STAY = 8, 64
# A slot whose calls take this much longer than when the width was found, at no more work, has changed.
SLOWER = 1.5


class Phase(StrEnum):
    CLIMBING = "climbing"  # this width is wider than the best known one: has it earned its place?
    STAYING = "staying"  # this width is the best known one
    DOUBTING = "doubting"  # this width is narrower than the best known one: was that one worth it?


@dataclass(frozen=True)
class Window:
    """What a slot did in a stretch of time at one width. A call that reaches out of it counts with its part inside."""

    calls: float  # answered
    work: float  # tokens of them, however weighted
    seconds: float  # of the stretch
    call_seconds: float  # of one call, on average
    refused: int  # 429s since the width was last changed
    held: int  # permits in use now


@dataclass(frozen=True)
class ConcurrencyState:
    """A width, and what is known of the best one so far. `known_width` 0: of none."""

    width: int = 1
    phase: Phase = Phase.CLIMBING
    known_concurrency: int = 0
    known_rate: float = 0.0  # work per second of the slot
    known_seconds: float = 0.0  # of one call
    lone_rate: float = 0.0  # work per second at the first width, 1
    stay: int = FIRST_STAY  # windows left until another width is tried
    next_stay: int = FIRST_STAY
    doubts_next: bool = False  # whether that is a narrower one
    has_met_a_limit: bool = False  # a hard one (429, a call's time): from then on it climbs one by one

    @property
    def is_found(self) -> bool:
        return self.phase is Phase.STAYING

    @property
    def expected_seconds(self) -> float:
        """What a call may take here: so long after its beginning it has ended, and is known. 0.0 = not known."""
        return self.known_seconds * max(1.0, self.width / self.known_concurrency) if self.known_concurrency else 0.0

    @property
    def settling_seconds(self) -> float:
        """How long after a change calls still meet the old width's line at the server."""
        return 0.0 if self.phase is Phase.STAYING else self.expected_seconds


def next_concurrency(
    now: ConcurrencyState, seen: Window, *, widest: int, longest_seconds: float
) -> ConcurrencyState | None:
    """The width to go on with, after `seen` at this one; None = look at more calls first.

    `widest` bounds the width; a call may take `longest_seconds` on average. Whatever is returned (it may equal `now`),
    the next window begins with it.
    """
    if seen.refused:
        return _limited(now)
    if now.width > widest:
        return _stay_at_unknown(now, widest, now.next_stay)
    if seen.calls < max(FEWEST_CALLS, CLEAR_CALLS * now.width):
        return None
    if seen.call_seconds > longest_seconds and now.width > 1:
        return _limited(now)
    if seen.held < now.width:  # too little work, or a person's: nothing is learned about this width
        return now
    rate = seen.work / seen.seconds
    if not now.known_concurrency:
        return _first_known(now, seen, rate, widest, longest_seconds)
    if now.phase is Phase.STAYING:
        return _stay_on(now, seen, rate, widest, longest_seconds)
    return _compared(now, seen, rate, widest)


def _first_known(
    now: ConcurrencyState, seen: Window, rate: float, widest: int, longest_seconds: float
) -> ConcurrencyState:
    known = replace(now, known_concurrency=now.width, known_rate=rate, known_seconds=seen.call_seconds)
    if now.phase is Phase.STAYING:  # it was narrowed, and not by a comparison
        return known
    known = replace(known, lone_rate=rate)
    return _climb(known, widest) if seen.call_seconds <= longest_seconds else _stay_at(known, now.width, now.next_stay)


def _compared(now: ConcurrencyState, seen: Window, rate: float, widest: int) -> ConcurrencyState | None:
    """The verdict between this width and the best known one; None while it is a close one and more calls may tell."""
    if not (rate and now.known_rate):  # of no work there is no more and no less
        return _stay_at(now, now.known_concurrency, _longer(now))
    is_wider = now.width > now.known_concurrency
    narrow, wide = sorted((now.width, now.known_concurrency))
    gain = (rate / now.known_rate if is_wider else now.known_rate / rate) - 1
    at_best = (wide - narrow) / narrow
    is_clear = not -CLEARLY * at_best < gain < (NEEDED_GAIN + CLEARLY) * at_best
    if not is_clear and seen.calls < ALL_CALLS * now.width:
        return None
    is_worth_it = gain >= NEEDED_GAIN * at_best
    if is_wider != is_worth_it:
        return _stay_at(now, now.known_concurrency, _longer(now))
    # No server does more than in proportion: what seems more was luck, and the next width would be measured against it.
    likely_rate = min(rate, now.known_rate * (1 + at_best)) if is_wider else rate
    changed = replace(
        now, known_concurrency=now.width, known_rate=likely_rate, known_seconds=seen.call_seconds, next_stay=FIRST_STAY
    )
    return _climb(changed, widest) if is_wider else _doubt(changed)


def _stay_on(now: ConcurrencyState, seen: Window, rate: float, widest: int, longest_seconds: float) -> ConcurrencyState:
    """One more window at the best known width; at the end of the stay another width is tried."""
    has_slowed = seen.call_seconds > SLOWER * now.known_seconds and rate <= now.known_rate
    fresher = replace(
        now,
        known_rate=0.7 * now.known_rate + 0.3 * rate,
        known_seconds=0.7 * now.known_seconds + 0.3 * seen.call_seconds,
        stay=now.stay - 1,
    )
    if has_slowed and now.width > 1:
        return _doubt(replace(fresher, known_rate=rate, known_seconds=seen.call_seconds, next_stay=FIRST_STAY))
    if fresher.stay > 0:
        return fresher
    if now.doubts_next and now.width > 1:
        return _doubt(fresher)
    if seen.call_seconds > longest_seconds:
        return _stay_at(fresher, now.width, _longer(now))
    return _climb(fresher, widest)


def _climb(now: ConcurrencyState, widest: int) -> ConcurrencyState:
    step = 1 if now.has_met_a_limit else 1 + now.known_concurrency // 8
    wider = min(now.known_concurrency + step, widest)
    if wider <= now.known_concurrency:
        return _stay_at(now, now.known_concurrency, now.next_stay)
    return replace(now, width=wider, phase=Phase.CLIMBING)


def _doubt(now: ConcurrencyState) -> ConcurrencyState:
    if now.known_concurrency <= 1:
        return _stay_at(now, now.known_concurrency, now.next_stay)
    return replace(now, width=now.known_concurrency - 1, phase=Phase.DOUBTING)


def _limited(now: ConcurrencyState) -> ConcurrencyState:
    """A 429, or calls that take too long: narrower by one, and a longer stay before that is tried again."""
    narrower = max(1, now.width - 1)
    careful = replace(now, has_met_a_limit=True)
    if 0 < now.known_concurrency <= narrower:
        return _stay_at(careful, now.known_concurrency, _longer(now))
    return _stay_at_unknown(careful, narrower, _longer(now))


def _stay_at_unknown(now: ConcurrencyState, width: int, stay: int) -> ConcurrencyState:
    """At a width that nothing is known about: what is known was measured at one that is too wide now."""
    return _stay_at(replace(now, known_concurrency=0), width, stay)


def _stay_at(now: ConcurrencyState, width: int, stay: int) -> ConcurrencyState:
    return replace(
        now,
        width=width,
        phase=Phase.STAYING,
        stay=stay,
        next_stay=stay,
        doubts_next=not now.doubts_next,
    )


def _longer(now: ConcurrencyState) -> int:
    return min(2 * now.next_stay, LONGEST_STAY)
