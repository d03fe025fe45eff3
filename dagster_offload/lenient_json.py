"""JSON that a server or a model wrote: reading it ends in a value or in `ValueError`, whatever was sent.

And what comes out can be stored: Postgres takes no NUL, UTF-8 no half of a surrogate pair, and both are legal JSON.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
_DECODER = json.JSONDecoder()
MOST_BRACES_TRIED = 200  # a text of opening braces must not be read from each of them


def read_json(text: str | bytes) -> Any:
    """The value. Raises `ValueError`, also for what is nested deeper than can be read."""
    try:
        return _storable(json.loads(text))
    except RecursionError:
        raise ValueError("nested too deep") from None


def objects_in_prose(text: str) -> Iterator[Any]:
    """The whole JSON objects in a text with prose around them, one after the other."""
    return (value for _, value in located_objects(text))


def located_objects(text: str) -> Iterator[tuple[range, Any]]:
    """The same with where each stands in the text."""
    end = 0
    for brace in islice(re.finditer(r"\{", text), MOST_BRACES_TRIED):
        if brace.start() < end:
            continue
        try:
            value, end = _DECODER.raw_decode(text, brace.start())
            yield range(brace.start(), end), _storable(value)
        except (ValueError, RecursionError):
            continue


def short_texts(value: object, longest: int, depth: int = 0) -> Iterator[str]:
    """The texts in a value, four levels deep, of at most `longest` characters: notices are short, echoed documents not."""
    if isinstance(value, str) and len(value) <= longest:
        yield value
    elif isinstance(value, (dict, list)) and depth < 4:
        for item in value.values() if isinstance(value, dict) else value:
            yield from short_texts(item, longest, depth + 1)


def storable_text(text: str) -> str:
    """`text` with a question mark for each character that can stand in no database."""
    return _NOT_STORABLE.sub("?", text)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {storable_text(name): _storable(item) for name, item in value.items()}
    return value
