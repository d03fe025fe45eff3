"""Faults that pydantic finds, in words that a person or a model understands without Python. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

# By the type of the fault. Names in braces come from its context.
_WORDS = {
    "missing": "is missing",
    "model_type": "must be a section: keys of its own, each with a value",
    "dict_type": "must be a mapping of names to values",
    "mapping_type": "must be a mapping of names to values",
    "string_type": "must be text: put a number or a date in quotes",
    "tuple_type": "must be a list: [one, two]",
    "list_type": "must be a list: [one, two]",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number with fewer digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "path_type": "must be a path",
    "byte_size": "must be a size: 512 MiB, 2 GB, or a number of bytes",
    "byte_size_unit": "must be a size: 512 MiB, 2 GB, or a number of bytes",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
}


def several_faults(faults: Iterable[tuple[tuple[int | str, ...], str]]) -> ValidationError:
    """The error for a validator that found several faults, each with its path below the validated value."""
    details = [
        InitErrorDetails(type=PydanticCustomError("fault", "{message}", {"message": message}), loc=path, input=None)
        for path, message in faults
    ]
    return ValidationError.from_exception_data("faults", details)


def path_of(fault: Mapping[str, Any]) -> tuple[int | str, ...]:
    """The keys that lead to a fault, an entry of `ValidationError.errors()`. Those that our own validators add come last."""
    return (*fault["loc"], *fault.get("ctx", {}).get("path", ()))


def fault_in_words(fault: Mapping[str, Any]) -> str:
    """The message of a fault, an entry of `ValidationError.errors()`. Faults of our own validators have their own words."""
    words = _WORDS.get(fault["type"])
    if words is None:
        return str(fault["msg"]).removeprefix("Value error, ")
    try:
        return words.format_map({name: _number(value) for name, value in (fault.get("ctx") or {}).items()})
    except KeyError:  # the fault was listed without its context
        return str(fault["msg"])


def setting_in_words(fault: Mapping[str, Any]) -> str:
    """`fault_in_words` for a value of a YAML file."""
    return _not_text(fault["input"]) if fault["type"] == "string_type" else fault_in_words(fault)


def _not_text(value: Any) -> str:
    """The message for a value of a YAML file that must be text. A date, `no` and `on` are text there."""
    if value is None:
        return "must be text: write it, or remove the entry (null and ~ are text only in quotes)"
    if isinstance(value, (dict, list)):
        return "must be one text: put it in quotes if it has ': ' in it or begins with [ or {"
    return "must be text: put it in quotes"


def faults_in_words(faults: Sequence[Mapping[str, Any]]) -> str:
    """The first faults of an answer in one line: `amount: must be a number; items.0.price: is missing`."""
    return _in_one_line(faults, fault_in_words)


def kinds_of_faults(faults: Sequence[Mapping[str, Any]]) -> str:
    """The first faults of a private value in one line. A message that may quote the value is replaced by the fault's type."""
    return _in_one_line(faults, lambda fault: fault_in_words(fault) if fault["type"] in _WORDS else str(fault["type"]))


def _in_one_line(faults: Sequence[Mapping[str, Any]], describe: Callable[[Mapping[str, Any]], str]) -> str:
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'it'}: {describe(fault)}" for fault in faults[:5])


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
