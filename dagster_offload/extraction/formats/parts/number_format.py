"""Format a cell's number as the sheet shows it: 9:30, 85%, 2025-03-04, ₩1,250,000. No I/O.

Dates always come in ISO order. Numbers keep all their digits, even if the cell's format rounds them, and get the zeros and
groups of a format for numbers that count nothing (postal codes, telephone numbers).
Specification of the format codes: ECMA-376 part 1, 18.8.30 and 18.8.31.
"""

import operator
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from math import isfinite

_FIRST_DAY = datetime(1899, 12, 30)  # sheets have no time zones
_DAYS_TO_1904 = 1462
_LEAP_DAY = 60  # Excel counts a 29 February 1900, so days before it are off by one
_SMALLEST, _LONGEST = 1e-12, 1e16  # smaller and larger numbers keep their exponent
_LONGEST_CODE = 1000  # characters; Excel writes at most 255
_LAST_DAY = 2_958_466  # 10000-01-01

_CODES = {
    **dict.fromkeys((5, 6), '"$"#,##0'), **dict.fromkeys((7, 8), '"$"#,##0.00'), 9: "0%", 10: "0.00%", 18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM", 20: "h:mm", 21: "h:mm:ss", 22: "yyyy-mm-dd h:mm", 32: "h:mm", 33: "h:mm:ss", 42: '"$"#,##0',
    44: '"$"#,##0.00', 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss", **dict.fromkeys((14, 15, 16, 17), "yyyy-mm-dd"),
    **dict.fromkeys((*range(27, 32), 36, *range(50, 55), 57, 58), "yyyy-mm-dd"),
}  # fmt: skip
_TOKEN = re.compile(r'"([^"]*)"|\\(.)|[_*].|\[([^\]]*)\]|(.)', re.DOTALL)
# What shows a number as it is: the format of that name, and the one of texts.
_GENERAL = re.compile(r'("[^"]*"|\\.|[_*].|\[[^\]]*\])|general|@', re.IGNORECASE | re.DOTALL)
_SECTION = re.compile(r'((?:"[^"]*"|\\.|[_*].|\[[^\]]*\]|[^;])*)(?:;|$)', re.DOTALL)
_CONDITION = re.compile(r"\[(<=|>=|<>|<|>|=)(-?\d+(?:\.\d+)?)\]")
_ELAPSED = re.compile(r"h+|m+|s+", re.IGNORECASE)
_HALVES = re.compile("am/pm|a/p", re.IGNORECASE)
_MINUSES = "-−–"
_SIGNS = str.maketrans("", "", f"+() {_MINUSES}")
_CURRENCIES = frozenset("$€£¥₩₹₽₺฿元円원")
_DIGITS, _MASK_DIGITS, _MASK_SIGNS = frozenset("0#?"), frozenset("0#"), frozenset("-() +")
_SCALE = re.compile(r"[0#?](,+)[^0#?]*$")
_COMPARISONS = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "<>": operator.ne,
}  # fmt: skip


@dataclass(frozen=True)
class _Format:
    """One section of a parsed format code."""

    prefix: str  # literal text before the number
    suffix: str  # literal text after the number
    mask: str  # digits and signs of a number that is written in groups, such as 000-00-00000; else ""
    whole_digits: int  # at least
    decimals: int
    scale: int  # the number is shown in thousands (1), millions (2) and so on
    has_minus: bool
    has_digits: bool
    has_thousands: bool
    has_currency: bool
    is_percent: bool
    has_date: bool
    has_time: bool
    has_seconds: bool
    is_elapsed: bool
    has_halves: bool  # AM and PM
    hour_digits: int  # at least

    @property
    def words(self) -> str:
        """What a section shows that has words instead of the number, "" for other sections."""
        text = (self.prefix + self.suffix).strip()
        is_words = not (self.has_digits or self.has_date or self.has_time) and any(map(str.isalpha, text))
        return text if is_words else ""

    @property
    def label(self) -> str:
        """What a section shows beside the number, without signs and blanks."""
        return (self.prefix + self.suffix).translate(_SIGNS)


def builtin_code(number: int) -> str:
    """Return the format code for a built-in format number (below 164); "" for those that show numbers unchanged."""
    return _CODES.get(number, "")


def display(value: float, code: str, *, is_1904: bool = False) -> str:
    """Format a number by a format code. `is_1904`: days count from 1904, as in workbooks of old Macs."""
    if not code or not isfinite(value):
        return plain(value)
    shape = _parse(_section(code, value))
    if shape.words:
        return shape.words
    days = value + (_DAYS_TO_1904 if is_1904 and shape.has_date else 0)
    if (shape.has_date or shape.has_time) and 0 <= days < _LAST_DAY:
        return _time(days, shape)
    if shape.is_percent:
        return f"{plain(value * 100)}%"
    number = plain(abs(value) / 1000**shape.scale)
    sign = "-" if value < 0 and (shape.has_minus or not _has_own_label_below_zero(code)) else ""
    prefix = shape.prefix.lstrip(f"+{_MINUSES}") if sign else shape.prefix
    if "e" in number:
        return f"{sign}{prefix}{number}{shape.suffix}"
    whole, _, fraction = number.partition(".")
    if shape.mask and not fraction and not sign:
        return _masked(whole, shape.mask)
    if shape.has_currency:
        whole = f"{int(whole):,}" if shape.has_thousands else whole
        fraction = f"{fraction:0<{shape.decimals}}"
    whole = whole.zfill(shape.whole_digits)
    return f"{sign}{prefix}{whole}{f'.{fraction}' if fraction else ''}{shape.suffix}"


def _section(code: str, value: float) -> str:
    """Return the section of a code that applies to a value.

    Negative numbers and zero have sections of their own. They count only if they have words instead of the number, or
    another label for negative numbers.
    """
    sections, conditions = _sections(code)
    if any(conditions):
        for section, condition in zip(sections, conditions, strict=True):
            if condition is None or _COMPARISONS[condition[1]](value, float(condition[2])):
                return section
    if value < 0 and _has_own_label_below_zero(code):
        return sections[1]
    index = 1 if value < 0 else 2 if value == 0 else 0
    return sections[index] if index < len(sections) and _parse(sections[index]).words else sections[0]


@lru_cache(maxsize=1000)
def _has_own_label_below_zero(code: str) -> bool:
    """Whether negative numbers have another label, such as the DR of `0" CR";0" DR"`. Few sections show a minus beside it."""
    sections, conditions = _sections(code)
    if len(sections) == 1 or any(conditions):
        return False
    positive, negative = (_parse(section).label for section in sections[:2])
    return "" not in (positive, negative) and positive != negative


@lru_cache(maxsize=1000)
def _sections(code: str) -> tuple[list[str], list[re.Match[str] | None]]:
    """Return a code's sections and their conditions. An endless code of an attack is cut off."""
    sections = [section for section in _SECTION.findall(code[:_LONGEST_CODE])[:4] if section] or [""]
    return sections, [_CONDITION.search(section) for section in sections]


def _masked(digits: str, mask: str) -> str:
    """Write digits into the places of a mask, from its end. The first place takes all that are left."""
    places = sum(sign in _MASK_DIGITS for sign in mask)
    padded = digits.rjust(places, "\0")
    first = len(padded) - places + 1
    left = iter([padded[:first], *padded[first:]])
    written = (next(left).replace("\0", "0" if sign == "0" else "") if sign in _MASK_DIGITS else sign for sign in mask)
    return "".join(written).strip()


def plain(value: float) -> str:
    """Format a number with the 15 digits that a sheet stores, without an exponent if possible."""
    text = f"{value + 0.0:.15g}"  # -0.0 becomes 0.0
    return f"{Decimal(text):f}" if "e" in text and _SMALLEST <= abs(value) < _LONGEST else text


def _time(days: float, shape: _Format) -> str:
    seconds = round(days * 86400)
    if shape.is_elapsed or not shape.has_date:
        hours = seconds // 3600 if shape.is_elapsed else seconds // 3600 % 24
        return _clock(hours, seconds, shape)
    moment = _FIRST_DAY + timedelta(days=days < _LEAP_DAY, seconds=seconds)
    day = f"{moment:%Y-%m-%d}"
    if not shape.has_time:
        return day
    return f"{day} {_clock(moment.hour, seconds, shape)}"


def _clock(hours: int, seconds: int, shape: _Format) -> str:
    has_halves = shape.has_halves and not shape.is_elapsed
    shown = (hours % 12 or 12) if has_halves else hours
    clock = f"{shown:0{shape.hour_digits}}:{seconds // 60 % 60:02}"
    clock += f":{seconds % 60:02}" if shape.has_seconds else ""
    return f"{clock} {'AM' if hours < 12 else 'PM'}" if has_halves else clock


@lru_cache(maxsize=1000)
def _parse(code: str) -> _Format:
    """Parse one section of a code."""
    prefix, suffix, letters = "", "", ""
    mask: list[str] = []
    is_elapsed = has_currency = False
    for quoted, escaped, bracket, other in _TOKEN.findall(_GENERAL.sub(lambda found: found[1] or "0", code)):
        literal = quoted or escaped
        if bracket:
            is_elapsed = is_elapsed or _ELAPSED.fullmatch(bracket) is not None
            letters += bracket if _ELAPSED.fullmatch(bracket) else ""
            literal = bracket[1:].partition("-")[0] if bracket.startswith("$") else ""
            has_currency = has_currency or literal != ""
        elif other in _CURRENCIES or other == " ":
            literal = other
        has_currency = has_currency or not _CURRENCIES.isdisjoint(literal)
        letters += other.strip()
        mask.append(literal or other)
        if not _DIGITS.isdisjoint(letters):
            suffix += literal
        else:
            prefix += literal
    has_halves = _HALVES.search(letters) is not None
    names = _HALVES.sub("", letters).lower()
    has_time = "h" in names or "s" in names
    fraction = re.search(r"\.([0#?]+)", letters)
    whole = letters.partition(".")[0]
    scale = _SCALE.search(letters)
    return _Format(
        prefix=prefix.lstrip(),
        suffix=suffix.rstrip(),
        mask=_mask(mask, letters),
        whole_digits=len(whole) if set(whole) == {"0"} else 1,
        decimals=len(fraction[1]) if fraction else 0,
        scale=min(len(scale[1]), 4) if scale else 0,
        has_minus=any(minus in letters or prefix.lstrip().startswith(minus) for minus in _MINUSES),
        has_digits=not _DIGITS.isdisjoint(letters),
        has_thousands=re.search(r"[0#?],+[0#?]", letters) is not None,
        has_currency=has_currency,
        is_percent="%" in letters,
        has_date="y" in names or "d" in names or ("m" in names and not has_time),
        has_time=has_time,
        has_seconds="s" in names,
        is_elapsed=is_elapsed,
        has_halves=has_halves,
        hour_digits=2 if "hh" in names else 1,
    )


def _mask(parts: list[str], letters: str) -> str:
    """Return the mask of a code whose digits stand in groups, such as a telephone number's; "" for other codes."""
    text = "".join(parts)
    places = [index for index, sign in enumerate(text) if sign in _MASK_DIGITS]
    is_in_groups = len(places) > 1 and places[-1] - places[0] >= len(places)
    return text if is_in_groups and set(letters) <= _MASK_DIGITS | _MASK_SIGNS else ""
