"""Counts in sentences: `1 document waits`, `2 documents wait`."""


def counted(count: int, noun: str) -> str:
    """The count with its noun, in the singular or with an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def agreeing(verb: str, count: int) -> str:
    """The verb for a count: `waits` for 1, `wait` for others."""
    return f"{verb}s" if count == 1 else verb
