"""What is wrong with a value, in our words: what is allowed, and the value itself unless it may be a secret. Pure."""

from collections.abc import Mapping
from typing import Any

from dagster_offload.settings.leaves import BY_KEY
from dagster_offload.slot.config import without_password

LONGEST_VALUE = 60  # characters

# By pydantic's type of the fault. The words in braces come from the fault.
_MESSAGES = {
    "model_type": "must be a section: keys of its own, each with a value",
    "dict_type": "must be a section: keys of its own, each with a value",
    "string_type": "must be text: put a number or a date in quotes",
    "tuple_type": "must be a list: [one, two]",
    "path_type": "must be a path",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number with fewer digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must have at least {min_length} entries",
    "byte_size": "must be a size: 512 MiB, 2 GB, or a number of bytes",
    "byte_size_unit": "must be a size: 512 MiB, 2 GB, or a number of bytes",
}


def message_of(fault: Mapping[str, Any]) -> str:
    """What the value must be."""
    template = _MESSAGES.get(fault["type"])
    if template is None:
        return str(fault["msg"]).removeprefix("Value error, ")
    return template.format(**{name: _number(value) for name, value in fault.get("ctx", {}).items()})


def together(messages: list[str]) -> str:
    """The messages of a value of several types as one: `must be a whole number or 'auto'`."""
    first, *others = dict.fromkeys(messages)
    return " or ".join((first, *(other.removeprefix("must be ") for other in others)))


def shown_value(path: tuple[int | str, ...], value: Any) -> str | None:
    """The wrong value, for the message; None if it may be a secret, or is no single short value."""
    leaf = next((BY_KEY[key] for length in range(len(path), 0, -1) if (key := _key(path[:length])) in BY_KEY), None)
    if leaf is None or leaf.is_secret or not isinstance(value, (str, int, float)):
        return None
    shown = repr(value)
    has_password = isinstance(value, str) and ("@" in value or without_password(value) != value)
    return None if has_password or len(shown) > LONGEST_VALUE else shown


def _key(path: tuple[int | str, ...]) -> tuple[str, ...]:
    return tuple(map(str, path))


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
