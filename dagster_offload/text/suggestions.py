"""The word that a person probably meant, in the sentences of errors. Pure."""

import difflib
from collections.abc import Iterable


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that `word` was probably meant to be, or None."""
    found = difflib.get_close_matches(word, list(words), n=1)
    return found[0] if found else None


def hint(word: str, words: Iterable[str], otherwise: str) -> str:
    """`did you mean classify?`; `otherwise` if no word is near."""
    meant = nearest(word, words)
    return otherwise if meant is None else f"did you mean {meant}?"


def use_one_of(word: str, words: Iterable[str]) -> str:
    """`did you mean classify?`, or the list of words if none is near."""
    names = list(words)
    return hint(word, names, f"use one of {', '.join(names)}")


def suggestion(word: str, words: Iterable[str]) -> str:
    """` (did you mean classify?)`, to append to a message; empty if no word is near."""
    found = hint(word, words, "")
    return f" ({found})" if found else ""


def no_such(noun: str, name: str, known: Iterable[str], if_none: str = "") -> str:
    """`there is no slot 'dep': did you mean deep?`, or the list of what there is. `if_none`: what to do if there is nothing."""
    names = list(known)
    listed = f"the {noun}s are {', '.join(names)}" if names else if_none
    return f"there is no {noun} {name!r}: {hint(name, names, listed)}"
