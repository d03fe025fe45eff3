"""The word that a person probably meant. Pure."""

import difflib
from collections.abc import Iterable


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that `word` was probably meant to be, or None."""
    found = difflib.get_close_matches(word, list(words), n=1)
    return found[0] if found else None


def suggestion(word: str, words: Iterable[str]) -> str:
    """` (did you mean 'classify'?)`, to append to a message; empty if no word is near."""
    found = nearest(word, words)
    return "" if found is None else f" (did you mean {found!r}?)"
