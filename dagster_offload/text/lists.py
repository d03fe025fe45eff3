"""Lists as people write them: in sentences (`a, b and c`) and in settings (`a, b, c`)."""

from collections.abc import Sequence


def listed(words: Sequence[str], conjunction: str = "and") -> str:
    """The words with commas, and the conjunction before the last one."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def comma_separated(text: str) -> list[str]:
    """The entries of a setting with several values. Blank ones do not count."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]
