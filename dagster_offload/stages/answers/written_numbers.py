"""Numbers as people write them: `1,234.50`, `1.234,50 EUR`, `₩45,000`. Pure."""

import re
from collections.abc import Iterator, Sequence

# Characters of a number that is written as text. Matching the pattern of a longer one could take hours.
LONGEST_NUMBER = 200

_NUMBER = re.compile(r"([^\d+\-.,]*)([+-]?\d[\d.,' ]*)([^\d]*)")
# Signs that mean the same: blanks, the apostrophe of Swiss numbers, full-width signs, and Arabic separators.
SAME_SIGNS = str.maketrans("\u00a0\u2009\u202f’＇，．٬٫－（", "   '',.,.-(")
# Three ways to write digits, each with a fraction: in groups of three (`0.125` is none), as in India, without groups.
_FORMS = (
    re.compile(r"(?P<whole>[+-]?(?!0\D)\d{1,3}([.,' ])\d{3}(?:\2\d{3})*)(?:(?!\2)[.,](?P<fraction>\d+))?"),
    re.compile(r"(?P<whole>[+-]?\d{1,2}(?:,\d{2})+,\d{3})(?:\.(?P<fraction>\d+))?"),
    re.compile(r"(?P<whole>[+-]?\d+)(?:[.,](?P<fraction>\d+))?"),
)
_MINUS = re.compile(r"[\u2212\u2012\u2013](?=\s*\d)")  # the minus sign and the dashes that stand for it
# Before a number, also before its currency: `−$5`. Accounts in Japan and Korea mark a negative number with a triangle.
_NEGATIVE = re.compile(r"(?:[\u2012-\u2015\u2212▲△▼▽]\s*(?:[^\w\s]{1,2}|[A-Z]{1,3}\$?)?|\()\s*$")
FRACTION = re.compile(r"(\d*) ?([¼½¾⅐-⅞])")
# Words behind a number that make it a larger one, such as `1.5 million`.
LARGER_WORD = re.compile(
    r"\s*(?:(?:k|m|b|mn|mio|mln|mrd|mld|bn|tsd|tys|thousand|tausend|duizend|tusen|mil|mille|ribu|juta|nghìn|ngàn|triệu|tỷ"
    r"|(?:mill?|bill?|trill?)[ioó]+n\w*|(?:mi|bi|tri)lh(?:[ãõ]|ao|oe)\w*|[mb]iljo\w+|mil(?:li|i|j)[aá]rd?\w*|milyon|milyar"
    r"|тыс\w*|млн|млрд|миллион\w*|миллиард\w*|(?P<indian>lakhs?|lacs?|crores?))\b|t(?:€|(?:eur|chf)\b))",
    re.IGNORECASE,
)
_DIGITS = {
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
_LARGER_CHARACTER = re.compile(rf"\s*[{''.join(_UNITS)}]")
_PART = rf"(?>\d+(?:,\d{{3}})*(?:\.\d+)?)|[{''.join((*_DIGITS, *_UNITS))}]"
_PARTS = re.compile(_PART)
# At least two parts, or a unit before what is counted: the characters are also in ordinary words, such as 만 in 만료.
_EAST_ASIAN = re.compile(
    rf"(?<!\d)(?:{_PART})(?:\s?(?:{_PART}))+|[{''.join(_UNITS)}](?=\s?(?:[원円圓元圆명名]|엔|달러|유로))"
)


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
    digits = found[2].rstrip(" .,'")
    readings = (form.fullmatch(digits) for form in _FORMS)
    return tuple(_read(reading["whole"], reading["fraction"]) for reading in readings if reading is not None)


def is_one_number(digits: str) -> bool:
    """Whether digits with separators are written as one number is: `1.234,50`, but not `12.05.2025`."""
    return any(form.fullmatch(digits) for form in _FORMS)


def _read(whole: str, fraction: str | None) -> float | int:
    digits = re.sub(r"[.,' ]", "", whole)
    return int(digits) if fraction is None else float(f"{digits}.{fraction}")


def _means_another_number(before: str, number: str, after: str) -> bool:
    """Whether what is around a number changes it: `(12)` and `12-` are negative in accounts, `12k` is 12,000, `2½` is 2.5.

    `5,-` and `5.–` are prices without cents.
    """
    is_negative = _NEGATIVE.search(before) or (after.startswith(("-", "\u2212")) and number[-1] not in ".,")
    return bool(is_negative or FRACTION.search(before + after)) or any(
        larger.match(after) for larger in (LARGER_WORD, _LARGER_CHARACTER)
    )


def ambiguity(text: str) -> str | None:
    """The two numbers that `text` can mean, in words; None if it is not ambiguous."""
    numbers = written_numbers(text)
    return f"{text.strip()} can be {numbers[0]} or {numbers[1]}: write one of them" if len(numbers) == 2 else None


def east_asian_numbers(text: str) -> Iterator[float]:
    """The numbers in `text` with Korean, Chinese or Japanese numerals: `3만 5천`, `오백`. Also each group between blanks."""
    for written in _EAST_ASIAN.findall(text):
        yield _value(_PARTS.findall(written))
        for group in map(_PARTS.findall, written.split()):
            if len(group) > 1:  # a single character may belong to a word
                yield _value(group)


def _value(parts: Sequence[str]) -> float:
    """The value of digits and units: each unit multiplies the number before it; from 10,000 up, all since the last such unit."""
    total = below = number = 0.0
    follows_digit = False
    for part in parts:
        unit, digit = _UNITS.get(part), _DIGITS.get(part)
        if digit is not None:
            number = number * 10 + digit if follows_digit else number or digit  # 二〇二五; `500 이상` is 500
        elif unit is None:
            number = float(part.replace(",", ""))
        elif unit < 10_000:
            below, number = below + (number or 1) * unit, 0
        else:
            total, below, number = total + (below + number or 1) * unit, 0, 0
        follows_digit = digit is not None and (follows_digit or number == digit)
    return total + below + number
