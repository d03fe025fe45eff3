"""The stand-in router's prompt caches, which show in numbers whether a document is read twice.

They work as in llama.cpp's server. Each cache serves one prompt at a time and keeps it afterwards. A new prompt goes to
the idle cache with the longest common prefix, or else to the least recently used one. It is read from where the two differ.
"""

from dataclasses import dataclass

# A prompt that shares less than this fraction of itself goes to the least recently used cache (llama.cpp's default).
SHARED_FRACTION = 0.1


@dataclass(eq=False)
class PromptCache:
    """One prompt cache: the prompt it holds, when it was last used, and whether a completion uses it now."""

    prompt: str = ""
    last_used: int = 0
    is_busy: bool = False


class PromptCaches:
    """The caches of one server: at most `size` of them, each for one completion at a time."""

    def __init__(self) -> None:
        self._caches: list[PromptCache] = []
        self._uses = 0

    def has_idle(self, size: int) -> bool:
        """Return whether fewer than `size` caches are busy."""
        return sum(cache.is_busy for cache in self._caches) < size

    def take(self, prompt: str, size: int) -> tuple[PromptCache, int]:
        """Reserve an idle cache for `prompt`. Returns it and how many of the prompt's characters it already holds."""
        idle = [cache for cache in self._caches if not cache.is_busy]
        if len(self._caches) < size:
            idle.append(PromptCache())
        best = max(idle, key=lambda cache: _common_prefix(prompt, cache.prompt))
        shared = _common_prefix(prompt, best.prompt)
        if shared < SHARED_FRACTION * len(prompt):
            best = min(idle, key=lambda cache: cache.last_used)
            shared = _common_prefix(prompt, best.prompt)
        if best not in self._caches:
            self._caches.append(best)
        self._uses += 1
        best.prompt, best.last_used, best.is_busy = prompt, self._uses, True
        return best, shared

    def release(self, cache: PromptCache, size: int) -> None:
        """Make a cache idle again, and remove idle caches beyond `size`."""
        cache.is_busy = False
        surplus = len(self._caches) - size
        for idle in [other for other in self._caches if not other.is_busy][: max(0, surplus)]:
            self._caches.remove(idle)


def _common_prefix(left: str, right: str) -> int:
    """The length of the common prefix. Uses bisection, because documents are long and comparing slices is fast."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
