"""Counts in sentences: `1 document`, `2 documents`."""


def counted(count: int, noun: str) -> str:
    """The count with its noun, in the singular or with an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
