"""JSON that a server or a model wrote: reading it ends in a value or in `ValueError`, whatever was sent.

And what comes out can be stored: Postgres takes no NUL, UTF-8 no half of a surrogate pair, and both are legal JSON.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
# Models write line breaks and tabs into their texts as they are.
_DECODER = json.JSONDecoder(strict=False)
_OBJECT_START = re.compile(r'\{(?=\s*["}])')
# A whole text, so that a comma within one is left alone; or a comma that nothing follows.
_TEXT_OR_TRAILING_COMMA = re.compile(r'"(?:[^"\\]++|\\.)*+"|,(?=\s*[}\]])', re.DOTALL)

# How often each character of a text may be read in search of its objects, so that a text of opening braces takes a time
# linear in its length. Counted in characters that the decoder reads in the same time: its errors count the lines before
# them, ten times as fast, and nesting that is too deep takes as long as 40,000.
MOST_READINGS = 20
LEAST_BUDGET = 10_000_000  # a tenth of a second
LINE_COUNTING = 10
NESTED_TOO_DEEP_CHARACTERS = 40_000


def read_json(text: str | bytes) -> Any:
    """The value. Raises `ValueError`, also for what is nested deeper than can be read."""
    try:
        return _storable(json.loads(text))
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_written_json(text: str) -> Any:
    """The same for what a model wrote: line breaks, tabs and trailing commas are as good as none."""
    for attempt in (text, without_trailing_commas(text)):
        try:
            return _storable(_DECODER.decode(attempt))
        except RecursionError:
            break
        except ValueError:
            continue
    raise ValueError("no JSON, or nested too deep")


def without_trailing_commas(text: str) -> str:
    """`text` without commas before a closing bracket, as far as they stand outside of texts in quotation marks."""
    return _TEXT_OR_TRAILING_COMMA.sub(lambda found: "" if found[0] == "," else found[0], text)


def objects_in_prose(text: str) -> Iterator[Any]:
    """The whole JSON objects in a text with prose around them, one after the other."""
    return (value for _, value in located_objects(text))


def located_objects(text: str) -> Iterator[tuple[range, Any]]:
    """The same with where each stands in the text."""
    end, budget = 0, MOST_READINGS * len(text) + LEAST_BUDGET
    for brace in _OBJECT_START.finditer(text):
        start = brace.start()
        if start < end:
            continue
        if budget < 0:
            return
        try:
            value, end = _DECODER.raw_decode(text, start)
            found = range(start, end), _storable(value)
        except json.JSONDecodeError as error:
            budget -= error.pos - start + error.pos // LINE_COUNTING
            continue
        except RecursionError:
            budget -= NESTED_TOO_DEEP_CHARACTERS
            continue
        budget -= end - start
        yield found


def short_texts(value: object, longest: int, depth: int = 0) -> Iterator[str]:
    """The texts in a value, four levels deep, of at most `longest` characters: notices are short, echoed documents not."""
    if isinstance(value, str) and len(value) <= longest:
        yield value
    elif isinstance(value, (dict, list)) and depth < 4:
        for item in value.values() if isinstance(value, dict) else value:
            yield from short_texts(item, longest, depth + 1)


def storable_text(text: str) -> str:
    """`text` without the characters that no database stores."""
    return _NOT_STORABLE.sub("", text)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {storable_text(name): _storable(item) for name, item in value.items()}
    return value
