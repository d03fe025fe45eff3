"""Answers of the stand-in router to stages of a person's own: values that stand in the document, found by their form.

A number is the document's first number, a date its first date, a text its first sentence with a word of the field's name.
"""

import json
import re
from typing import Any

QUOTES = "quotes"

_DATE = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")
_NUMBER = re.compile(r"(?<![\w.,-])\d+(?:\.\d+)?(?![\w.,-])")
_LINE = re.compile(r"[^\n]{3,}")


def filled_in(schema: dict[str, Any], document: str) -> dict[str, Any]:
    """Return an object with every field of a JSON schema, and the quote of each value if the schema asks for quotes."""
    properties = schema["properties"]
    found = {name: _value(name, form, document) for name, form in properties.items() if name != QUOTES}
    values: dict[str, Any] = {name: value for name, (value, _) in found.items()}
    if QUOTES in properties:
        values[QUOTES] = {name: quote for name, (_, quote) in found.items()}
    return values


def invented(answer: str) -> str:
    """Return an answer to an own stage with other numbers; its quotes stay."""
    values = json.loads(answer)
    return json.dumps({name: entry if name == QUOTES else _another(entry) for name, entry in values.items()})


def _another(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _another(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_another(entry) for entry in value]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value + 1 if is_number else value


def _value(name: str, form: dict[str, Any], document: str) -> tuple[Any, Any]:
    """A value, and the words of the document that it comes from."""
    for choice in form.get("anyOf", ()):
        if choice.get("type") != "null":
            value, quote = _value(name, choice, document)
            return (None, None) if quote is None else (value, quote)
    if "enum" in form:
        return _choice(form["enum"], document)
    match form.get("type"):
        case "number" | "integer":
            number = _NUMBER.search(document)
            read = float if form["type"] == "number" else lambda text: int(float(text))
            return (0, None) if number is None else (read(number[0]), number[0])
        case "boolean":
            return True, _sentence(name, document)
        case "array":
            value, quote = _value(name, form["items"], document)
            return ([], []) if quote is None else ([value], [quote])
        case "object":
            parts = {field: _value(field, inner, document) for field, inner in form["properties"].items()}
            quotes = [quote for _, quote in parts.values() if isinstance(quote, str)]
            return {field: value for field, (value, _) in parts.items()}, quotes[0] if quotes else None
    if "[0-9]{4}-" in form.get("pattern", ""):
        date = _DATE.search(document)
        return (None, None) if date is None else (date[0], date[0])
    sentence = _sentence(name, document)
    return sentence, sentence


def _choice(values: list[str], document: str) -> tuple[str, str | None]:
    for value in values:
        if (at := document.casefold().find(value.casefold())) >= 0:
            return value, document[at : at + len(value)]
    return values[-1], _sentence("", document)


def _sentence(name: str, document: str) -> str:
    """The first line with a word of the field's name, else the first line."""
    lines = [" ".join(line.split())[:200] for line in _LINE.findall(document) if line.strip()]
    words = [word for word in name.casefold().split("_") if len(word) > 2]
    named = next((line for line in lines if any(word in line.casefold() for word in words)), None)
    return named or (lines[0] if lines else "(empty document)")
