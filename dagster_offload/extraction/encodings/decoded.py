"""A decoded text, and what every attempt to decode needs."""

import re
from dataclasses import dataclass

BEYOND_ASCII = re.compile("[^\x00-\x7f]+")
_BINARY = re.compile("[\x00-\x08\x0e-\x1a]")


@dataclass(frozen=True)
class Decoded:
    """A decoded text and the Python name of its encoding."""

    text: str
    encoding: str


def strict(data: bytes, encoding: str) -> str | None:
    """Return the text, or None if a byte does not fit."""
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):  # LookupError: Python's codec is no codec of texts, such as base64
        return None


def is_binary(text: str) -> bool:
    """Whether the text has more than a few NULs or other control characters that do not occur in text."""
    head = text[:100_000]
    return len(_BINARY.findall(head)) > max(2, len(head) // 200)
