"""Fields of an answer from a JSON Schema (of a file, or of a pydantic model). Pure.

A schema is converted to the form that people write (`fields.read_answer`), so both forms have the same rules. What that
form cannot hold is refused, because no answer could be checked for it; a pydantic model checks such rules itself.
"""

from collections.abc import Mapping
from typing import Any

from dagster_offload.stage_spec.fields import DEEPEST, Field, FieldError, read_answer
from dagster_offload.text.suggestions import use_one_of

# Keywords that state nothing about an answer, or that hold for every answer anyway.
_REMARKS = frozenset({"title", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions"})
_HELD = frozenset({"type", "description", "required", "properties", "additionalProperties", "items", "enum", "const"})
_DETAILS = {
    "minimum": "min",
    "maximum": "max",
    "pattern": "pattern",
    "maxLength": "max_length",
    "maxItems": "max_items",
}
_TYPES = ("string", "number", "integer", "boolean", "array", "object")
MOST_STEPS = 100  # references and choices from a schema to its type
_NULL = "null"  # our mark of a schema that also accepts null
_KNOWN = _REMARKS | _HELD | _DETAILS.keys() | {"format", _NULL}
_DATES = {"date": "date", "date-time": "datetime"}


def fields_of_schema(schema: Mapping[str, Any], *, is_checked_elsewhere: bool = False) -> tuple[Field, ...]:
    """The fields that a JSON Schema describes. Raises `FieldError` with the path of what it cannot hold.

    `is_checked_elsewhere`: keywords that these fields cannot hold are left to the pydantic model that the schema is of.
    """
    reader = _Reader(schema, is_checked_elsewhere)
    form = reader.form(schema, ())
    if "fields" not in form:
        raise FieldError((), "must describe an object: {type: object, properties: {...}}")
    return read_answer(form["fields"])


class _Reader:
    def __init__(self, root: Mapping[str, Any], is_checked_elsewhere: bool) -> None:
        self._root, self._is_checked_elsewhere = root, is_checked_elsewhere

    def form(self, written: Any, path: tuple[str, ...]) -> dict[str, Any]:
        """The written form of one schema."""
        if len(path) > 2 * DEEPEST:
            raise FieldError(path, f"is nested more than {DEEPEST} levels deep, or refers to itself")
        schema = self._resolved(written, path)
        unknown = sorted(str(keyword) for keyword in schema.keys() - _KNOWN)
        if unknown and not self._is_checked_elsewhere:
            raise FieldError(
                (*path, unknown[0]), f"the keyword {unknown[0]!r} is not supported: no answer could be checked for it"
            )
        if not isinstance(schema.get("required", []), (list, tuple)):
            raise FieldError((*path, "required"), "must be a list of names of fields, beside `properties`")
        form = self._typed(schema, path)
        form |= {ours: schema[theirs] for theirs, ours in _DETAILS.items() if theirs in schema}
        if isinstance(schema.get("description"), str):
            form["description"] = schema["description"]
        return form | ({"optional": True} if schema.get(_NULL) else {})

    def _resolved(self, written: Any, path: tuple[str, ...], seen: tuple[str, ...] = ()) -> dict[str, Any]:
        """The schema without references and without null among its types; the key `_NULL` says that it had it.

        `seen`: the references and keywords that led to it.
        """
        if len(seen) > MOST_STEPS:
            raise FieldError(path, "is nested too deeply, or refers to itself")
        if not isinstance(written, Mapping):
            raise FieldError(path, "must be a schema: {type: string}")
        schema = dict(written)
        if (reference := schema.pop("$ref", None)) is not None:
            if str(reference) in seen:
                raise FieldError(path, "refers to itself")
            return self._resolved({**self._definition(reference, path), **schema}, path, (*seen, str(reference)))
        for keyword in ("anyOf", "oneOf", "allOf"):
            if keyword in schema:
                choices = schema.pop(keyword)
                if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
                    raise FieldError((*path, keyword), "must be a list of schemas: [{type: string}, {type: 'null'}]")
                others = self._without_decimals([choice for choice in choices if choice != {"type": "null"}])
                if len(others) != 1:
                    raise FieldError((*path, keyword), "must have one type, or one type and null")
                return self._resolved(
                    {**others[0], **schema, **({_NULL: True} if {"type": "null"} in choices else {})},
                    path,
                    (*seen, keyword),
                )
        types = schema.get("type")
        if isinstance(types, list):
            others = [kind for kind in types if kind != "null"]
            if len(others) != 1:
                raise FieldError((*path, "type"), "must be one type, or one type and null")
            schema |= {"type": others[0], _NULL: "null" in types or schema.get(_NULL, False)}
        values = schema.get("enum")
        if isinstance(values, list) and None in values:
            schema |= {"enum": [value for value in values if value is not None], _NULL: True}
        return schema

    def _without_decimals(self, choices: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The choices, of which a pydantic model has two for a `Decimal`, a number or the same as text: the first is enough."""
        numbers = [choice for choice in choices if choice.get("type") == "number"]
        is_decimal = len(choices) == 2 and len(numbers) == 1 and any(each.get("type") == "string" for each in choices)
        return numbers if is_decimal and self._is_checked_elsewhere else choices

    def _definition(self, reference: Any, path: tuple[str, ...]) -> Mapping[str, Any]:
        found: Any = self._root
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise FieldError((*path, "$ref"), f"{reference!r} leads out of the schema: only #/$defs/... can be used")
        for part in reference[2:].split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise FieldError((*path, "$ref"), f"{reference!r} is not in the schema")
        return found

    def _typed(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return {"enum": values}
        kind = schema.get("type")
        if kind == "object" or "properties" in schema:
            return {"fields": self._properties(schema, path)}
        if kind == "array":
            return {"type": [self.form(schema.get("items"), (*path, "items"))]}
        if kind == "string" and (date := _DATES.get(str(schema.get("format")))) is not None:
            return {"type": date}
        if kind not in _TYPES:
            hint = use_one_of(str(kind), _TYPES)
            raise FieldError((*path, "type"), f"{kind!r} is not a type that an answer can have: {hint}")
        return {"type": kind}

    def _properties(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        properties, required = schema.get("properties"), schema.get("required", ())
        if not isinstance(properties, Mapping) or not properties:
            raise FieldError((*path, "properties"), "must name the fields of the object")
        forms = {}
        for name, written in properties.items():
            form = self.form(written, (*path, "properties", str(name)))
            # A list is never null: it may be empty.
            is_list = isinstance(form.get("type"), list)
            forms[name] = form | ({"optional": True} if name not in required and not is_list else {})
            if is_list:
                forms[name].pop("optional", None)
        return forms
