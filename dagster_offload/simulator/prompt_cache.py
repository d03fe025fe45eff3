"""The stand-in router's places and their prompt caches, so that reading a document twice shows in numbers.

As llama.cpp's server does it: each place works on one prompt at a time and keeps it afterwards. A new prompt goes to the
idle place whose kept prompt is most like it, else to the one idle for longest, and is read from where the two differ.
"""

from dataclasses import dataclass

# A prompt that shares less than this part of itself goes to the place idle for longest (llama.cpp's default).
LIKE_ENOUGH = 0.1


@dataclass(eq=False)
class CacheSlot:
    prompt: str = ""
    last_used: int = 0
    is_busy: bool = False


class Places:
    """At most `width` prompts worked on at once."""

    def __init__(self) -> None:
        self._places: list[CacheSlot] = []
        self._uses = 0

    def has_idle(self, width: int) -> bool:
        return sum(place.is_busy for place in self._places) < width

    def take(self, prompt: str, width: int) -> tuple[CacheSlot, int]:
        """An idle place for `prompt`, and how many of its characters that place has read already."""
        idle = [place for place in self._places if not place.is_busy]
        if len(self._places) < width:
            idle.append(CacheSlot())
        best = max(idle, key=lambda place: _common_prefix(prompt, place.prompt))
        shared = _common_prefix(prompt, best.prompt)
        if shared < LIKE_ENOUGH * len(prompt):
            best = min(idle, key=lambda place: place.last_used)
            shared = _common_prefix(prompt, best.prompt)
        if best not in self._places:
            self._places.append(best)
        self._uses += 1
        best.prompt, best.last_used, best.is_busy = prompt, self._uses, True
        return best, shared

    def give_back(self, place: CacheSlot, width: int) -> None:
        place.is_busy = False
        surplus = len(self._places) - width
        for idle in [other for other in self._places if not other.is_busy][: max(0, surplus)]:
            self._places.remove(idle)


def _common_prefix(left: str, right: str) -> int:
    """By halving: documents are long, and comparing slices is fast."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
