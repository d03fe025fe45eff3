"""Whether words of a document can state a value: its number or date must be in them, and half of the words of a text. Pure."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from dagster_offload.stages.answers.written_dates import states_date
from dagster_offload.stages.answers.written_numbers import (
    FRACTION,
    LARGER_WORD,
    SAME_SIGNS,
    east_asian_numbers,
    is_one_number,
)

COUNTING = re.compile(r"[^\s*_`#|\\]+")  # characters that count: neither white space nor marks of Markdown
_NUMBER = re.compile(r"\d+(?:[.,\s']\d+)*")
_GROUP_OF_THREE = re.compile(r"\d{3}(?:[.,]\d+)?")
_MOST_GROUPS = 7  # of a number in groups of three
_WORD = re.compile(r"\w+")
_PERCENT = re.compile(r"[%％]|\b(?:per ?cent|prozent|pour cent)\b", re.IGNORECASE)
_LARGER_BY = (1e3, 1e6, 1e9, 1e12)  # a word means different ones in different languages, such as `billion`
_INDIAN_BY = (1e5, 1e7)


def agrees(value: Any, kind: str, quote: str) -> bool:
    """Whether a quote can state this value. A class or a yes is a conclusion: any words may lead to it."""
    match kind:
        case "number" | "integer":
            return _states_number(value, quote)
        case "date" | "datetime":
            return states_date(datetime.fromisoformat(value).date(), quote)
        case "string":
            return _states_words(value, quote)
    return True


def _states_number(value: float, quote: str) -> bool:
    # Signs of other countries are read both ways: `，` separates thousands, or two numbers.
    texts = tuple(dict.fromkeys((quote, quote.translate(SAME_SIGNS))))
    found = [(text, written) for text in texts for written in _NUMBER.finditer(text)]
    if not found:
        return True  # written in words: only the quote itself can be checked
    numbers = [number for _, written in found for number in _readings(written[0])]
    numbers += [number for text in texts for number in east_asian_numbers(text)]
    numbers += [int(whole[-9:] or 0) + unicodedata.numeric(part) for whole, part in FRACTION.findall(quote)]
    factors = [1.0]
    for text, written in found:
        if (larger := LARGER_WORD.match(text, written.end())) is not None:
            factors += _INDIAN_BY if larger["indian"] else _LARGER_BY
    if _PERCENT.search(quote):
        factors.append(0.01)
    wanted = abs(value)
    return any(abs(number * factor - wanted) < 1e-9 * max(1.0, wanted) for number in numbers for factor in set(factors))


def _readings(written: str) -> Iterator[float]:
    """Every number that digits with separators can mean: `1.234` is 1234 or 1.234. Also each number by itself."""
    groups = re.split(r"[\s']", written)
    for candidate in ("".join(groups), *_runs(groups)):
        plain = re.sub(r"[.,]", "", candidate)
        yield float(plain)
        whole, separator, rest = candidate.replace(",", ".").rpartition(".")
        if separator:
            yield float(f"{whole.replace('.', '')}.{rest}")
        parts = re.split(r"[.,]", candidate)
        if not is_one_number(candidate) and all(len(part) != 3 for part in parts):
            yield from map(float, parts)  # a date, the number of a section, a list


def _runs(groups: Sequence[str]) -> Iterator[str]:
    """Each group of digits, also with the groups of three that follow: in `2 1 250,00`, also `1250,00`."""
    for place, run in enumerate(groups):
        yield run
        for following in groups[place + 1 : place + _MOST_GROUPS]:
            if not run.isdigit() or _GROUP_OF_THREE.fullmatch(following) is None:
                break
            run += following
            yield run


def _states_words(value: str, quote: str) -> bool:
    stated = {word.casefold() for word in _WORD.findall(value)}
    if not stated:
        return True
    compact = "".join(COUNTING.findall(quote)).casefold()
    digits = [word for word in stated if word.isdigit()]
    return all(word in compact for word in digits) and 2 * sum(word in compact for word in stated) >= len(stated)
