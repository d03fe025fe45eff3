"""Decode the languages of Europe in Latin letters by the letters that each of them has."""

from collections.abc import Sequence

from dagster_offload.extraction.encodings.decoded import BEYOND_ASCII, Decoded, is_binary, strict

_SAMPLE_CHARACTERS = 100_000  # the number of characters that are examined

# The non-ASCII letters of languages, by region.
_WESTERN = (
    "àâæçéèêëîïôœùûüÿ", "äöüß", "áéíñóúüç", "ãõáâàçéêíóôúü", "àèéìòóù", "åäöæøéü", "áéëïóöüè", "áéíóúàèòïüç",
)  # fmt: skip
_CENTRAL = ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ")
_NORTHERN = ("áéíóúýþðæö", "äõöüšž")
_TURKISH = ("çğıöşüâîû\u0307",)  # lower-casing turns İ into i and this combining dot
_BALTIC = ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž")
# The likely encodings come first: they win if another one fits as well. charset_normalizer confuses all of these.
_EUROPEAN = (
    *(("cp1252", _WESTERN), ("cp1250", _CENTRAL), ("cp1254", _TURKISH), ("iso8859_2", _CENTRAL), ("cp1257", _BALTIC)),
    *(("iso8859_15", _WESTERN), ("cp1252", _NORTHERN), ("iso8859_15", _NORTHERN)),
    *(("mac_roman", _WESTERN), ("cp850", _WESTERN), ("cp852", _CENTRAL)),
)
_INSIDE_WORDS = frozenset("’‘·\xad–—…")
_MIXTURE = 0.92
_WRONG = "\0"  # stands for a letter that no language has at its place
_ALONE = frozenset("§©®™¦")  # no word begins with these
_OPENING = frozenset("‚„")  # quotes that begin a quotation in all languages
_SMALL_AFTER_CAPITALS = frozenset("ßs")
_ENDS = {"¿": "?", "¡": "!"}  # the end of what each of these begins
_SHARED_SIGNS = frozenset("«»“”‘’„‚–—…•·€£§°©®™ºª¿¡½¼¾±×µ\xa0\xad")


def european(data: bytes) -> Decoded | None:
    """Decode with the encoding whose result best fits the letters of one of its European languages."""
    best: tuple[float, Decoded] | None = None
    for encoding, languages in _EUROPEAN:
        text = strict(data, encoding)
        if text is None:
            continue
        sample = text[:_SAMPLE_CHARACTERS]
        letters = _accented(sample)
        if len(letters) * 2 > sum(map(str.isalpha, sample)):
            continue  # not Latin script
        covered = _covered(letters, languages)
        if covered >= 0.9 and (best is None or covered > best[0]):
            best = (covered, Decoded(text, encoding))
    return None if best is None or is_binary(best[1].text) else best[1]


def _covered(letters: Sequence[str], languages: Sequence[str]) -> float:
    """Return the share of the letters that one language has. A mixture of a region's languages counts a little less."""
    if not letters:
        return 1.0
    by_one = max(sum(letter in language for letter in letters) for language in languages)
    by_all = _MIXTURE * sum(letter in "".join(languages) for letter in letters)
    return max(by_one, by_all) / len(letters)


def _accented(text: str) -> list[str]:
    """Return the non-ASCII letters in lower case. Signs inside words and capitals after small letters are `_WRONG`.

    A sign at an odd place counts only if there are several: a person may have mistyped one.
    """
    found, odd_signs = list[str](), list[str]()
    for position, character in enumerate(text):
        if character <= "\x7f":
            continue
        before, after = text[position - 1 : position], text[position + 1 : position + 2]
        if character in _SHARED_SIGNS:
            is_inside = before.isalpha() and after.isalpha() and character not in _INSIDE_WORDS
            is_before = after.islower() and (character in _ALONE or text.find(_ENDS.get(character, ""), position) < 0)
            if is_inside or (character in _OPENING and before.isalpha()):
                found.append(_WRONG)
            elif is_before:
                odd_signs.append(character)
        else:
            # `GRÖßE`, `DÜs`: what comes after a capital is small in these, too.
            is_in_capitals = before.isupper() and after.islower() and after not in _SMALL_AFTER_CAPITALS
            is_out_of_place = character.isupper() and (before.islower() or is_in_capitals)
            found += _WRONG if is_out_of_place else BEYOND_ASCII.findall(character.lower())
    is_letter = not found and odd_signs and odd_signs[0] in _ENDS  # the only one: `¿e` is a Polish `że`
    return [*found, *[_WRONG] * len(odd_signs)] if is_letter or len(odd_signs) > 1 else found
