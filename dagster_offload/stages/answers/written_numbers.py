"""Numbers as people write them: `1,234.50`, `1.234,50 EUR`, `₩45,000`. Pure."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

# Characters of a number that is written as text. Matching the pattern of a longer one could take hours.
LONGEST_NUMBER = 200

_NUMBER = re.compile(r"([^\d+\-.,]*)([+-]?\d[\d.,' ]*)([^\d]*)")
# Signs that mean the same: blanks, the apostrophe of Swiss numbers, full-width signs, and Arabic separators.
SAME_SIGNS = str.maketrans("\u00a0\u2007\u2009\u202f\u3000’＇ʼ´`，．٬٫－（", "     ''''',.,.-(")
# Three ways to write digits, each with a fraction: in groups of three (`0.125` is none), as in India, without groups.
_FORMS = (
    re.compile(r"(?P<whole>[+-]?(?!0\D)\d{1,3}([.,' ])\d{3}(?:\2\d{3})*)(?:(?!\2)[.,](?P<fraction>\d+))?"),
    re.compile(r"(?P<whole>[+-]?\d{1,2}(?:,\d{2})+,\d{3})(?:\.(?P<fraction>\d+))?"),
    re.compile(r"(?P<whole>[+-]?\d+)(?:[.,](?P<fraction>\d+))?"),
)
_MINUS = re.compile(r"[\u2212\u2012\u2013](?=\s*\d)")  # the minus sign and the dashes that stand for it
# Before a number, also before its currency: `−$5`. Accounts in Japan and Korea mark a negative number with a triangle.
_NEGATIVE = re.compile(
    r"(?:[\u2012-\u2015\u2212▲△▼▽]\s*(?:[^\w\s]{1,2}|[A-Z]{1,3}\$?)?|\(|\b(?:minus|moins|menos|meno)\s[^\d]{0,5})\s*$"
)
_FRACTION = re.compile(r"(?<!\d)(\d*+) ?([¼½¾⅐-⅞])")
_SLASHED = re.compile(r"(?:(?<![\d.,/])(\d{1,6})[ -])?(?<![\d.,/])(\d{1,2}) ?[/⁄] ?(\d{1,2})(?![\d/])")  # 2 1/2
_RAISED_CENTS = re.compile(r"(?<![\d.,])(\d+)([⁰¹²³⁴-⁹]{2})(?![⁰¹²³⁴-⁹])")  # of a price tag: 99⁹⁹
_POWER = re.compile(
    r"(?<![\d.,])(\d++(?:[.,]\d++)?)(?: ?[×·∙*x] ?10 ?\^? ?|e)([-+−⁻]?[\d⁰¹²³⁴-⁹]{1,3})(?!\d)", re.IGNORECASE
)
_EXPONENT = str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789")
_PERCENT = re.compile(
    r"[%％٪﹪]|百分之|퍼센트|프로|パーセント|\b(?:p(?:er|or|our) ?(?:cent[ou]?m?|cien(?:to)?)|pct|pro[cs]ent\w*|prozent\w*"
    r"|процент\w*|відсот\w*|százalék\w*|yüzde|persen|phần trăm)\b",
    re.IGNORECASE,
)
_PER_MILLE = re.compile(r"‰|\b(?:pro(?: ?mille|mill\w*)|per ?mille?|pour ?mille|por ?mil)\b", re.IGNORECASE)
# Words behind a number that make it a larger one, such as `1.5 million`.
_CURRENCY = r"(?:[€$£]|(?:eur|euros?|chf|usd|gbp|dollars?)\b)"
_LARGER = (
    r"(?:(?:k|m|b|mn|mio|mln|mrd|mld|bn|tsd|tys|thousand|tausend|duizend|tusen|mil|mille|ribu|juta|nghìn|ngàn|triệu|tỷ"
    r"|(?:mill?|bill?|trill?)[ioó]+n\w*|(?:mi|bi|tri)lh(?:[ãõ]|ao|oe)\w*|[mb]iljo\w+|mil(?:li|i|j)[aá]rd?\w*|milyon|milyar"
    rf"|тыс\w*|млн|млрд|миллион\w*|миллиард\w*|(?P<indian>lakhs?|lacs?|crores?))\b|[tkm]{_CURRENCY})"
)
_LARGER_WORD = re.compile(rf"\s*{_LARGER}", re.IGNORECASE)
# Also before the numbers: `TEUR 2.4`, `Mio. EUR 2,4`, `in thousands: 2.4`.
_LARGER_BEFORE = (
    rf"\b(?:[tkm]{_CURRENCY}|(?:in|en|em|i|w|v|в) (?:thousands|tausend|mille|milles|miles|milhares|migliaia|duizenden|tusental"
    rf"|тыс\w*|(?:tsd|mio|mrd|mln|mld|mn|bn|mill?i[oó]n\w*|bill?ion\w*|milliard\w*)\b)|(?:tsd|mio|mrd|mln|mld)\b\.? ?{_CURRENCY})"
)
_LARGER_BESIDE = re.compile(rf"\d\s*{_LARGER}|{_LARGER_BEFORE}", re.IGNORECASE)
_BEFORE = re.compile(_LARGER_BEFORE, re.IGNORECASE)
_LARGER_BY = (10**3, 10**6, 10**9, 10**12)  # a word means different ones in different languages, such as `billion`
_INDIAN_BY = (10**5, 10**7)
_DIGITS: dict[str, float] = {
    character: value
    for value, same in enumerate(
        (
            "영零〇",
            "일一壹壱",
            "이二貳贰弐两兩両",
            "삼三參叁参",
            "사四肆",
            "오五伍",
            "육六陸陆",
            "칠七柒漆",
            "팔八捌",
            "구九玖",
        )
    )
    for character in same
}
_UNITS = {
    character: float(value)
    for value, same in (
        (10, "십十拾"),
        (100, "백百佰"),
        (1_000, "천千仟"),
        (10**4, "만万萬"),
        (10**8, "억亿億"),
        (10**12, "조兆"),
    )
    for character in same
}
CHARACTERS: dict[str, float] = _DIGITS | _UNITS
_LARGER_CHARACTER = re.compile(rf"\s*[{''.join(_UNITS)}]")
_COUNTED = "(?:[원円圓元圆명名]|엔|달러|유로)"
# A digit as a character is none beside Arabic digits: the first one of 이상 in `500 이상`, and 일 in `5일`, which is a day.
_PART = rf"(?>\d+(?:,\d{{3}})*(?:\.\d+)?)|(?<!\d)(?<!\d\s)[{''.join(_DIGITS)}]|[{''.join(_UNITS)}]"
_PARTS = re.compile(_PART)
# At least two parts, or a unit before what is counted: the characters are also in ordinary words, such as 만 in 만료.
_EAST_ASIAN = re.compile(rf"(?<!\d)(?:{_PART})(?:\s?(?:{_PART}))+|[{''.join(_UNITS)}](?=\s?{_COUNTED})")
# 조 means a trillion, and an article of a law: 제3조, 제십조, 3조 2항, 3조의2.
_ARTICLE = re.compile(
    rf"(?<=제)(\s?[\d{''.join(CHARACTERS)}]{{1,5}}?\s?)조|(?<=\d)(\s?)조(?=의\s?\d|\s?제?\s?\d+\s?[항호])"
)
_OF_DATE = re.compile(rf"[{''.join(CHARACTERS)}]{{1,12}}(?=\s?[年月日년월일])|元(?=年)")
_UNITS_OF_TABLE = re.compile(rf"(?:(?:단위|単位|單位|单位)\s?[:：]?|[(（])\s?([{''.join(_UNITS)}]{{1,2}})\s?{_COUNTED}")


def written_number(text: str) -> float | int | None:
    """Return the one number that `text` states, or None if there is none, several, or its separators are ambiguous."""
    numbers = written_numbers(text)
    return numbers[0] if len(numbers) == 1 else None


def written_numbers(text: str) -> tuple[float | int, ...]:
    """Return what `text` can mean as one number: nothing, a number, or both meanings of `1,234`."""
    text = text.strip().translate(SAME_SIGNS)
    found = _NUMBER.fullmatch(_MINUS.sub("-", text)) if len(text) <= LONGEST_NUMBER else None
    if found is None or _means_another_number(*found.groups()):
        return ()
    return readings(found[2].rstrip(" .,'"))


def readings(digits: str) -> tuple[float | int, ...]:
    """What digits with separators mean as one number: `1.234,50` is 1234.5, `1.234` two numbers, and `12.05.2025` none."""
    found = (form.fullmatch(digits) for form in _FORMS)
    return tuple(_read(form["whole"], form["fraction"]) for form in found if form is not None)


def _read(whole: str, fraction: str | None) -> float | int:
    digits = re.sub(r"[.,' ]", "", whole)
    return as_number(digits) if fraction is None else float(f"{digits}.{fraction}")


def as_number(digits: str) -> float | int:
    """The number of digits without separators. Python refuses to read thousands of digits as a whole number."""
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)


def _means_another_number(before: str, number: str, after: str) -> bool:
    """Whether what is around a number changes it: `(12)` and `12-` are negative in accounts, `12k` is 12,000, `2½` is 2.5.

    `5,-` and `5.–` are prices without cents.
    """
    is_negative = _NEGATIVE.search(before) or (after.startswith(("-", "\u2212")) and number[-1] not in ".,")
    return bool(is_negative or _FRACTION.search(before + after) or _BEFORE.search(before)) or any(
        larger.match(after) for larger in (_LARGER_WORD, _LARGER_CHARACTER)
    )


def ambiguity(text: str) -> str | None:
    """The two numbers that `text` can mean, in words; None if it is not ambiguous."""
    numbers = written_numbers(text)
    return f"{text.strip()} can be {numbers[0]} or {numbers[1]}: write one of them" if len(numbers) == 2 else None


def east_asian_numbers(text: str) -> Iterator[float]:
    """The numbers in `text` with Korean, Chinese or Japanese numerals: `3만 5천`, `오백`. Also each group between blanks."""
    if "조" in text:
        text = _ARTICLE.sub(r"\1\2§", text)
    for written in _EAST_ASIAN.findall(text):
        yield _value(_PARTS.findall(written))
        for group in map(_PARTS.findall, written.split()):
            if len(group) > 1:  # a single character may belong to a word
                yield _value(group)


def with_digits(text: str) -> str:
    """`text` with the numbers of a date in digits: 令和元年五月十日 becomes 令和1年5月10日."""
    return _OF_DATE.sub(lambda found: f"{_value(_PARTS.findall(found[0])):.0f}" if found[0] != "元" else "1", text)


def fractions(text: str) -> Iterator[float]:
    """The numbers in `text` with a fraction, raised cents or a power: `2 1/2`, `3½`, `99⁹⁹`, `1.5 × 10^6`."""
    for whole, part in _FRACTION.findall(text):
        yield from _rounded(int(whole[-9:] or 0) + unicodedata.numeric(part))
    for whole, above, below in _SLASHED.findall(text):
        if int(below) > 1:
            yield from _rounded(int(whole or 0) + int(above) / int(below))
    for whole, cents in _RAISED_CENTS.findall(text):
        yield float(f"{whole}.{cents.translate(_EXPONENT)}")
    for number, exponent in _POWER.findall(text):
        yield float(f"{number.replace(',', '.')}e{exponent.translate(_EXPONENT)}")


def _rounded(number: float) -> tuple[float, ...]:
    """A fraction as people and models write it: a third is 0.33 or 0.3333."""
    return (number, *(round(number, digits) for digits in (2, 3, 4, 6)))


def factors(text: str) -> set[float]:
    """What words in `text` can multiply its numbers by: `million`, `TEUR`, `単位：千円`, `%`."""
    found: set[float] = {1}
    for larger in _LARGER_BESIDE.finditer(text):
        found.update(_INDIAN_BY if larger["indian"] else _LARGER_BY)
    for units in _UNITS_OF_TABLE.findall(text):
        found.add(_value(units))
    if _PERCENT.search(text):
        found.add(0.01)
    if _PER_MILLE.search(text):
        found.add(0.001)
    return found


def _value(parts: Sequence[str]) -> float:
    """The value of digits and units: each unit multiplies the number before it; from 10,000 up, all since the last such unit."""
    total = below = number = 0.0
    follows_digit = False
    for part in parts:
        unit, digit = _UNITS.get(part), _DIGITS.get(part)
        if digit is not None:
            number = number * 10 + digit if follows_digit else float(digit)  # 二〇二五
        elif unit is None:
            number = float(part.replace(",", ""))
        elif unit < 10_000:
            below, number = below + (number or 1) * unit, 0
        else:
            total, below, number = total + (below + number or 1) * unit, 0, 0
        follows_digit = digit is not None
    return total + below + number
