"""Reads JSON that a server or a model wrote: any input gives a value or a `ValueError`.

The values can be stored: NUL and unpaired surrogates are legal in JSON, but not in Postgres and UTF-8, so they are
removed.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
MOST_DIGITS = 300  # of an integer. A longer one is infinite as a float, and Python refuses to read thousands of digits.


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


# Models write line breaks and tabs into strings without escaping them.
_DECODER = json.JSONDecoder(strict=False, parse_int=_integer)
_OBJECT_START = re.compile(r'\{(?=\s*["}])')
# A complete string, so that braces within strings do not count; or one brace; or the quotation mark of a string without end.
_STRING_OR_BRACE = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}"]', re.DOTALL)
_NEW_START = re.compile(r"^(?:\{|```)", re.MULTILINE)
# A complete string, so that commas within strings are kept; or a trailing comma.
_STRING_OR_TRAILING_COMMA = re.compile(r'"(?:[^"\\]++|\\.)*+"|,(?=\s*[}\]])', re.DOTALL)

# How often each character may be read in the search for objects, so that the time is linear in the text's length even for
# a text of opening braces. The unit is one character read by the decoder. On an error, the decoder also counts the lines
# before it, which is ten times as fast; nesting that is too deep takes as long as 40,000 characters.
MOST_READINGS = 20
LEAST_BUDGET = 10_000_000  # a tenth of a second
LINE_COUNTING = 10
NESTED_TOO_DEEP_CHARACTERS = 40_000
# Code that reads the values recurses once a level, which Python 3.11 counts as two of its 1,000 calls. The decoder's own limit
# differs between versions of Python: 1,000 or more.
MOST_LEVELS = 420
EACH_OBJECT_CHARACTERS = 200  # what an object costs besides its characters: a text may hold a million empty ones


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises `ValueError` if it is no JSON or is nested too deeply."""
    try:
        value = json.loads(text, parse_int=_integer)
        _refuse_deep(value)
        return value if _is_storable(text) else _storable(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_written_json(text: str) -> Any:
    """Like `read_json`, for JSON that a model wrote: accepts line breaks and tabs in strings, and trailing commas."""
    try:
        try:
            value = _DECODER.decode(text)
        except json.JSONDecodeError:
            value = _DECODER.decode(without_trailing_commas(text))
        _refuse_deep(value)
        return value if _is_storable(text) else _storable(value)
    except (RecursionError, ValueError):
        raise ValueError("not JSON, or nested too deeply") from None


def _is_storable(text: str | bytes) -> bool:
    """Whether every string in this JSON can certainly be stored. The check is much faster than a visit to each string."""
    if isinstance(text, str):
        return "\\u" not in text and NOT_STORABLE.search(text) is None
    # NUL is in UTF-16 and UTF-32 too, where an escape looks different. All surrogates begin with 0xED in UTF-8.
    return b"\\u" not in text and b"\xed" not in text and b"\0" not in text


def without_trailing_commas(text: str) -> str:
    """`text` without commas before a closing bracket. Commas in strings are kept."""
    return _STRING_OR_TRAILING_COMMA.sub(lambda found: "" if found[0] == "," else found[0], text)


def objects_in_prose(text: str) -> Iterator[Any]:
    """The complete JSON objects in a text that may also contain prose, in order.

    None that lies inside an object that cannot be read: it is a part of that one, whatever it looks like.
    """
    return (value for _, value in _located(text, looks_inside=False))


def located_objects(text: str) -> Iterator[tuple[range, Any]]:
    """The complete JSON objects in a text, each with its position; also those inside an object that cannot be read."""
    return _located(text, looks_inside=True)


def _located(text: str, *, looks_inside: bool) -> Iterator[tuple[range, Any]]:
    end, budget = 0, MOST_READINGS * len(text) + LEAST_BUDGET
    for brace in _OBJECT_START.finditer(text):
        start = brace.start()
        if start < end:
            continue
        if budget < 0:
            return
        try:
            value, end = _DECODER.raw_decode(text, start)
            _refuse_deep(value)
            located = range(start, end), _storable(value)
        except (json.JSONDecodeError, RecursionError) as error:
            budget -= _reading(error, start)
            if not looks_inside:
                end, read = _end_of_broken(text, start)
                budget -= read - start
            continue
        budget -= end - start + EACH_OBJECT_CHARACTERS
        yield located


def _reading(error: Exception, start: int) -> int:
    """What it cost to find that there is no object at `start`."""
    if isinstance(error, json.JSONDecodeError):
        return error.pos - start + error.pos // LINE_COUNTING
    return NESTED_TOO_DEEP_CHARACTERS


def _end_of_broken(text: str, start: int) -> tuple[int, int]:
    """Where the object at `start`, which is no JSON, ends, and how far the text was read to find that.

    It ends at its closing brace. Without one, it ends before the next line that begins with a brace or a fence, where models
    begin anew: an object inside another one is indented. Otherwise it is all the rest.
    """
    level = 0
    for found in _STRING_OR_BRACE.finditer(text, start):
        if found[0] == '"':
            break
        level += {"{": 1, "}": -1}.get(found[0], 0)
        if level == 0:
            return found.end(), found.end()
    anew = _NEW_START.search(text, start + 1)
    return len(text) if anew is None else anew.start(), len(text)


def short_texts(value: object, longest: int, depth: int = 0) -> Iterator[str]:
    """The strings in a value of at most `longest` characters, four levels deep: messages are short, echoed documents
    are longer."""
    if isinstance(value, str) and len(value) <= longest:
        yield value
    elif isinstance(value, (dict, list)) and depth < 4:
        for item in value.values() if isinstance(value, dict) else value:
            yield from short_texts(item, longest, depth + 1)


def storable_text(text: str) -> str:
    """`text` without the characters that Postgres cannot store."""
    return NOT_STORABLE.sub("", text)


def _refuse_deep(value: Any) -> None:
    """Raise `RecursionError` if lists and objects are nested more than `MOST_LEVELS` deep."""
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, (dict, list))
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise RecursionError("nested too deeply")


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {storable_text(name): _storable(item) for name, item in value.items()}
    return value
