"""Replace the private-use characters that symbol fonts leave in texts by the characters that a person sees. No I/O.

Office stores a character of the fonts Symbol and Wingdings as its byte above U+F000. Without the font, both are possible. At
the beginning of a line it is a bullet, or a box to be ticked; within a line it is nearly always one of Symbol.
"""

import re

_FIRST, _LAST = "\uf020", "\uf0ff"
_ANY = re.compile(f"[{_FIRST}-{_LAST}\uf53a]")
_BOXES = {0xF06F: "□", 0xF0A8: "□", 0xF0FB: "✗", 0xF0FC: "✓", 0xF0FD: "☒", 0xF0FE: "☑"}  # of Wingdings, to be ticked
_NOT_BULLETS = "".join(map(chr, _BOXES))
_BULLET = re.compile(f"^([ \t]*(?:[-*|] )?)(?![{_NOT_BULLETS}])[{_FIRST}-{_LAST}](?=\\s)", re.MULTILINE)
_LETTERS_PER_SYMBOL = 2  # the fewest letters and digits of a text whose symbols can be read
_LETTERS = "ABGDEZHQIKLMNXOPRSTUFCYW"
_GREEK = "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ"
_SYMBOLS = {
    **{0xF000 + ord(letter): greek for letter, greek in zip(_LETTERS, _GREEK, strict=True)},
    **{0xF000 + ord(letter.lower()): greek.lower() for letter, greek in zip(_LETTERS, _GREEK, strict=True)},
    **{0xF000 + ord(sign): sign for sign in "+-=<>0123456789"},
    **dict.fromkeys((0xF0A7, 0xF0B7, 0xF0D8), "•"),
    **_BOXES,
    0xF0A3: "≤", 0xF0A5: "∞", 0xF0AC: "←", 0xF0AE: "→", 0xF0B0: "°",
    0xF0B1: "±", 0xF0B3: "≥", 0xF0B4: "×", 0xF0B8: "÷", 0xF0B9: "≠", 0xF0BB: "≈", 0xF0D6: "√", 0xF0E0: "→", 0xF0E5: "∑",
    0xF53A: "ᄒᆞᆫ",  # of Korean fonts, in the name of the word processor 한글
}  # fmt: skip


def with_readable_symbols(text: str) -> str:
    """Return the text with bullets, Greek letters and signs instead of private-use characters. Keeps unknown ones.

    A text of mostly such characters is unchanged. Its font has no map to letters, so it cannot be read.
    """
    symbols = len(_ANY.findall(text))
    if symbols == 0 or symbols * _LETTERS_PER_SYMBOL > sum(map(str.isalnum, text)):
        return text
    return _BULLET.sub(r"\1•", text).translate(_SYMBOLS)
