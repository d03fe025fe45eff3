"""The form of Unicode in which names and values are compared. A Mac gives the names of its files in another one, NFD."""

import unicodedata
from collections.abc import Mapping
from typing import Any


def in_nfc(value: Any) -> Any:
    """The value with all its texts in Unicode NFC, also those of its mappings and lists."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, Mapping):
        return {in_nfc(key): in_nfc(each) for key, each in value.items()}
    return [in_nfc(each) for each in value] if isinstance(value, (list, tuple)) else value
