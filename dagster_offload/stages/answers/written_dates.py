"""Whether words state a date: `04.03.2025`, `3/4/25`, `2025년 3월 4일`, `令和7年3月4日`, `4 March 2025`. Pure."""

import re
from collections.abc import Iterator
from datetime import date

_SAME_SIGNS = str.maketrans("‐‑‒–—―−－．／", "--------./")
# Three numbers between two equal separators. Not `04.03. 5 pieces` and `04.03. 10:30`.
_THREE = re.compile(r"(?<!\d)(\d{1,4})( ?([./\-]) ?)(\d{1,2})(?:\2(\d{1,4})| ?\3 ?(\d{4}))(?!\d|:\d)")
# Between blanks, one must be a year: the groups of an IBAN are no date.
_BLANKS = re.compile(r"(?<!\d)(?:(\d\d?) (\d\d?) ([12]\d{3})|([12]\d{3}) (\d\d?) (\d\d?))(?!\d|[.:]\d)")
_EAST_ASIAN = re.compile(r"(?<!\d)(?:(\d{1,4}) ?[년年] ?)?(\d{1,2}) ?[월月] ?(\d{1,2})(?!\d)")
_DAY_MONTH = re.compile(r"(?<!\d)(?<!\d\.)(\d{1,2})\. ?(\d{1,2})\.(?!\d)")  # 04.03., the first day of a range
_MONTH_WORD = re.compile(r"(?<!\d)(\d{1,2})([-/])[^\W\d_]{3,}\.?\2(\d{2,4})(?!\d)")  # 04-Mar-25
_NUMERIC = (_THREE, _BLANKS, _EAST_ASIAN, _DAY_MONTH, _MONTH_WORD)
_LETTER = re.compile(r"[^\W\d_]")
# The year before the first one of an era.
_ERAS = (
    (re.compile(r"令和|令(?=\d)|(?<![A-Za-z])[RＲ](?=\d)"), 2018),
    (re.compile(r"平成|平(?=\d)|(?<![A-Za-z])[HＨ](?=\d)"), 1988),
    (re.compile(r"昭和|昭(?=\d)|(?<![A-Za-z])[SＳ](?=\d)"), 1925),
    (re.compile(r"大正|大(?=\d)|(?<![A-Za-z])[TＴ](?=\d)|民國|民国|民(?=\d)"), 1911),
    (re.compile(r"明治|明(?=\d)|(?<![A-Za-z])[MＭ](?=\d)"), 1867),
)
_BUDDHIST = -543
_REPUBLIC_OF_CHINA = 1911  # a year of three digits needs no era: 114/03/04


def states_date(day: date, text: str) -> bool:
    """Whether `text` can state this day. Of a date in words, only the day and a year of four digits can be compared."""
    text = " ".join(text.translate(_SAME_SIGNS).split())
    numbers = _numbers(text)
    if _without_separators(day) & numbers:
        return True
    if not numbers:
        return True  # written in words
    before_first = [0, _BUDDHIST, *(year for era, year in _ERAS if era.search(text))]
    years = {day.year % 100, (day.year - _BUDDHIST) % 100, *(day.year - year for year in before_first)}
    if day.year - _REPUBLIC_OF_CHINA > 99:
        years.add(day.year - _REPUBLIC_OF_CHINA)
    written_years = {number for number in numbers if 999 < number < 3000}  # a larger one is no year
    if any((month, of_month) == (day.month, day.day) and year in years for year, month, of_month in _dates(text)):
        return True
    if written_years and not written_years & years:
        return False
    if any((month, of_month) == (day.month, day.day) for month, of_month in _days(text)):
        return True
    if any(int(found[1]) == day.day and int(found[3]) in years for found in _MONTH_WORD.finditer(text)):
        return True
    rest = text
    for pattern in _NUMERIC:
        rest = pattern.sub(" ", rest)
    # Without a letter there is no word for the month.
    return day.day in _numbers(rest) and (_LETTER.search(rest) is not None or day.month in numbers)


def _without_separators(day: date) -> set[int]:
    """The day as one number: 20250304, 250304, 04032025, 040325, and with the month first."""
    return {
        number
        for year, digits in ((day.year, 10_000), (day.year % 100, 100))
        for number in (
            year * 10_000 + day.month * 100 + day.day,
            (day.day * 100 + day.month) * digits + year,
            (day.month * 100 + day.day) * digits + year,
        )
    }


def _numbers(text: str) -> set[int]:
    # No date has more than 8 digits, and Python refuses to read thousands of them.
    return {int(written[:9]) for written in re.findall(r"\d+", text)}


def _dates(text: str) -> Iterator[tuple[int, int, int]]:
    """The year, month and day of each date in numbers, in every order that people use."""
    found_in_numbers = [(found[1], found[4], found[5] or found[6]) for found in _THREE.finditer(text)]
    for found in _BLANKS.finditer(text):
        found_in_numbers.append((found[1] or found[4], found[2] or found[5], found[3] or found[6]))
    for first, second, third in (map(int, each) for each in found_in_numbers):
        yield first, second, third
        yield third, first, second
        yield third, second, first
    for found in _EAST_ASIAN.finditer(text):
        if found[1]:
            yield int(found[1]), int(found[2]), int(found[3])


def _days(text: str) -> Iterator[tuple[int, int]]:
    """The month and day of each date in numbers that has no year."""
    for found in _DAY_MONTH.finditer(_THREE.sub(" ", text)):
        yield int(found[1]), int(found[2])
        yield int(found[2]), int(found[1])
    for found in _EAST_ASIAN.finditer(text):
        if not found[1]:
            yield int(found[2]), int(found[3])
