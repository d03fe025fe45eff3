"""Put the letters of right-to-left words of a PDF page in reading order.

PDFium turns the lines of Arabic and Hebrew, but not the letters that browsers give as they draw them, from left to right.
It also turns the two letters of a ligature, and the parts of an address. The places of the letters decide. No I/O.
"""

import re
import unicodedata
from collections.abc import Callable
from itertools import pairwise

Place = tuple[float, float]  # where a letter begins on the page

# Letters and marks, but no digits, which all scripts write from left to right.
_WORD = re.compile(
    "[\u0590-\u05ff\u0610-\u061a\u0620-\u065f\u066e-\u06ef\u06fa-\u06ff\u0750-\u077f"
    "\u08a0-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]{2,}"
)
_ADDRESS = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]++(?:[@._:/-]++[A-Za-z0-9]++)++")  # possessive, to be linear
_LETTER, _DOT = re.compile("[A-Za-z]"), re.compile("[@.]")
_ALEF_LAM = re.compile("[اأإآٱ]ل")  # the only ligature of all Arabic fonts, reversed


def has_right_to_left(text: str) -> bool:
    """Whether the text has letters that are written from right to left."""
    return not text.isascii() and _WORD.search(text) is not None


def in_reading_order(text: str, place_of: Callable[[int], Place | None]) -> str:
    """Return the text of a page with the letters within each word in order.

    `place_of` returns where the character at an index is, or None if that is unknown or its line is not level.
    """

    def placed(found: re.Match[str]) -> list[Place]:
        places = [place_of(index) for index in range(*found.span())]
        return [place for place in places if place is not None] if None not in places else []

    def word(found: re.Match[str]) -> str:
        places = placed(found)
        letters = [
            place[0]
            for letter, place in zip(found[0], places, strict=bool(places))
            if not unicodedata.combining(letter)
        ]
        steps = [(before < after) - (before > after) for before, after in pairwise(letters)]
        if sum(steps) > 0:
            return found[0][::-1]
        return _ALEF_LAM.sub(lambda two: two[0][::-1] if _share_place(places, two.start()) else two[0], found[0])

    def address(found: re.Match[str]) -> str:
        places = placed(found)
        if not places or places[0] < places[-1] or not _LETTER.search(found[0]) or not _DOT.search(found[0]):
            return found[0]
        return "".join(letter for _, letter in sorted(zip(places, found[0], strict=True), key=lambda one: one[0]))

    return _ADDRESS.sub(address, _WORD.sub(word, text))


def _share_place(places: list[Place], index: int) -> bool:
    return bool(places) and places[index] == places[index + 1]
