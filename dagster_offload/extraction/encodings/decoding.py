"""Decode bytes whose encoding is unknown. Tries UTF-8 and UTF-16 first, then Korean encodings, then guesses.

Korean encodings come before the guess, because Korean Windows wrote CP949 for decades and a short text is too little
for a statistical guess.
"""

import codecs
import re
import unicodedata
from collections import Counter
from itertools import islice, pairwise

from dagster_offload.extraction.encodings.decoded import BEYOND_ASCII, Decoded, is_binary, strict
from dagster_offload.extraction.encodings.euc_tw import decode_euc_tw
from dagster_offload.extraction.encodings.european import european
from dagster_offload.extraction.encodings.windows_jis import as_shift_jis

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
    "iso_8859_8_i": "iso8859_8",  # Hebrew in the order of reading, which its text has anyhow
    "iso_8859_8_e": "iso8859_8",
    "unicode_1_1_utf_7": "utf_7",
}
_WINDOWS_LABEL = re.compile("windows[_-](?=[0-9]+$)", re.IGNORECASE)  # Python knows only some of these

# Escape sequences that switch the character set within a text (RFC 1468, RFC 1557).
_ESCAPES = ((b"\x1b$B", "iso2022_jp_ext"), (b"\x1b$@", "iso2022_jp_ext"), (b"\x1b$)C", "iso2022_kr"))

# Chinese of early mail and news (RFC 1843): at least four characters between the signs that begin and end it.
_HZ = re.compile(rb"~\{(?:[!-w][!-~]){4,}~\}")

_DECLARED = re.compile(rb"""(?:charset\s*=|encoding\s*=)\s*["']?\s*([A-Za-z0-9_.:\-]+)""", re.IGNORECASE)
_NEVER_DECLARED = frozenset({"utf_16", "utf_32", "utf_16_le", "utf_16_be", "utf_7", "idna", "punycode", "undefined"})
_SEVEN_BITS = re.compile(rb"\+[A-Za-z0-9/]{2,}(?:-|\b)")  # letters beyond ASCII in UTF-7

# A damaged file is still decoded if at most one in this many non-ASCII characters is lost.
_DAMAGE = 20
# Thai consonants, and the signs that follow them: a vowel, and then a tone.
_THAI_CONSONANT, _THAI_MARK = re.compile("[\u0e01-\u0e2e]"), re.compile("[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]")
_THAI_PLACED_MARK = re.compile(
    "(?<=[\u0e01-\u0e2e])[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]|(?<=[\u0e31\u0e34-\u0e3a])[\u0e47-\u0e4e]"
)
_MIN_THAI_MARKS = 3
_IN_LATIN_WORD = re.compile("(?<=[a-z])[가-힣](?=[a-z])")
_TRIED = ["cp949", "euc_kr", "johab", "cp874", "tis_620", "iso8859_11"]  # by rules that are stricter than a guess
# Encodings that have the small letters in the same places. In the wrong one, capitals are signs or rare letters.
_RIVALS = (("cp1251", "mac_cyrillic"), ("cp1253", "iso8859_7"))
_SHIFT_JIS = ["cp932", "shift_jis", "shift_jis_2004", "shift_jisx0213"]
_MAX_BYTES_PER_ZERO = 200  # of UTF-16: a text without blanks and line ends is not that long
_WESTERN, _RUN = "cp1252", 3
_SAMPLE_CHARACTERS = 10_000  # the number of characters that are examined


def decode(data: bytes, declared: str | None = None) -> Decoded | None:
    """Decode `data`. Returns None if it is not text in an encoding that can be recognized.

    Data that is valid UTF-8, or UTF-8 with a few broken bytes, is decoded as UTF-8 even if `declared` names another
    encoding. Wrong labels are more common than other encodings that look like UTF-8 by chance.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _marked(data.removeprefix(mark) if encoding == "utf-8" else data, encoding)
    escaped = _escaped(data) or _seven_bits(data, declared)
    if escaped is not None:
        return escaped
    text = strict(data, "utf-8")
    if text is not None and not is_binary(text):
        return Decoded(text, "utf-8")
    unmarked = _unmarked_utf32(data) or _unmarked_utf16(data)
    if unmarked is not None:
        return unmarked
    if b"\0" in data:
        if is_binary(data.decode("latin-1")):
            return None
        data = data.replace(b"\0", b" ")  # of a damaged text
    codec = _codec(declared)
    return (
        _damaged_utf8(data)
        or _declared(data, codec)
        or _damaged(data, codec)
        or _taiwanese(data)
        or _korean(data, "cp949")
        or _japanese(data)
        or _thai(data)
        or _korean(data, "johab")
        or european(data)
        or _guessed(data)
        or _without_doubt(data, codec)
    )


def declared_encoding(data: bytes) -> str | None:
    """Return the encoding that the head of an HTML or XML text declares, as written, or None."""
    found = _DECLARED.search(data[:4096])
    return None if found is None else found[1].decode("ascii")


def _escaped(data: bytes) -> Decoded | None:
    """Decode ISO 2022, the encoding of Japanese mail for decades. Its bytes are all ASCII, so UTF-8 would accept it."""
    for escape, encoding in _ESCAPES:
        if escape not in data:
            continue
        if (found := _declared(data, encoding) or _of_windows(data) or _damaged(data, encoding)) is not None:
            return found
    if _HZ.search(data) and (text := strict(data, "hz")) is not None:
        return Decoded(text, "hz")
    return None


def _of_windows(data: bytes) -> Decoded | None:
    shift_jis = as_shift_jis(data)
    text = None if shift_jis is None else strict(shift_jis, "cp932")
    return None if text is None else Decoded(text, "iso2022_jp")


def _seven_bits(data: bytes, declared: str | None) -> Decoded | None:
    """Decode UTF-7 of early mail. Its bytes are all ASCII, so it must be declared."""
    is_declared = declared is not None and _python_name(declared).replace("-", "_") == "utf_7"
    text = strict(data, "utf-7") if is_declared and _SEVEN_BITS.search(data) else None
    return None if text is None else Decoded(text, "utf-7")


def _marked(data: bytes, encoding: str) -> Decoded | None:
    """Decode text with a byte order mark. A file that was cut off within a character is still decoded."""
    text = data.decode(encoding, errors="replace")
    return None if text.count("\ufffd") * _DAMAGE > len(text) else Decoded(text, encoding)


def _unmarked_utf32(data: bytes) -> Decoded | None:
    """Decode UTF-32 without a byte order mark. Every fourth byte is zero, because no character is above 0x10FFFF."""
    if len(data) % 4 or len(data) < 8:
        return None
    for encoding, zeros in (("utf-32-le", data[3::4]), ("utf-32-be", data[0::4])):
        if not any(zeros) and (text := strict(data, encoding)) is not None and not is_binary(text):
            return Decoded(text, encoding)
    return None


def _unmarked_utf16(data: bytes) -> Decoded | None:
    """Decode UTF-16 without a byte order mark.

    The zero bytes of ASCII characters identify it. The byte order is the one that gives more ASCII characters.
    """
    if len(data) % 2 or data.count(0) * _MAX_BYTES_PER_ZERO < len(data):
        return None
    texts = [
        (encoding, text) for encoding in ("utf-16-le", "utf-16-be") if (text := strict(data, encoding)) is not None
    ]
    if not texts:
        return None
    encoding, text = max(texts, key=lambda one: sum(character < "\x7f" for character in one[1][:_SAMPLE_CHARACTERS]))
    return Decoded(text, encoding) if not is_binary(text) and _makes_sense(text[:_SAMPLE_CHARACTERS]) else None


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


def _codec(declared: str | None) -> str | None:
    """Return Python's name of the encoding to use for a declared one, or None if it cannot be right."""
    if declared is None:
        return None
    encoding = _python_name(declared)
    try:
        b" ".decode(encoding, "replace")  # `codecs.lookup` also knows codecs that are none of texts, such as base64
    except (LookupError, ValueError):
        return None
    return None if encoding.replace("-", "_") in _NEVER_DECLARED else encoding


def _python_name(declared: str) -> str:
    label = _WINDOWS_LABEL.sub("cp", declared.strip())
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError):  # ValueError: the name contains a NUL
        name = label.lower().replace("-", "_")
    return _SUPERSETS.get(name.replace("-", "_"), _SUPERSETS.get(name, name))


def _declared(data: bytes, encoding: str | None) -> Decoded | None:
    """Decode text in its declared encoding. Western is the default of many programs, so it needs Western text."""
    found = _without_doubt(data, encoding)
    return None if found is None or (found.encoding == _WESTERN and not _is_western(found.text)) else found


def _without_doubt(data: bytes, encoding: str | None) -> Decoded | None:
    text = None if encoding is None else strict(data, encoding)
    return None if text is None or encoding is None else Decoded(text, encoding)


def _is_western(text: str) -> bool:
    """Whether letters with accents stand between others. Those of another script stand side by side."""
    runs = [len(run) for run in BEYOND_ASCII.findall(text[: 10 * _SAMPLE_CHARACTERS])]
    return 2 * sum(run for run in runs if run >= _RUN) <= sum(runs)


def _damaged(data: bytes, encoding: str | None) -> Decoded | None:
    """Decode text in a declared encoding with a few broken bytes."""
    if encoding is None or encoding == _WESTERN:  # which fits too many others
        return None
    text = data.decode(encoding, errors="replace")
    lost, others = text.count("\ufffd"), sum(map(len, BEYOND_ASCII.findall(text)))
    return None if lost * _DAMAGE > others or is_binary(text) else Decoded(text, encoding)


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
    is_in_words = 2 * len(_IN_LATIN_WORD.findall(text)) > common  # accented letters of Europe
    return None if is_in_words else Decoded(text, encoding)


def _is_common(syllable: str) -> bool:
    # Python's EUC-KR codec encodes syllables outside KS X 1001 as eight bytes.
    return len(syllable.encode("euc_kr", errors="ignore")) == 2


def _japanese(data: bytes) -> Decoded | None:
    """Decode EUC-JP if the text has Hiragana.

    charset_normalizer takes short EUC-JP texts for Korean. It recognizes Shift JIS well.
    """
    text = strict(data, "euc_jp")
    if text is None:
        return None
    letters = sum(ord(character) > 127 and character.isalpha() for character in text)
    hiragana = sum("ぁ" <= character <= "ゖ" for character in text)
    return Decoded(text, "euc_jp") if hiragana > 0 and hiragana * 5 >= letters else None


def _taiwanese(data: bytes) -> Decoded | None:
    text = decode_euc_tw(data)
    return None if text is None or is_binary(text) else Decoded(text, "euc_tw")


def _damaged_utf8(data: bytes) -> Decoded | None:
    """Decode UTF-8 with a few broken bytes or a truncated last character.

    Text in another encoding rarely contains valid non-ASCII UTF-8 (one character in ten in Korean and Chinese
    encodings). At least as many valid as broken characters therefore prove that the text is UTF-8.
    """
    text = data.decode("utf-8", errors="replace")
    lost = text.count("\ufffd")
    kept = sum(map(len, BEYOND_ASCII.findall(text))) - lost
    if is_binary(text) or kept <= 0:
        return None
    is_only_cut = lost == 1 and text.endswith("\ufffd")
    return Decoded(text, "utf-8") if is_only_cut or kept >= max(2, lost) else None


def _thai(data: bytes) -> Decoded | None:
    """Decode Thai if its vowel signs and tone marks follow consonants, as they must.

    charset_normalizer takes Thai for Big5.
    """
    text = strict(data, "cp874")
    if text is None or is_binary(text):
        return None
    sample = text[: 10 * _SAMPLE_CHARACTERS]
    marks = len(_THAI_MARK.findall(sample))
    consonants = len(_THAI_CONSONANT.findall(sample))
    is_thai = marks >= _MIN_THAI_MARKS and 20 * len(_THAI_PLACED_MARK.findall(sample)) >= 19 * marks
    return Decoded(text, "cp874") if is_thai and marks < consonants < 8 * marks else None


def _guessed(data: bytes) -> Decoded | None:
    import charset_normalizer  # most files need no guess

    best = charset_normalizer.from_bytes(data, cp_exclusion=_TRIED).best()
    if best is not None and _is_mostly_half_width(data.decode(best.encoding)):  # Cyrillic in KOI8
        best = charset_normalizer.from_bytes(data, cp_exclusion=[*_TRIED, *_SHIFT_JIS]).best()
    if best is None:
        return None
    rivals = next((rivals for rivals in _RIVALS if best.encoding in rivals), (best.encoding,))
    encoding = max(rivals, key=lambda encoding: _letters(data, encoding))
    text = strict(data, encoding)
    return None if text is None or is_binary(text) else Decoded(text, encoding)


def _is_mostly_half_width(text: str) -> bool:
    """Whether most letters are half-width Katakana, which Japanese has only in a few words."""
    half_width = sum("\uff66" <= character <= "\uff9f" for character in text)
    return 2 * half_width > sum(character > "\x7f" and character.isalpha() for character in text)


def _letters(data: bytes, encoding: str) -> tuple[int, int]:
    """Count the letters, without capitals after small ones, and those of them that are no rare letters of Cyrillic."""
    text = strict(data, encoding) or ""
    letters = [
        now for before, now in pairwise(f" {text}") if now.isalpha() and not (now.isupper() and before.islower())
    ]
    return len(letters), sum(not "\u0400" <= letter <= "\u04ff" or "А" <= letter <= "я" for letter in letters)
