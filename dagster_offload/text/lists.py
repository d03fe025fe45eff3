"""Lists in sentences: `a`, `a and b`, `a, b and c`."""

from collections.abc import Sequence


def listed(words: Sequence[str], conjunction: str = "and") -> str:
    """The words with commas, and the conjunction before the last one."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last
