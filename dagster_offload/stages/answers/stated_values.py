"""Whether words of a document can state a value: its number or date must be in them, and half of the words of a text. Pure."""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from dagster_offload.stages.answers.number_words import small_numbers, words_state
from dagster_offload.stages.answers.written_dates import states_date
from dagster_offload.stages.answers.written_numbers import (
    SAME_SIGNS,
    as_number,
    east_asian_numbers,
    factors,
    fractions,
    readings,
)

# Characters that count: neither white space nor marks of Markdown. A single tilde is no mark: it means "about", or a range.
COUNTING = re.compile(r"(?:[^\s*_`#|\\~]++|(?<!~)~(?!~))+")
_NUMBER = re.compile(r"\d+(?:[.,\s']\d+)*")
_APOSTROPHE = re.compile(r"'(?=\d{3}(?!\d))")  # between thousands it is never between two numbers
_GROUP_OF_THREE = re.compile(r"\d{3}(?:[.,]\d+)?")
_MOST_GROUPS = 12  # of a number in groups; an IBAN has up to 9
_DIGITS = re.compile(r"\d+")
_ROW = re.compile(r"\d+(?:(?:[\s*_`]+|[.,'’](?=\d{3}(?!\d)))\d+)*")
_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_SIGN_BEHIND_DIGIT = re.compile(r"(?<=\d)[²³¹⁰-₉¼-¾⅐-⅞①-⓿]")  # of a footnote or a fraction: no digit of the number
_TIME = re.compile(r"(?<![\d:.,])([012]?\d)[:：]([0-5]\d)(?!\d)")
_WORD = re.compile(r"\w+")


def states_value(value: Any, kind: str, quote: str) -> bool:
    """Whether a quote can state this value. A class or a yes is a conclusion: any words may lead to it."""
    match kind:
        case "number" | "integer":
            return _states_number(value, quote)
        case "date" | "datetime":
            moment = datetime.fromisoformat(value)
            return states_date(moment.date(), quote) and (kind == "date" or _states_time(moment, quote))
        case "string":
            return _states_words(value, quote)
    return True


def _states_number(value: float, quote: str) -> bool:
    wanted = abs(value)
    if _NUMBER.search(quote) is None:
        return words_state(wanted, quote)
    # Signs of other countries are read both ways: `，` separates thousands, or two numbers.
    for text in dict.fromkeys((quote, quote.translate(SAME_SIGNS))):
        by = factors(text)
        for number in _numbers(text):
            if any(_is_same(number * factor, wanted) for factor in by):
                return True
    return False


def _is_same(number: float, wanted: float) -> bool:
    if isinstance(number, int) and isinstance(wanted, int):
        return number == wanted  # such as a customer number: every digit counts
    return math.isclose(number, wanted, rel_tol=1e-14)


def _numbers(text: str) -> Iterator[float]:
    """Every number that a text with digits can state."""
    for written in _NUMBER.findall(text):
        yield from _readings(written)
    yield from east_asian_numbers(text)
    yield from fractions(text)
    yield from small_numbers(text)


def _readings(written: str) -> Iterator[float]:
    """Every number that digits with separators can mean: `1.234` is 1234 or 1.234. Also each number by itself."""
    groups = re.split(r"[\s']", _APOSTROPHE.sub("", written))
    for candidate in ("".join(groups), *_runs(groups)) if len(groups) > 1 else groups:
        if candidate.isdigit():
            yield as_number(candidate)
        elif numbers := readings(candidate):
            yield from numbers
        else:
            parts = re.split(r"[.,]", candidate)
            yield as_number("".join(parts))
            yield float(f"{''.join(parts[:-1])}.{parts[-1]}")
            if all(len(part) != 3 for part in parts):
                yield from map(as_number, parts)  # a date, the number of a section, a list


def _runs(groups: Sequence[str]) -> Iterator[str]:
    """Each group of digits, also with the groups of three that follow: in `2 1 250,00`, also `1250,00`.

    A group `000` is a part of the number before it, so `250 000` is not 250.
    """
    for place, run in enumerate(groups):
        for following in groups[place + 1 : place + _MOST_GROUPS]:
            if not run.isdigit() or _GROUP_OF_THREE.fullmatch(following) is None:
                break
            if not following.startswith("000"):
                yield run
            run += following
        yield run


def _states_time(moment: datetime, quote: str) -> bool:
    """Whether the quote has the time, or none. Only `14:30` is read, by 12 hours. Another zone has another time."""
    times = {(int(hour) % 12, int(minute)) for hour, minute in _TIME.findall(quote)}
    return not times or moment.tzinfo is not None or (moment.hour % 12, moment.minute) in times


def _states_words(value: str, quote: str) -> bool:
    value, quote = _plain(value), _plain(quote)
    stated = set(_WORD.findall(value))
    if not stated:
        return True
    compact = "".join(COUNTING.findall(quote))
    return 2 * sum(word in compact for word in stated) >= len(stated) and _states_digits(value, quote)


def _plain(text: str) -> str:
    """`text` in small letters, with the digits 0 to 9 and without the widths and heights of characters."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", _SIGN_BEHIND_DIGIT.sub(r" \g<0>", text)).casefold()
    return _OTHER_DIGIT.sub(lambda digit: str(int(digit[0])), text)


def _states_digits(value: str, quote: str) -> bool:
    """Whether each number of a text is one of the quote's, as a whole: the 5 of `Unit 5` is not in `Unit 25`."""
    if set(_DIGITS.findall(value)) <= set(_DIGITS.findall(quote)):
        return True
    written = {digits for parts in _rows(quote) for digits in _joined(parts)}
    return all(
        written.issuperset(part.lstrip("0") for part in parts) or "".join(parts).lstrip("0") in written
        for parts in _rows(value)
    )


def _rows(text: str) -> Iterator[list[str]]:
    """The numbers of each row that may be one, such as that of an IBAN or `1.234`."""
    return map(_DIGITS.findall, _ROW.findall(text))


def _joined(parts: Sequence[str]) -> Iterator[str]:
    """Each number of a row by itself, and with those that follow. Without noughts at its beginning."""
    for place in range(len(parts)):
        for joined in accumulate(parts[place : place + _MOST_GROUPS]):
            yield joined.lstrip("0")
