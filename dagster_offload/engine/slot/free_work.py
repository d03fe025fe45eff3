"""Whether work that a slot could do now is free: no earlier stage and no other worker holds it back."""

import time
from collections.abc import Callable, Sequence

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.work import claims

# A look that finds none reads all that is held back. So looking takes at most a tenth of the time, or a look a minute.
PAUSE_FOR_EACH_SECOND = 10.0
LONGEST_PAUSE = 60.0


def pause_after(seconds: float) -> float:
    """The seconds to wait after a look that took `seconds` and found nothing."""
    return min(seconds * PAUSE_FOR_EACH_SECOND, LONGEST_PAUSE)


class FreeWork:
    """Looks for free work. After a long look that found none, it pauses. One for each sensor."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_look: dict[str, tuple[tuple[str, ...], float]] = {}  # by slot: the stages, and when on the clock

    def is_any(self, ledger: Ledger, stages: Sequence[str], slot: str) -> bool:
        """Whether any work of `stages` that is due at the slot is free. False if it is too early to look again."""
        began = self._clock()
        looked_for, next_look = self._next_look.get(slot, ((), began))
        if looked_for == tuple(stages) and began < next_look:
            return False
        if ledger.run(claims.is_any_free, stages, slot):
            return True
        ended = self._clock()
        self._next_look[slot] = tuple(stages), ended + pause_after(ended - began)
        return False
