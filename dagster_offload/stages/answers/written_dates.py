"""Whether words state a date: `04.03.2025`, `3/4/25`, `2025년 3월 4일`, `令和7年3月4日`, `4 March 2025`. Pure."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

from dagster_offload.stages.answers.month_names import months_in, months_of
from dagster_offload.stages.answers.number_words import words_state_day
from dagster_offload.stages.answers.written_numbers import with_digits

_SAME_SIGNS = str.maketrans("‐‑‒–—―−－．／", "--------./")
# Three numbers between two equal separators. Not `04.03. 5 pieces` and `04.03. 10:30`.
_THREE = re.compile(r"(?<!\d)(\d{1,4})( ?([./\-]) ?)(\d{1,2})(?:\2(\d{1,4})| ?\3 ?(\d{4}))(?!\d|:\d)")
# Between blanks, one must be a year: the groups of an IBAN are no date.
_BLANKS = re.compile(r"(?<!\d)(?:(\d\d?) (\d\d?) ([12]\d{3})|([12]\d{3}) (\d\d?) (\d\d?))(?!\d|[.:]\d)")
_EAST_ASIAN = re.compile(r"(?<!\d)(?:(\d{1,4}) ?[년年] ?)?(\d{1,2}) ?[월月] ?(\d{1,2})(?!\d)")
_DAY_MONTH = re.compile(r"(?<!\d)(?<!\d\.)(\d{1,2})\. ?(\d{1,2})\.(?!\d)")  # 04.03., the first day of a range
_MONTH_SIGN = re.compile(r"(?<!\d)(\d{1,2}) ?[월月]")
_YEAR_OR_MONTH = re.compile(r"(?<!\d)\d{1,4} ?[년年월月]")
_VIETNAMESE = re.compile(r"(?<!\d)(\d\d?) tháng (\d\d?)(?:,? năm (\d{4}))?(?!\d)")
_WEEK = re.compile(r"(?<!\d)(\d{4})-?W(\d\d)-?([1-7])(?!\d)")  # 2025-W10-2
# A number of two digits behind a month is a year, unless it is a time, a count or an amount.
_YEAR = r"(\d{4}(?!\d)|\d\d(?!\d|[.:,/\-] ?\d| ?[^\W\d_]| ?[%€$£₩¥])|(?<=['’])\d\d(?!\d))"
_DAY_FIRST = re.compile(  # 4 March 2025, 4. März 25, 4 de marzo de 2025, 4th day of March
    r"(?<!\d)(\d\d?)(?:st|nd|rd|th|er|º|ª|°|\.)? ?(?:(?:day )?(?:of|de|den) |d')?([^\W\d_]{3,20}+)\.?"
    rf"(?:,? (?:de |del |of )?['’]?{_YEAR})?"
)
_MONTH_FIRST = re.compile(
    rf"(?<![^\W\d_])([^\W\d_]{{3,20}}+)\.? (?:the )?(\d\d?)(?!\d|:\d)(?:st|nd|rd|th|\.)?(?:,? ['’]?{_YEAR})?"
)
_MONTH_WORD = re.compile(r"(?<!\d)(\d{1,2})([-/])([^\W\d_]{3,})\.?\2(\d{2,4})(?!\d)")  # 04-Mar-25
_NUMERIC = (_THREE, _BLANKS, _EAST_ASIAN, _VIETNAMESE, _WEEK, _DAY_MONTH, _YEAR_OR_MONTH)
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
    """Whether `text` can state this day. The words for its day, and for its month in some languages, are not read."""
    text = " ".join(with_digits(text).translate(_SAME_SIGNS).split())
    numbers = _numbers(text)
    if any(number > 9_999 for number in numbers) and not _without_separators(day).isdisjoint(numbers):
        return True
    before_first = [0, _BUDDHIST, *(year for era, year in _ERAS if era.search(text))]
    years = {day.year % 100, (day.year - _BUDDHIST) % 100, *(day.year - year for year in before_first)}
    if day.year - _REPUBLIC_OF_CHINA > 99:
        years.add(day.year - _REPUBLIC_OF_CHINA)
    written_years = {number for number in numbers if 999 < number < 3000}  # a larger one is no year
    if any((month, of_month) == (day.month, day.day) and year in years for year, month, of_month in _dates(text)):
        return True
    with_month = list(_with_month_in_words(text))
    if any(each.states(day) and each.year in years for each in with_month):
        return True
    if written_years and not written_years & years:
        return False
    if any((month, of_month) == (day.month, day.day) for month, of_month in _days(text)):
        return True
    if any(each.states(day) and each.year is None for each in with_month):
        return True
    months = months_in(text) | set(map(int, _MONTH_SIGN.findall(text)))
    if months and day.month not in months:
        return False
    if numbers <= written_years:
        return bool(months or not numbers) and words_state_day(day.day, re.sub(r"\d+", " ", text))
    rest = text
    for pattern in _NUMERIC:
        rest = pattern.sub(" ", rest)
    for each in with_month:
        rest = rest.replace(each.text, " ")
    # Without a letter there is no word for the month.
    has_month = bool(months) or _LETTER.search(rest) is not None or day.month in numbers
    return has_month and day.day in _numbers(rest)


@dataclass(frozen=True)
class _WithMonth:
    """A day whose month is a word. No months: it is not known which one the word means."""

    text: str
    year: int | None
    months: frozenset[int]
    of_month: int

    def states(self, day: date) -> bool:
        return self.of_month == day.day and (not self.months or day.month in self.months)


def _with_month_in_words(text: str) -> Iterator[_WithMonth]:
    found = [(found[0], found[4], found[3], found[1]) for found in _MONTH_WORD.finditer(text)]
    found += [(found[0], found[3], found[2], found[1]) for found in _DAY_FIRST.finditer(text)]
    text = _DAY_FIRST.sub(lambda found: "|" if found[3] else found[0], text)  # in `1. März 25` the 25 is no day
    found += [(found[0], found[3], found[1], found[2]) for found in _MONTH_FIRST.finditer(text)]
    for written, year, word, of_month in found:
        months = months_of(word)
        if months or year:
            yield _WithMonth(written, int(year) if year else None, months, int(of_month))


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
    for found in _VIETNAMESE.finditer(text):
        if found[3]:
            yield int(found[3]), int(found[2]), int(found[1])
    for found in _WEEK.finditer(text):
        with suppress(ValueError):  # there is no such week
            day = date.fromisocalendar(int(found[1]), int(found[2]), int(found[3]))
            yield day.year, day.month, day.day


def _days(text: str) -> Iterator[tuple[int, int]]:
    """The month and day of each date in numbers that has no year."""
    for found in _DAY_MONTH.finditer(_THREE.sub(" ", text)):
        yield int(found[1]), int(found[2])
        yield int(found[2]), int(found[1])
    for found in _EAST_ASIAN.finditer(text):
        if not found[1]:
            yield int(found[2]), int(found[3])
    for found in _VIETNAMESE.finditer(text):
        if not found[3]:
            yield int(found[2]), int(found[1])
