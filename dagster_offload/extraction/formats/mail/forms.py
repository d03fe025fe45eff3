"""Choose which form of a mail's body is read: the plain one, unless it only refers to a longer one. No I/O."""

from collections.abc import Sequence

# A plain form that is so much shorter than the HTML form only says that there is one.
_MUCH_LONGER = 3


def chosen_form(forms: Sequence[str]) -> str:
    """Return one of several forms of the same text, the plainest of which comes first (RFC 2046, 5.1.4). "" for none."""
    longest = max(forms, key=_letters, default="")
    return longest if not forms or _letters(longest) > _MUCH_LONGER * _letters(forms[0]) else forms[0]


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))
