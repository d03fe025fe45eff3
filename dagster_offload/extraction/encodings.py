"""From bytes to text where nobody says in which encoding: UTF-8 and UTF-16 first, then Korean, then a guess.

The extractor takes every text for UTF-8 and loses what is not, so texts, HTML and mail pass through here. Korean comes
before the guess because CP949 is what Korean Windows wrote for decades and short texts give a guesser too little.
"""

import codecs
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import islice

import charset_normalizer

# Longest first: the mark of UTF-32 little endian begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# What a label means in practice (WHATWG Encoding Standard): the superset that Windows wrote under that name.
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

# What switches the character set in the middle of a text (RFC 1468, RFC 1557).
_ESCAPES = ((b"\x1b$B", "iso2022_jp_ext"), (b"\x1b$@", "iso2022_jp_ext"), (b"\x1b$)C", "iso2022_kr"))

_DECLARED = re.compile(rb"""(?:charset\s*=|encoding\s*=)\s*["']?\s*([A-Za-z0-9_.:\-]+)""", re.IGNORECASE)
_BEYOND_ASCII = re.compile("[^\x00-\x7f]+")
_BINARY = re.compile("[\x00-\x08\x0e-\x1a]")
_NEVER_DECLARED = frozenset({"utf_16", "utf_32", "utf_16_le", "utf_16_be", "utf_7", "idna", "punycode", "undefined"})

# A damaged file is still read if at most one of so many characters beyond ASCII is lost.
_DAMAGE = 20
_ENOUGH = 10_000  # letters to judge a language by


# Which letters beyond ASCII a language writes, by the encoding that Windows gave it; a guesser confuses these three.
_EUROPEAN = (
    (
        "cp1252",
        ("àâæçéèêëîïôœùûüÿ", "äöüß", "áéíñóúüç", "ãõáâàçéêíóôúü", "àèéìòóù", "åäöæøéü", "áéëïóöüè", "áéíóúàèòïüç"),
    ),
    ("cp1250", ("ąćęłńóśźż", "áäčďéěíĺľňóôŕřšťúůýž", "áéíóöőúüű", "čćđšž", "ăâîşţ")),
    ("cp1254", ("çğıöşüâîû\u0307",)),  # the dot is what lower-casing leaves of İ
)
_SHARED_SIGNS = frozenset("«»“”‘’„‚–—…•·€£§°©®™ºª¿¡½¼¾±×µ\xa0\xad")


@dataclass(frozen=True)
class Decoded:
    text: str
    encoding: str


def decode(data: bytes, declared: str | None = None) -> Decoded | None:
    """The text of `data`, or None where it is no text in an encoding we can tell.

    UTF-8 is UTF-8 whatever `declared` says, also with a few broken bytes: labels are wrong more often than that happens
    by chance.
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
        or _korean(data, "cp949")
        or _japanese(data)
        or _korean(data, "johab")
        or _european(data)
        or _guessed(data)
    )


def declared_encoding(data: bytes) -> str | None:
    """The encoding that the head of an HTML or XML text names, as it is written there."""
    found = _DECLARED.search(data[:4096])
    return None if found is None else found[1].decode("ascii")


def _escaped(data: bytes) -> Decoded | None:
    """ISO 2022, in which Japanese mail was sent for decades: all ASCII bytes, so it would pass for UTF-8."""
    for escape, encoding in _ESCAPES:
        if escape in data and (text := _strict(data, encoding)) is not None:
            return Decoded(text, encoding)
    return None


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _marked(data: bytes, encoding: str) -> Decoded | None:
    """The mark is believed, and a file that was cut in the middle of a character still read."""
    text = data.decode(encoding, errors="replace")
    return None if text.count("\ufffd") * _DAMAGE > len(text) else Decoded(text, encoding)


def _is_binary(text: str) -> bool:
    """NULs and other characters that no text holds, but for the odd stray one."""
    head = text[:100_000]
    return len(_BINARY.findall(head)) > max(2, len(head) // 200)


def _unmarked_utf32(data: bytes) -> Decoded | None:
    """UTF-32 without its mark: no character is above 0x10FFFF, so every fourth byte is zero."""
    if len(data) % 4 or len(data) < 8:
        return None
    for encoding, zeros in (("utf-32-le", data[3::4]), ("utf-32-be", data[0::4])):
        if not any(zeros) and (text := _strict(data, encoding)) is not None and not _is_binary(text):
            return Decoded(text, encoding)
    return None


def _unmarked_utf16(data: bytes) -> Decoded | None:
    """UTF-16 without its mark: the zeros of ASCII characters give it away, and which way round it then makes sense."""
    if len(data) % 2 or b"\0" not in data:
        return None
    texts = [
        (encoding, text) for encoding in ("utf-16-le", "utf-16-be") if (text := _strict(data, encoding)) is not None
    ]
    if not texts:
        return None
    encoding, text = max(texts, key=lambda one: sum(character < "\x7f" for character in one[1][:_ENOUGH]))
    return Decoded(text, encoding) if not _is_binary(text) and _makes_sense(text[:_ENOUGH]) else None


def _makes_sense(text: str) -> bool:
    """Bytes that are no UTF-16 decode to a mixture of all scripts; texts keep to Latin and their own."""
    counted = Counter(map(_script, text))
    strange = counted.pop("", 0)
    known = counted.pop("Latin", 0) + max(counted.values(), default=0)
    return strange == 0 and known * 10 >= len(text) * 9


def _script(character: str) -> str:
    """A rough name of the character's script, "" for what stands in no text."""
    if character < "\u0250" or "\u2000" <= character <= "\u22ff":
        return "Latin"  # and the punctuation and signs that all scripts share
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
    except (LookupError, ValueError):  # the latter for a name that holds a NUL, and below again
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
    """CP949 or Johab where it reads as Korean: nearly all characters beyond ASCII are syllables of everyday use (KS X 1001).

    Other East Asian encodings decode as CP949, too, but to a mixture of rare syllables, jamo and Hanja; European ones
    do not decode, or to rare syllables.
    """
    text = data.decode(encoding, errors="replace")
    # Punctuation and brackets of East Asian texts are the same characters in all of these languages.
    letters = list(islice((character for character in text if character > "\x7f" and character.isalpha()), _ENOUGH))
    kept, lost = len(data) - len(text), text.count("\ufffd")  # what is read takes two bytes a character
    everyday = sum("가" <= character <= "힣" and _is_everyday(character) for character in letters)
    if everyday == 0 or everyday < 0.8 * len(letters) or lost * _DAMAGE > kept:
        return None
    return Decoded(text, encoding)


def _is_everyday(syllable: str) -> bool:
    # EUC-KR in Python writes the syllables beyond KS X 1001 as a sequence of eight bytes.
    return len(syllable.encode("euc_kr", errors="ignore")) == 2


def _japanese(data: bytes) -> Decoded | None:
    """EUC-JP where it shows Hiragana: a guesser takes short ones for Korean. Shift JIS it guesses well."""
    text = _strict(data, "euc_jp")
    if text is None:
        return None
    letters = sum(ord(character) > 127 and character.isalpha() for character in text)
    hiragana = sum("ぁ" <= character <= "ゖ" for character in text)
    return Decoded(text, "euc_jp") if hiragana > 0 and hiragana * 5 >= letters else None


def _damaged_utf8(data: bytes) -> Decoded | None:
    """UTF-8 of which a few bytes are broken, or whose last character was cut.

    In other encodings hardly a character beyond ASCII happens to be valid UTF-8 (in Korean and Chinese ones, one in ten),
    so as many valid ones as broken ones are proof.
    """
    text = data.decode("utf-8", errors="replace")
    lost = text.count("\ufffd")
    kept = sum(map(len, _BEYOND_ASCII.findall(text))) - lost
    if _is_binary(text) or kept <= 0:
        return None
    is_only_cut = lost == 1 and text.endswith("\ufffd")
    return Decoded(text, "utf-8") if is_only_cut or kept >= max(2, lost) else None


def _european(data: bytes) -> Decoded | None:
    """The Windows encoding in which all letters beyond ASCII belong to one language of Europe that it was made for."""
    best: tuple[float, Decoded] | None = None
    for encoding, languages in _EUROPEAN:
        text = _strict(data, encoding)
        if text is None:
            continue
        letters = [c for c in islice(text.lower(), 10 * _ENOUGH) if c > "\x7f" and c not in _SHARED_SIGNS]
        if len(letters) * 2 > sum(map(str.isalpha, text[: 10 * _ENOUGH])):
            continue  # no Latin script
        covered = max(sum(c in language for c in letters) for language in languages) / len(letters) if letters else 1.0
        if covered >= 0.9 and (best is None or covered > best[0]):
            best = (covered, Decoded(text, encoding))
    return None if best is None or _is_binary(best[1].text) else best[1]


def _guessed(data: bytes) -> Decoded | None:
    best = charset_normalizer.from_bytes(data, cp_exclusion=["cp949", "euc_kr", "johab"]).best()  # judged above
    if best is None:
        return None
    text = data.decode(best.encoding)
    return None if _is_binary(text) else Decoded(text, best.encoding)
