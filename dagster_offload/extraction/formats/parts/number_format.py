"""Format a cell's number as the sheet shows it: 9:30, 85%, 2025-03-04, ₩1,250,000. No I/O.

Dates always come in ISO order. Numbers keep all their digits, even if the cell's format rounds them.
Specification of the format codes: ECMA-376 part 1, 18.8.30 and 18.8.31.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache

_FIRST_DAY = datetime(1899, 12, 30)  # sheets have no time zones
_DAYS_TO_1904 = 1462
_LEAP_DAY = 60  # Excel counts a 29 February 1900, so days before it are off by one
_LONGEST = 1e16  # larger numbers keep their exponent
_LAST_DAY = 2_958_466  # 10000-01-01

_CODES = {
    **dict.fromkeys((5, 6), '"$"#,##0'), **dict.fromkeys((7, 8), '"$"#,##0.00'), 9: "0%", 10: "0.00%", 18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM", 20: "h:mm", 21: "h:mm:ss", 22: "yyyy-mm-dd h:mm", 32: "h:mm", 33: "h:mm:ss", 42: '"$"#,##0',
    44: '"$"#,##0.00', 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss", **dict.fromkeys((14, 15, 16, 17), "yyyy-mm-dd"),
    **dict.fromkeys((*range(27, 32), 36, *range(50, 55), 57, 58), "yyyy-mm-dd"),
}  # fmt: skip
_TOKEN = re.compile(r'"([^"]*)"|\\(.)|[_*].|\[([^\]]*)\]|(.)', re.DOTALL)
_ELAPSED = re.compile(r"h+|m+|s+", re.IGNORECASE)
_HALVES = re.compile("am/pm|a/p", re.IGNORECASE)
_CURRENCIES = frozenset("$€£¥₩₹₽₺฿元円원")


@dataclass(frozen=True)
class _Format:
    """One section of a parsed format code."""

    prefix: str  # literal text before the number
    suffix: str  # literal text after the number
    decimals: int
    has_thousands: bool
    is_percent: bool
    has_date: bool
    has_time: bool
    has_seconds: bool
    is_elapsed: bool
    has_halves: bool  # AM and PM
    hour_digits: int  # at least

    @property
    def has_currency(self) -> bool:
        return not _CURRENCIES.isdisjoint(self.prefix + self.suffix)


def builtin_code(number: int) -> str:
    """Return the format code for a built-in format number (below 164); "" for those that show numbers unchanged."""
    return _CODES.get(number, "")


def display(value: float, code: str, *, is_1904: bool = False) -> str:
    """Format a number by a format code. `is_1904`: days count from 1904, as in workbooks of old Macs."""
    if not code:
        return plain(value)
    shape = _parse(code)
    days = value + (_DAYS_TO_1904 if is_1904 and shape.has_date else 0)
    if (shape.has_date or shape.has_time) and 0 <= days < _LAST_DAY:
        return _time(days, shape)
    if shape.is_percent:
        return f"{plain(value * 100)}%"
    number = plain(abs(value))
    if shape.has_currency and "e" not in number:
        whole, _, fraction = number.partition(".")
        thousands = f"{int(whole):,}" if shape.has_thousands else whole
        number = f"{thousands}.{fraction:0<{shape.decimals}}" if fraction or shape.decimals else thousands
    return f"{'-' if value < 0 else ''}{shape.prefix}{number}{shape.suffix}"


def plain(value: float) -> str:
    """Format a number with the 15 digits that a sheet stores, without an exponent if possible."""
    text = f"{value + 0.0:.15g}"  # -0.0 becomes 0.0
    return f"{Decimal(text):f}" if "e" in text and abs(value) < _LONGEST else text


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
    """Parse the code's first section, which applies to positive numbers."""
    prefix, suffix, letters = "", "", ""
    is_elapsed = False
    for quoted, escaped, bracket, other in _TOKEN.findall(code):
        literal = quoted or escaped
        if bracket:
            is_elapsed = is_elapsed or _ELAPSED.fullmatch(bracket) is not None
            letters += bracket if _ELAPSED.fullmatch(bracket) else ""
            literal = bracket[1:].partition("-")[0] if bracket.startswith("$") else ""
        elif other == ";":
            break
        elif other in _CURRENCIES:
            literal = other
        letters += other
        if any(digit in letters for digit in "0#?"):
            suffix += literal
        else:
            prefix += literal
    if "general" in letters.lower():
        letters = ""
    has_halves = _HALVES.search(letters) is not None
    names = _HALVES.sub("", letters).lower()
    has_time = "h" in names or "s" in names
    has_date = "y" in names or "d" in names or ("m" in names and not has_time)
    fraction = re.search(r"\.([0#?]+)", letters)
    return _Format(
        prefix=prefix,
        suffix=suffix,
        decimals=len(fraction[1]) if fraction else 0,
        has_thousands="," in letters,
        is_percent="%" in letters,
        has_date=has_date,
        has_time=has_time,
        has_seconds="s" in names,
        is_elapsed=is_elapsed,
        has_halves=has_halves,
        hour_digits=2 if "hh" in names else 1,
    )
