"""Numbers as people write them: `1,234.50`, `1.234,50 EUR`, `₩45,000`. Pure."""

import math
import re

# Characters of a number that is written as text. Matching the pattern of a longer one could take hours.
LONGEST_NUMBER = 200

_NUMBER = re.compile(r"([^\d+\-.,]*)([+-]?\d[\d.,\s'\u00a0\u202f]*)([^\d]*)")
_MINUS = re.compile(r"[\u2212\u2012\u2013](?=\s*\d)")  # the minus sign and the dashes that stand for it
# Words behind a number that make it a larger one, such as `1.5 million` and `3만`.
LARGER = re.compile(
    r"\s*(?:(?:k|m|mn|mio|mrd|bn|tsd|thousand|tausend|mille|million\w*|milliard\w*|billion\w*)\b|[십백천만억조十百千万萬亿億兆])",
    re.IGNORECASE,
)


def written_number(text: str) -> float | int | None:
    """Return the one number that `text` states, or None if there is none, several, or its separators are ambiguous."""
    numbers = written_numbers(text)
    return numbers[0] if len(numbers) == 1 else None


def written_numbers(text: str) -> tuple[float | int, ...]:
    """Return what `text` can mean as one number: nothing, a number, or both meanings of `1,234`."""
    text = text.strip()
    found = _NUMBER.fullmatch(_MINUS.sub("-", text)) if len(text) <= LONGEST_NUMBER else None
    if found is None or _means_another_number(*found.groups()):
        return ()
    digits = re.sub(r"[\s'\u00a0\u202f]", "", found[2]).rstrip(".,")
    separators = [character for character in digits if character in ".,"]
    if not separators:
        return (int(digits),)
    last = separators[-1]
    whole, _, rest = digits.rpartition(last)
    if len(separators) == 1 and len(rest) == 3 and whole.lstrip("+-") != "0":
        return int(whole + rest), float(f"{whole}.{rest}")  # a thousand in one country and one and a bit in another
    is_decimal = len(set(separators)) == 2 or len(separators) == 1
    plain = re.sub(r"[.,]", "", whole) + f".{rest}" if is_decimal else re.sub(r"[.,]", "", digits)
    try:
        number = float(plain)
    except ValueError:
        return ()
    return (number if is_decimal or not math.isfinite(number) else int(number),)


def _means_another_number(before: str, number: str, after: str) -> bool:
    """Whether what is around a number changes it: `(12)` and `12-` are negative in accounts, `12k` is 12,000.

    `5,-` and `5.–` are prices without cents.
    """
    is_negative = before.rstrip().endswith("(") or (after.startswith(("-", "\u2212")) and number[-1] not in ".,")
    return is_negative or LARGER.match(after) is not None


def ambiguity(text: str) -> str | None:
    """The two numbers that `text` can mean, in words; None if it is not ambiguous."""
    numbers = written_numbers(text)
    return f"{text.strip()} can be {numbers[0]} or {numbers[1]}: write one of them" if len(numbers) == 2 else None
