"""The word that a person probably meant, in the sentences of errors. Pure."""

import difflib
from collections.abc import Iterable


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that `word` was probably meant to be, or None."""
    found = difflib.get_close_matches(word, list(words), n=1)
    return found[0] if found else None


def did_you_mean(meant: str | None, otherwise: str = "") -> str:
    """`did you mean classify?`; `otherwise` if no word is near."""
    return f"did you mean {meant}?" if meant else otherwise


def suggestion(word: str, words: Iterable[str]) -> str:
    """` (did you mean classify?)`, to append to a message; empty if no word is near."""
    hint = did_you_mean(nearest(word, words))
    return f" ({hint})" if hint else ""


def no_such(noun: str, name: str, known: Iterable[str], if_none: str = "") -> str:
    """`there is no slot 'dep': did you mean deep?`, or the list of what there is. `if_none`: what to do if there is nothing."""
    names = list(known)
    listed = f"the {noun}s are {', '.join(names)}" if names else if_none
    return f"there is no {noun} {name!r}: {did_you_mean(nearest(name, names), listed)}"
