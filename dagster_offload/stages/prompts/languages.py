"""Maps names of languages to ISO 639-1 codes: `ko-KR`, `KOR`, `Korean` and `한국어` are all `ko`."""

import re

# The languages most documents are written in: code, ISO 639-2, the English name, their own name.
_LANGUAGES = (
    ("ar", "ara", "Arabic", "العربية"),
    ("cs", "ces", "Czech", "čeština"),
    ("da", "dan", "Danish", "dansk"),
    ("de", "deu", "German", "Deutsch"),
    ("el", "ell", "Greek", "ελληνικά"),
    ("en", "eng", "English", "English"),
    ("es", "spa", "Spanish", "español"),
    ("fi", "fin", "Finnish", "suomi"),
    ("fr", "fra", "French", "français"),
    ("he", "heb", "Hebrew", "עברית"),
    ("hi", "hin", "Hindi", "हिन्दी"),
    ("hu", "hun", "Hungarian", "magyar"),
    ("id", "ind", "Indonesian", "bahasa Indonesia"),
    ("it", "ita", "Italian", "italiano"),
    ("ja", "jpn", "Japanese", "日本語"),
    ("ko", "kor", "Korean", "한국어"),
    ("nl", "nld", "Dutch", "Nederlands"),
    ("no", "nor", "Norwegian", "norsk"),
    ("pl", "pol", "Polish", "polski"),
    ("pt", "por", "Portuguese", "português"),
    ("ro", "ron", "Romanian", "română"),
    ("ru", "rus", "Russian", "русский"),
    ("sv", "swe", "Swedish", "svenska"),
    ("th", "tha", "Thai", "ไทย"),
    ("tr", "tur", "Turkish", "Türkçe"),
    ("uk", "ukr", "Ukrainian", "українська"),
    ("vi", "vie", "Vietnamese", "tiếng Việt"),
    ("zh", "zho", "Chinese", "中文"),
)
_CODES = {name.casefold(): code for code, *names in _LANGUAGES for name in names}
_NAMES = {code: name for code, _, name, _ in _LANGUAGES}
_CODE_AND_REGION = re.compile(r"([a-z]{2})(?:[-_][a-z0-9]+)*")


def language_code(named: str) -> str | None:
    """Return the ISO 639-1 code of a language given by code (with or without region) or name; None if it is unknown."""
    name = named.strip().casefold()
    code = _CODE_AND_REGION.fullmatch(name)
    return code[1] if code is not None else _CODES.get(name)


def language_name(named: str) -> str:
    """Return the English name of a language, or `named` itself if the language is unknown."""
    return _NAMES.get(language_code(named) or "", named.strip())
