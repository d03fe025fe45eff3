"""Recognize worthless text: stray characters of a scan, glyph codes instead of letters, mojibake. No I/O.

A readable document that counts as worthless is lost to its owner. A worthless one that counts as readable only costs a
call. Each rule therefore needs a pattern that no writing system, table or source code has. Doubtful text counts as
readable.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby, islice, pairwise

# Even without recognized text, a scanner's text layer has a few characters: specks, a page number, a stamp.
STRAY_CHARACTERS = 20
# A rule about letters needs at least this many of them.
_MIN_CHARACTERS = 20
# Long texts are checked by samples of this many characters from their beginning, middle and end.
_SAMPLE = 100_000

_MIN_RARE_SYLLABLES = 8  # different ones on a page; Korean text has a few in ten thousand syllables

_GLYPH_CODE = re.compile(r"\(cid:\d+\)")
# Characters without a public meaning: private use, replacement characters, noncharacters and C1 controls.
_PLACEHOLDERS = re.compile("[\x80-\x9f\ue000-\uf8ff\ufdd0-\ufdef\ufffd-\uffff\U000f0000-\U0010ffff]+")
# The UTF-8 replacement character decoded as CP949, GBK and CP1252.
_LOST_TWICE = ("占쏙옙", "锟斤拷", "ï¿½")
# The non-ASCII letters of CP1252 and Latin-1. The bytes of any other encoding decode to these.
_WESTERN = frozenset(character for character in (*map(chr, range(0xC0, 0x100)), *"ŠšŒœŽžŸƒˆªºµ") if character.isalpha())
# A repeated word such as `été` or `příliš` may consist of such letters by half, but has few different ones.
_WESTERN_KINDS = 6
_VOWELS = frozenset("aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýÿœ")
# One in four or five letter pairs of Western European languages is one of these. By chance it is one in forty.
_USUAL_PAIRS = frozenset("th he in er an re en de es on st nd te ti nt le la ar".split())  # noqa: SIM905
# At least two and this share of control characters show that a font gives glyph numbers instead of letters. Some fonts
# have no letters only for a bullet or a ligature: their text has the letter pairs of words.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CONTROLS_NEEDED = 0.05
_FEW_PAIRS = 0.06
_STRUCTURE = frozenset("[](){}<>,;:\"'=.")
_LETTERS_AND_DIGITS = bytes(code for code in range(128) if chr(code).isalnum())
# This many different signs make up most of a table or of Morse code. A language's commonest letters make up a third.
_RULED = 4
# All bytes except those that stand for letters and digits in a font with `_GLYPH_SHIFT`.
_NO_SHIFTED_GLYPHS = bytes(code for code in range(256) if not ord("$") <= code <= ord("]"))
# Fonts that are embedded without a table of letters often number glyphs from the space on, as 3 instead of 32.
_GLYPH_SHIFT = 29


def is_stray(text: str) -> bool:
    """Whether a page's text is so short that it may be stray characters of a scanner."""
    return sum(1 for _ in islice(filter(str.isalnum, text), STRAY_CHARACTERS + 1)) <= STRAY_CHARACTERS


def why_worthless(text: str) -> str | None:
    """Return why `text` is unreadable, in words for a person, or None if it may be readable or is empty."""
    kept = _without_blanks(_sampled(text))
    if not kept:
        return None
    for share_needed, share_of, why in _RULES:
        if share_of(kept) >= share_needed:
            return why
    return None


def _without_blanks(text: str) -> str:
    return "".join(text.split())


def _sampled(text: str) -> str:
    if len(text) <= 3 * _SAMPLE:
        return text
    middle = (len(text) - _SAMPLE) // 2
    return text[:_SAMPLE] + text[middle : middle + _SAMPLE] + text[-_SAMPLE:]


def why_glyph_soup(text: str) -> str | None:
    """Like `why_worthless`, for the text layer of a PDF, whose fonts can map glyphs to wrong letters."""
    kept = _without_blanks(text)
    return why_worthless(text) or _shifted_letters(kept) or _no_letters(kept)


def is_glyph_numbers(text: str) -> bool:
    """Whether a PDF page's text, with its control characters, consists of numbers of glyphs."""
    kept = re.sub("[ \t\r\n]", "", text)
    controls = len(_CONTROLS.findall(kept))
    if controls < 2 or controls < _CONTROLS_NEEDED * len(kept):
        return False
    if 3 * sum(map(str.isdigit, kept)) >= len(kept):  # a table of numbers with bullets or ticks
        return False
    letters = [character for character in kept.lower() if character.isalpha()]
    foreign = sum(not character.isascii() for character in letters)
    return 2 * foreign < len(kept) and _usual_pairs(kept.lower()) <= _FEW_PAIRS * len(letters)


def _usual_pairs(text: str) -> int:
    return sum(text[start : start + 2] in _USUAL_PAIRS for start in range(len(text)))


def share_of_wrong_letters(text: str) -> float:
    """Return the share of a PDF page's letters that are syllables which Korean does not use, 0 if they may be right.

    A font without a correct table of letters gives such syllables, often beside fonts that are correct.
    """
    kept = _without_blanks(text)
    if kept.isascii():
        return 0.0
    rare = [character for character in kept if _is_syllable(character) and character not in _common_syllables()]
    return len(rare) / sum(map(str.isalpha, kept)) if len(set(rare)) >= _MIN_RARE_SYLLABLES else 0.0


def _share_of_glyph_codes(kept: str) -> float:
    return sum(map(len, _GLYPH_CODE.findall(kept))) / len(kept)


def _share_of_placeholders(kept: str) -> float:
    return 0.0 if kept.isascii() else sum(map(len, _PLACEHOLDERS.findall(kept))) / len(kept)


def _share_lost_twice(kept: str) -> float:
    return sum(kept.count(mark) * len(mark) for mark in _LOST_TWICE) / len(kept)


def _share_of_western_letters(kept: str) -> float:
    """The share of accented letters among all letters. It is at most a fifth in a language that uses them.

    Returns 0 for tables of characters, which have each letter once or twice, or in order.
    """
    if kept.isascii() or _WESTERN.isdisjoint(kept):
        return 0.0
    letters = [character for character in kept if character.isalpha()]
    western = [
        character
        for before, character in pairwise(["", *letters])
        if character in _WESTERN and before != chr(ord(character) - 1)
    ]
    kinds = len(set(western))
    if kinds < _WESTERN_KINDS or len(western) < max(_MIN_CHARACTERS, 2 * kinds):
        return 0.0
    return len(western) / len(letters)


def _share_of_rare_syllables(kept: str) -> float:
    """The share of syllables that Korean does not use. They occur when another encoding is read as CP949."""
    if kept.isascii():
        return 0.0
    common = _common_syllables()
    rare = sum(
        count for character, count in Counter(kept).items() if _is_syllable(character) and character not in common
    )
    return rare / sum(map(str.isalpha, kept)) if rare >= _MIN_CHARACTERS else 0.0


def _is_syllable(character: str) -> bool:
    return "가" <= character <= "힣"


@lru_cache(maxsize=1)
def _common_syllables() -> frozenset[str]:
    """The 2,350 syllables of KS X 1001. They cover all but a few in ten thousand syllables of Korean text."""
    rows = (bytes((high, low)) for high in range(0xB0, 0xC9) for low in range(0xA1, 0xFF))
    return frozenset(row.decode("euc_kr") for row in rows)


_RULES: tuple[tuple[float, Callable[[str], float], str], ...] = (
    (0.5, _share_of_glyph_codes, "the text consists of glyph numbers such as (cid:12) instead of letters"),
    (0.4, _share_of_placeholders, "the text consists of private-use or replacement characters instead of letters"),
    (0.4, _share_lost_twice, "the text was lost before the file was saved: only replacement characters are left"),
    (0.5, _share_of_western_letters, "the text is mojibake: it was decoded with the wrong encoding"),
    (0.4, _share_of_rare_syllables, "the text is mojibake: it consists of syllables that Korean does not use"),
)


def _shifted_letters(kept: str) -> str | None:
    """Recognize text such as `7KLV LV D WHVW`, which becomes words once its glyph numbers are shifted back."""
    glyphs = kept.encode(errors="ignore").translate(None, _NO_SHIFTED_GLYPHS).decode()
    if len(glyphs) < max(100, 0.9 * len(kept)):
        return None
    counted_right = "".join(chr(ord(character) + _GLYPH_SHIFT) for character in glyphs)
    if _share_of_vowels(kept) < 0.2 and _reads_as_words(counted_right):
        return "the text consists of glyph numbers instead of letters: the file's fonts do not map glyphs to letters"
    return None


def _reads_as_words(text: str) -> bool:
    lower = sum("a" <= character <= "z" for character in text)
    return _share_of_vowels(text) > 0.3 and lower > 0.8 * len(text) and _usual_pairs(text) > 0.12 * len(text)


def _share_of_vowels(text: str) -> float:
    letters = [character.lower() for character in text if character.isalpha()]
    return sum(character in _VOWELS for character in letters) / len(letters) if letters else 0.0


def _no_letters(kept: str) -> str | None:
    """Recognize text with many different signs and hardly a letter or digit.

    A row of the same sign counts as one. Nested data, which is mostly brackets, quotes and commas, is readable.
    """
    if not kept.isascii():
        return None
    kinds = set(kept)
    others = len(kept.encode().translate(None, _LETTERS_AND_DIGITS))
    # A quick check that settles most texts: each different letter or digit occurs at least once in `signs`.
    if len(kinds) < 15 or 9 * sum(map(str.isalnum, kinds)) >= others:
        return None
    signs = [sign for sign, _ in groupby(kept)]
    if len(signs) < 100 or sum(map(str.isalnum, signs)) >= 0.1 * len(signs):
        return None
    commonest = sum(count for _, count in Counter(signs).most_common(_RULED))
    if 2 * sum(map(_STRUCTURE.__contains__, signs)) <= len(signs) and commonest < 0.6 * len(signs):
        return "the text consists of signs without letters: the file's fonts do not map glyphs to letters"
    return None
