"""Custom fields of Paperless: values in the form of their types, and which of them were refused. Pure."""

from collections.abc import Mapping
from typing import Any

import httpx

from dagster_offload.sinks.faults import Blame, SinkFault

TEXT = "string"
LONGEST_TEXT = 128  # characters of a value of that type. Only later releases have a type for longer texts.
# Paperless' database refuses values beyond these, and not every release checks them before: they end in HTTP 500.
LONGEST_URL = 200  # characters
INTEGERS = range(-(2**31), 2**31)
# The types of new custom fields, by the type of their column. Others are texts.
NEW_TYPES = {"number": "float", "integer": "integer", "boolean": "boolean", "date": "date"}


def fitting(value: Any, data_type: str) -> Any:
    """The value as far as a field of this type can hold it: longer texts are cut, which an ellipsis shows."""
    if data_type != TEXT or not isinstance(value, str) or len(value) <= LONGEST_TEXT:
        return value
    return value[: LONGEST_TEXT - 1].rstrip() + "…"


def refused_fields(response: httpx.Response, sent: Mapping[str, Any]) -> list[int]:
    """The numbers of the custom fields whose values a change of a document was refused for. Errors stand in the order sent."""
    if response.is_success:
        return []
    try:
        errors = response.json()["custom_fields"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return []
    entries = sent.get("custom_fields", ())
    if not isinstance(errors, list) or len(errors) != len(entries):
        return []
    return [entry["field"] for entry, error in zip(entries, errors, strict=True) if error]


def value_for(field: Mapping[str, Any], value: Any) -> Any:
    """The value in the form of the field's type. Raises `SinkFault` for one that it cannot hold. An address is not cut, because
    it would lead elsewhere."""
    match field["data_type"]:
        case "select":
            for option in field["extra_data"]["select_options"]:
                if option["label"].casefold() == str(value).casefold():
                    return option["id"]
            raise SinkFault(Blame.REFUSED, f"the custom field {field['name']!r} has no choice for this value")
        case "monetary":
            return f"{value:.2f}" if isinstance(value, int | float) else str(value)
        case "url" if len(str(value)) > LONGEST_URL:
            raise SinkFault(
                Blame.REFUSED,
                f"the custom field {field['name']!r} has the type `url`, which takes {LONGEST_URL} characters at most: "
                "for longer addresses, create it with the type `longtext`",
                is_of_record=True,
            )
        case "integer" if isinstance(value, int) and value not in INTEGERS:
            raise SinkFault(
                Blame.REFUSED,
                f"the custom field {field['name']!r} has the type `integer`, which takes no number of this size: create it "
                "with the type `string`",
                is_of_record=True,
            )
        case "string" | "url" | "longtext":
            return str(value)
    return value


def value_in(field: Mapping[str, Any], value: Any) -> Any:
    """The value of a field as a record would have it."""
    if field["data_type"] == "select" and value is not None:
        return next((o["label"] for o in field["extra_data"]["select_options"] if o["id"] == value), None)
    if field["data_type"] == "monetary" and isinstance(value, str):
        try:
            return float(value.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        except ValueError:
            return value
    return value
