"""Decode bytes whose encoding is unknown. Tries UTF-8 and UTF-16 first, then Korean encodings, then guesses.

Korean encodings come before the guess, because Korean Windows wrote CP949 for decades and a short text is too little
for a statistical guess.
"""

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import charset_normalizer

from dagster_offload.extraction.euc_tw import decode_euc_tw

# The order matters: the byte order mark of UTF-32 (little endian) begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Label -> the superset that Windows wrote under that label (WHATWG Encoding Standard).
_SUPERSETS = {
    "euc_kr": "cp949",
    "ks_c_5601_1987": "cp949",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
}

# Escape sequences that switch the character set within a text (RFC 1468, RFC 1557).
_ESCAPES = ((b"\x1b$B", "iso2022_jp_ext"), (b"\x1b$@", "iso2022_jp_ext"), (b"\x1b$)C", "iso2022_kr"))

# Chinese of early mail and news (RFC 1843): at least four characters between the signs that begin and end it.
_HZ = re.compile(rb"~\{(?:[!-w][!-~]){4,}~\}")

_DECLARED = re.compile(rb"""(?:charset\s*=|encoding\s*=)\s*["']?\s*([A-Za-z0-9_.:\-]+)""", re.IGNORECASE)
_BEYOND_ASCII = re.compile("[^\x00-\x7f]+")
_BINARY = re.compile("[\x00-\x08\x0e-\x1a]")
_NEVER_DECLARED = frozenset({"utf_16", "utf_32", "utf_16_le", "utf_16_be", "utf_7", "idna", "punycode", "undefined"})

# A damaged file is still decoded if at most one in this many non-ASCII characters is lost.
_DAMAGE = 20
# Thai consonants, and the signs that follow them.
_THAI_CONSONANT, _THAI_MARK = re.compile("[\u0e01-\u0e2e]"), re.compile("[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]")
_THAI_PLACED_MARK = re.compile("(?<=[\u0e01-\u0e2e\u0e31\u0e34-\u0e3a\u0e47-\u0e4e])[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]")
_MIN_THAI_MARKS = 3
_SAMPLE_CHARACTERS = 10_000  # the number of characters that are examined


# The non-ASCII letters of languages, by region.
_WESTERN = (
    *("àâæçéèêëîïôœùûüÿ", "äöüß", "áéíñóúüç", "ãõáâàçéêíóôúü", "àèéìòóù", "åäöæøéü", "áéëïóöüè", "áéíóúàèòïüç"),
)
_CENTRAL = ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ")
_TURKISH = ("çğıöşüâîû\u0307",)  # lower-casing turns İ into i and this combining dot
_BALTIC = ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž")
# The likely encodings come first: they win if another one fits as well. charset_normalizer confuses all of these.
_EUROPEAN = (
    *(("cp1252", _WESTERN), ("cp1250", _CENTRAL), ("cp1254", _TURKISH), ("iso8859_2", _CENTRAL), ("cp1257", _BALTIC)),
    *(("mac_roman", _WESTERN), ("cp850", _WESTERN)),
)
_INSIDE_WORDS = frozenset("’‘·\xad–—…")
_MIXTURE = 0.92
_WRONG = "\0"  # stands for a letter that no language has at its place
_SHARED_SIGNS = frozenset("«»“”‘’„‚–—…•·€£§°©®™ºª¿¡½¼¾±×µ\xa0\xad")


@dataclass(frozen=True)
class Decoded:
    """A decoded text and the Python name of its encoding."""

    text: str
    encoding: str


def decode(data: bytes, declared: str | None = None) -> Decoded | None:
    """Decode `data`. Returns None if it is not text in an encoding that can be recognized.

    Data that is valid UTF-8, or UTF-8 with a few broken bytes, is decoded as UTF-8 even if `declared` names another
    encoding. Wrong labels are more common than other encodings that look like UTF-8 by chance.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _marked(data.removeprefix(mark) if encoding == "utf-8" else data, encoding)
    escaped = _escaped(data)
    if escaped is not None:
        return escaped
    text = _strict(data, "utf-8")
    if text is not None and not _is_binary(text):
        return Decoded(text, "utf-8")
    unmarked = _unmarked_utf32(data) or _unmarked_utf16(data)
    if unmarked is not None:
        return unmarked
    if b"\0" in data:
        return None
    return (
        _damaged_utf8(data)
        or _declared(data, declared)
        or _taiwanese(data)
        or _korean(data, "cp949")
        or _japanese(data)
        or _thai(data)
        or _korean(data, "johab")
        or _european(data)
        or _guessed(data)
    )


def declared_encoding(data: bytes) -> str | None:
    """Return the encoding that the head of an HTML or XML text declares, as written, or None."""
    found = _DECLARED.search(data[:4096])
    return None if found is None else found[1].decode("ascii")


def _escaped(data: bytes) -> Decoded | None:
    """Decode ISO 2022, the encoding of Japanese mail for decades. Its bytes are all ASCII, so UTF-8 would accept it."""
    for escape, encoding in _ESCAPES:
        if escape in data and (text := _strict(data, encoding)) is not None:
            return Decoded(text, encoding)
    if _HZ.search(data) and (text := _strict(data, "hz")) is not None:
        return Decoded(text, "hz")
    return None


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _marked(data: bytes, encoding: str) -> Decoded | None:
    """Decode text with a byte order mark. A file that was cut off within a character is still decoded."""
    text = data.decode(encoding, errors="replace")
    return None if text.count("\ufffd") * _DAMAGE > len(text) else Decoded(text, encoding)


def _is_binary(text: str) -> bool:
    """Whether the text has more than a few NULs or other control characters that do not occur in text."""
    head = text[:100_000]
    return len(_BINARY.findall(head)) > max(2, len(head) // 200)


def _unmarked_utf32(data: bytes) -> Decoded | None:
    """Decode UTF-32 without a byte order mark. Every fourth byte is zero, because no character is above 0x10FFFF."""
    if len(data) % 4 or len(data) < 8:
        return None
    for encoding, zeros in (("utf-32-le", data[3::4]), ("utf-32-be", data[0::4])):
        if not any(zeros) and (text := _strict(data, encoding)) is not None and not _is_binary(text):
            return Decoded(text, encoding)
    return None


def _unmarked_utf16(data: bytes) -> Decoded | None:
    """Decode UTF-16 without a byte order mark.

    The zero bytes of ASCII characters identify it. The byte order is the one that gives more ASCII characters.
    """
    if len(data) % 2 or b"\0" not in data:
        return None
    texts = [
        (encoding, text) for encoding in ("utf-16-le", "utf-16-be") if (text := _strict(data, encoding)) is not None
    ]
    if not texts:
        return None
    encoding, text = max(texts, key=lambda one: sum(character < "\x7f" for character in one[1][:_SAMPLE_CHARACTERS]))
    return Decoded(text, encoding) if not _is_binary(text) and _makes_sense(text[:_SAMPLE_CHARACTERS]) else None


def _makes_sense(text: str) -> bool:
    """Whether the text uses Latin and at most one other script. Other data decoded as UTF-16 mixes many scripts."""
    counted = Counter(map(_script, text))
    strange = counted.pop("", 0)
    known = counted.pop("Latin", 0) + max(counted.values(), default=0)
    return strange == 0 and known * 10 >= len(text) * 9


def _script(character: str) -> str:
    """Return a rough name of the character's script, or "" if it does not occur in text."""
    if character < "\u0250" or "\u2000" <= character <= "\u22ff":
        return "Latin"  # includes the punctuation and symbols that all scripts share
    if unicodedata.category(character) in ("Cn", "Co", "Cs"):
        return ""
    if "\u2e80" <= character <= "\u9fff" or "가" <= character <= "힣" or "\uff00" <= character <= "\uffef":
        return "East Asian"
    return unicodedata.name(character, "").partition(" ")[0]


def _declared(data: bytes, declared: str | None) -> Decoded | None:
    if declared is None:
        return None
    try:
        name = codecs.lookup(declared).name
    except (LookupError, ValueError):  # ValueError, here and below: the name contains a NUL
        name = declared.lower().replace("-", "_")
    encoding = _SUPERSETS.get(name.replace("-", "_"), _SUPERSETS.get(name, name))
    if encoding.replace("-", "_") in _NEVER_DECLARED:
        return None
    try:
        text = data.decode(encoding)
    except (LookupError, ValueError):
        return None
    return Decoded(text, encoding)


def _korean(data: bytes, encoding: str) -> Decoded | None:
    """Decode CP949 or Johab if nearly all non-ASCII letters are common syllables (KS X 1001).

    Other East Asian encodings also decode as CP949, but to a mixture of rare syllables, jamo and Hanja. European
    encodings fail to decode, or decode to rare syllables.
    """
    text = data.decode(encoding, errors="replace")
    # Only letters count: East Asian punctuation and brackets are the same in all of these languages.
    letters = list(
        islice((character for character in text if character > "\x7f" and character.isalpha()), _SAMPLE_CHARACTERS)
    )
    kept, lost = len(data) - len(text), text.count("\ufffd")  # a decoded character takes two bytes
    common = sum("가" <= character <= "힣" and _is_common(character) for character in letters)
    if common == 0 or common < 0.8 * len(letters) or lost * _DAMAGE > kept:
        return None
    return Decoded(text, encoding)


def _is_common(syllable: str) -> bool:
    # Python's EUC-KR codec encodes syllables outside KS X 1001 as eight bytes.
    return len(syllable.encode("euc_kr", errors="ignore")) == 2


def _japanese(data: bytes) -> Decoded | None:
    """Decode EUC-JP if the text has Hiragana.

    charset_normalizer takes short EUC-JP texts for Korean. It recognizes Shift JIS well.
    """
    text = _strict(data, "euc_jp")
    if text is None:
        return None
    letters = sum(ord(character) > 127 and character.isalpha() for character in text)
    hiragana = sum("ぁ" <= character <= "ゖ" for character in text)
    return Decoded(text, "euc_jp") if hiragana > 0 and hiragana * 5 >= letters else None


def _taiwanese(data: bytes) -> Decoded | None:
    text = decode_euc_tw(data)
    return None if text is None or _is_binary(text) else Decoded(text, "euc_tw")


def _damaged_utf8(data: bytes) -> Decoded | None:
    """Decode UTF-8 with a few broken bytes or a truncated last character.

    Text in another encoding rarely contains valid non-ASCII UTF-8 (one character in ten in Korean and Chinese
    encodings). At least as many valid as broken characters therefore prove that the text is UTF-8.
    """
    text = data.decode("utf-8", errors="replace")
    lost = text.count("\ufffd")
    kept = sum(map(len, _BEYOND_ASCII.findall(text))) - lost
    if _is_binary(text) or kept <= 0:
        return None
    is_only_cut = lost == 1 and text.endswith("\ufffd")
    return Decoded(text, "utf-8") if is_only_cut or kept >= max(2, lost) else None


def _thai(data: bytes) -> Decoded | None:
    """Decode Thai if its vowel signs and tone marks follow consonants, as they must.

    charset_normalizer takes Thai for Big5.
    """
    text = _strict(data, "cp874")
    if text is None or _is_binary(text):
        return None
    sample = text[: 10 * _SAMPLE_CHARACTERS]
    marks = len(_THAI_MARK.findall(sample))
    consonants = len(_THAI_CONSONANT.findall(sample))
    is_thai = marks >= _MIN_THAI_MARKS and 20 * len(_THAI_PLACED_MARK.findall(sample)) >= 19 * marks
    return Decoded(text, "cp874") if is_thai and marks < consonants < 8 * marks else None


def _european(data: bytes) -> Decoded | None:
    """Decode with the encoding whose result best fits the letters of one of its European languages."""
    best: tuple[float, Decoded] | None = None
    for encoding, languages in _EUROPEAN:
        text = _strict(data, encoding)
        if text is None:
            continue
        sample = text[: 10 * _SAMPLE_CHARACTERS]
        letters = _accented(sample)
        if len(letters) * 2 > sum(map(str.isalpha, sample)):
            continue  # not Latin script
        covered = _covered(letters, languages)
        if covered >= 0.9 and (best is None or covered > best[0]):
            best = (covered, Decoded(text, encoding))
    return None if best is None or _is_binary(best[1].text) else best[1]


def _covered(letters: Sequence[str], languages: Sequence[str]) -> float:
    """Return the share of the letters that one language has. A mixture of a region's languages counts a little less."""
    if not letters:
        return 1.0
    by_one = max(sum(letter in language for letter in letters) for language in languages)
    by_all = _MIXTURE * sum(letter in "".join(languages) for letter in letters)
    return max(by_one, by_all) / len(letters)


def _accented(text: str) -> list[str]:
    """Return the non-ASCII letters in lower case. Signs inside words and capitals after small letters are `_WRONG`."""
    found = []
    for position, character in enumerate(text):
        if character <= "\x7f":
            continue
        before, after = text[position - 1 : position], text[position + 1 : position + 2]
        if character in _SHARED_SIGNS:
            if before.isalpha() and after.isalpha() and character not in _INSIDE_WORDS:
                found.append(_WRONG)
        else:
            is_out_of_place = character.isupper() and before.islower()
            found += _WRONG if is_out_of_place else _BEYOND_ASCII.findall(character.lower())
    return found


def _guessed(data: bytes) -> Decoded | None:
    best = charset_normalizer.from_bytes(data, cp_exclusion=["cp949", "euc_kr", "johab"]).best()  # tried above
    if best is None:
        return None
    text = data.decode(best.encoding)
    return None if _is_binary(text) else Decoded(text, best.encoding)
