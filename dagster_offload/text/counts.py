"""Counts in sentences: `1 document waits`, `2 documents wait`."""

_SINGULAR = {"are": "is", "do": "does", "have": "has"}


def counted(count: int, noun: str, most: int | None = None) -> str:
    """The count with its noun, in the singular or with an s. `most`: see `shown_count`."""
    return f"{shown_count(count, most)} {plural(noun, count)}"


def plural(noun: str, count: float) -> str:
    """The noun for a count, with an s unless it is 1."""
    return noun if count == 1 else f"{noun}s"


def shown_count(count: int, most: int | None = None) -> str:
    """The count. `most` is where counting stopped: such a count is `1,000 or more`."""
    return f"{count:,}" if most is None or count < most else f"{most:,} or more"


def rounded(count: float) -> str:
    """An estimate with three digits and zeros: 17,306,504 is `17,300,000`."""
    return f"{float(f'{count:.3g}'):,.0f}"


def agreeing(verb: str, count: int) -> str:
    """The verb for a count: `waits` and `is` for 1, `wait` and `are` for others."""
    return _SINGULAR.get(verb, f"{verb}s") if count == 1 else verb
