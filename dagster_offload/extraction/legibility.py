"""Text that is there but worthless: a scan's stray characters, glyph codes instead of letters, mojibake. Pure.

A document that is wrongly called worthless is lost to its owner, one that is wrongly called readable costs a call. So
every rule here asks for what no writing system, no table and no program text does, and doubt means readable.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby, islice, pairwise

# A scanner's text layer that found nothing still holds a few characters: specks, a page number, a stamp.
STRAY_CHARACTERS = 20
# Fewer characters than this are judged only where all of them are of the kind.
_ENOUGH = 20
# Long texts are judged by samples of this many characters from their beginning, middle and end.
_SAMPLE = 100_000

_GLYPH_CODE = re.compile(r"\(cid:\d+\)")
# No font but one shows them: private use, lost in decoding, or no characters at all.
_PLACEHOLDERS = re.compile("[\x80-\x9f\ue000-\uf8ff\ufdd0-\ufdef\ufffd-\uffff\U000f0000-\U0010ffff]+")
# What one encoding's mark of a lost character becomes in another (UTF-8 read as CP949, as GBK, as CP1252).
_LOST_TWICE = ("占쏙옙", "锟斤拷", "ï¿½")
# Letters that CP1252 and Latin-1 have beyond ASCII: what the bytes of any other encoding show as.
_WESTERN = frozenset(character for character in (*map(chr, range(0xC0, 0x100)), *"ŠšŒœŽžŸƒˆªºµ") if character.isalpha())
# A word that is said again and again, `été` or `příliš`, may be half such letters, but of a few kinds.
_WESTERN_KINDS = 6
_VOWELS = frozenset("aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýÿœ")
# Every fourth or fifth pair of letters in the languages of Western Europe is one of these, every fortieth by chance.
_USUAL_PAIRS = frozenset("th he in er an re en de es on st nd te ti nt le la ar".split())  # noqa: SIM905
_STRUCTURE = frozenset("[](){}<>,;:\"'=.")
_LETTERS_AND_DIGITS = bytes(code for code in range(128) if chr(code).isalnum())
# So many signs make up tables and Morse code; the commonest letters of a language are a third of it.
_RULED = 4
# All but what the numbers of letters and digits show as in such a font: see `_GLYPH_SHIFT`.
_NO_SHIFTED_GLYPHS = bytes(code for code in range(256) if not ord("$") <= code <= ord("]"))
# Fonts that are embedded without a table of their letters often count glyphs from the space on, as 3 instead of 32.
_GLYPH_SHIFT = 29


def is_stray(text: str) -> bool:
    """Whether a page's text may be no more than what a scanner left on it, judged by its length alone."""
    return sum(1 for _ in islice(filter(str.isalnum, text), STRAY_CHARACTERS + 1)) <= STRAY_CHARACTERS


def why_worthless(text: str) -> str | None:
    """Why nobody can read `text`, in words for a person; None for text that may be readable, and for none at all."""
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
    """Like `why_worthless`, for the text layer of a PDF: fonts there can name other letters than they show."""
    kept = _without_blanks(text)
    return why_worthless(text) or _shifted_letters(kept) or _no_letters(kept)


def _share_of_glyph_codes(kept: str) -> float:
    return sum(map(len, _GLYPH_CODE.findall(kept))) / len(kept)


def _share_of_placeholders(kept: str) -> float:
    return 0.0 if kept.isascii() else sum(map(len, _PLACEHOLDERS.findall(kept))) / len(kept)


def _share_lost_twice(kept: str) -> float:
    return sum(kept.count(mark) * len(mark) for mark in _LOST_TWICE) / len(kept)


def _share_of_western_letters(kept: str) -> float:
    """Accented letters among all: a language that has them writes at most every fifth letter so.

    Tables of characters do have them, each once or twice, or one after the other.
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
    if kinds < _WESTERN_KINDS or len(western) < max(_ENOUGH, 2 * kinds):
        return 0.0
    return len(western) / len(letters)


def _share_of_rare_syllables(kept: str) -> float:
    """Korean syllables that Korean does not use: UTF-8 or another encoding read as CP949."""
    if kept.isascii():
        return 0.0
    everyday = _everyday_syllables()
    rare = sum(
        count for character, count in Counter(kept).items() if _is_syllable(character) and character not in everyday
    )
    return rare / sum(map(str.isalpha, kept)) if rare >= _ENOUGH else 0.0


def _is_syllable(character: str) -> bool:
    return "가" <= character <= "힣"


@lru_cache(maxsize=1)
def _everyday_syllables() -> frozenset[str]:
    """The 2,350 syllables of KS X 1001: all but a few in ten thousand of running text."""
    rows = (bytes((high, low)) for high in range(0xB0, 0xC9) for low in range(0xA1, 0xFF))
    return frozenset(row.decode("euc_kr") for row in rows)


_RULES: tuple[tuple[float, Callable[[str], float], str], ...] = (
    (0.5, _share_of_glyph_codes, "the text is glyph numbers such as (cid:12) instead of letters"),
    (0.4, _share_of_placeholders, "the text is characters without a meaning: private use, or lost in decoding"),
    (0.4, _share_lost_twice, "the text was lost before it was saved: it only says that characters are missing"),
    (0.5, _share_of_western_letters, "the text is mojibake: letters of one encoding read as another's"),
    (0.4, _share_of_rare_syllables, "the text is mojibake: Korean syllables that Korean does not use"),
)


def _shifted_letters(kept: str) -> str | None:
    """`7KLV LV D WHVW`: hardly any vowels as it stands, as many as any language once the glyphs are counted right."""
    glyphs = kept.encode(errors="ignore").translate(None, _NO_SHIFTED_GLYPHS).decode()
    if len(glyphs) < max(100, 0.9 * len(kept)):
        return None
    counted_right = "".join(chr(ord(character) + _GLYPH_SHIFT) for character in glyphs)
    if _share_of_vowels(kept) < 0.2 and _reads_as_words(counted_right):
        return "the text is glyph numbers instead of letters: the file's fonts do not say which letters they show"
    return None


def _reads_as_words(text: str) -> bool:
    pairs = sum(text[start : start + 2] in _USUAL_PAIRS for start in range(len(text)))
    lower = sum("a" <= character <= "z" for character in text)
    return _share_of_vowels(text) > 0.3 and lower > 0.8 * len(text) and pairs > 0.12 * len(text)


def _share_of_vowels(text: str) -> float:
    letters = [character.lower() for character in text if character.isalpha()]
    return sum(character in _VOWELS for character in letters) / len(letters) if letters else 0.0


def _no_letters(kept: str) -> str | None:
    """Many different signs and hardly a letter or digit. Rows of dots and dashes are one sign, and nested data is
    mostly brackets, quotes and commas."""
    if not kept.isascii():
        return None
    kinds = set(kept)
    others = len(kept.encode().translate(None, _LETTERS_AND_DIGITS))
    # Each kind of letter is one of `signs` at least: enough to say of most texts that they have letters.
    if len(kinds) < 15 or 9 * sum(map(str.isalnum, kinds)) >= others:
        return None
    signs = [sign for sign, _ in groupby(kept)]
    if len(signs) < 100 or sum(map(str.isalnum, signs)) >= 0.1 * len(signs):
        return None
    commonest = sum(count for _, count in Counter(signs).most_common(_RULED))
    if 2 * sum(map(_STRUCTURE.__contains__, signs)) <= len(signs) and commonest < 0.6 * len(signs):
        return "the text is signs without letters: the file's fonts do not say which letters they show"
    return None
