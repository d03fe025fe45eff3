"""Replace the private-use characters that symbol fonts leave in texts by the characters that a person sees. No I/O.

Office stores a character of the fonts Symbol and Wingdings as its byte above U+F000. Some files name its font. Without the
font, both are possible. At the beginning of a line it is a bullet, or a box to be ticked; within a line it is nearly always
one of Symbol.
"""

import re

_PRIVATE = 0xF000  # where Office has the characters of symbol fonts
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

# The fonts themselves. Symbol has Adobe's encoding of that name; the others have ornaments beside these.
_SYMBOL_FONT = {
    **dict(enumerate(
        " !∀#∃%&∋()*+,-./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}~", 0x20
    )),
    **dict(enumerate(
        "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…|—↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊⟨®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪", 0xA0
    )),
    **dict(enumerate("⟩∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭", 0xF1)),
}  # fmt: skip
_WINGDINGS = {
    **dict(enumerate("⓪①②③④⑤⑥⑦⑧⑨⑩⓿❶❷❸❹❺❻❼❽❾❿", 0x80)),
    0x28: "☎", 0x2A: "✉", 0x45: "☜", 0x46: "☞", 0x4A: "☺", 0x4C: "☹", 0x6C: "●", 0x6E: "■", 0x6F: "□", 0x71: "□", 0x72: "□",
    0x75: "◆", 0x78: "☒", 0xA1: "○", 0xA8: "□", 0xAB: "★", 0xDF: "←", 0xE0: "→", 0xE1: "↑", 0xE2: "↓", 0xE8: "→", 0xEF: "⇦",
    0xF0: "⇨", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑",
}  # fmt: skip
_FONTS = {
    "symbol": _SYMBOL_FONT,
    "wingdings": _WINGDINGS,
    "wingdings 2": {0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0x54: "☒", 0xA3: "□"},
    "wingdings 3": {0x66: "←", 0x67: "→", 0x68: "↑", 0x69: "↓"},
    "webdings": {0x61: "✓", 0x63: "□", 0x72: "✗"},
}
_ORNAMENT = "•"


def symbol(code: int, font: str) -> str | None:
    """Return a character as this symbol font shows it. None if the font is no known one, or `code` is one of Unicode."""
    name = font.strip().lower()
    characters = _FONTS.get("symbol" if name.startswith("symbol") else name)
    byte = code - _PRIVATE if code >= _PRIVATE else code
    if characters is None or not 0x20 <= byte <= 0xFF:
        return None
    return " " if byte == 0x20 else characters.get(byte, _ORNAMENT)


def is_symbol_font(name: str) -> bool:
    """Whether `symbol` knows the font."""
    return symbol(_PRIVATE + ord(" "), name) is not None


def symbol_of_western(character: str, font: str) -> str:
    """Return a character as this symbol font shows it, which has its symbols in the places of Western letters."""
    if character.isspace():
        return character
    byte = character.encode("cp1252", "ignore")
    return symbol(byte[0] if byte else ord(character), font) or character


def with_readable_symbols(text: str) -> str:
    """Return the text with bullets, Greek letters and signs instead of private-use characters. Keeps unknown ones.

    A text of mostly such characters is unchanged. Its font has no map to letters, so it cannot be read.
    """
    symbols = len(_ANY.findall(text))
    if symbols == 0 or symbols * _LETTERS_PER_SYMBOL > sum(map(str.isalnum, text)):
        return text
    return _BULLET.sub(r"\1•", text).translate(_SYMBOLS)
