"""Whatever a person writes as the fields of an answer, it is read, or refused as a field that is written wrongly."""

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_offload.stage_spec.fields import Field, FieldError, read_answer
from dagster_offload.stage_spec.json_schema import fields_of_schema
from dagster_offload.stages.answers.answer_model import answer_model, in_words, json_schema

ENOUGH = 5  # of 100 forms: a test whose forms are all refused shows little

NUMBERS = st.sampled_from(
    [0, 1, -1, 1.5, 10**19, 10**400, -(10**400), 1e308, float("inf"), float("-inf"), float("nan")]
)
SCALARS = st.none() | st.booleans() | NUMBERS | st.integers() | st.text(max_size=3)


def loose(words: list[str], keys: list[str]) -> st.SearchStrategy[Any]:
    """Values of any form, made of words and keys that mean something there."""
    scalars = SCALARS | st.sampled_from(words)
    names = st.sampled_from(keys) | st.sampled_from(["a", "b", 1, None, "\ud800"])
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
        max_leaves=12,
    )


FORM_WORDS = ["string", "number?", "integer", "date", "datetime?", "boolean", "a{99999999999}", "(" * 500]
FORM_KEYS = ["type", "enum", "fields", "description", "optional", "canonical", "min", "max", "pattern"]
FORM_KEYS += ["max_length", "max_items"]
ANY_FORM = loose(FORM_WORDS, FORM_KEYS)
RIGHT_FIELDS: dict[str, dict[str, Any]] = {
    "text": {"type": "string", "max_length": 80, "pattern": "[A-Z].*", "canonical": True},
    "count": {"type": "integer", "min": 0, "max": 1e9},
    "kind": {"enum": ["bill", "fine"], "optional": True},
    "items": {"type": [{"fields": {"what": "string", "price": "number?"}}], "max_items": 5},
}
SOUND_DETAILS = {
    "description": "the payee",
    "optional": True,
    "max_length": 5,
    "min": -1.5,
    "max": 1e308,
    "max_items": 1,
}

SCHEMA_WORDS = ["string", "number", "integer", "boolean", "null", "object", "array", "date", "date-time"]
REFERENCES = ["#/$defs/A", "#/$defs/B", "#/properties/a", "#/$defs/A/items", "#"]
SCHEMA_KEYS = ["type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "format"]
LIMITS = ["minimum", "maximum", "pattern", "maxLength", "maxItems", "description", "additionalProperties", "title"]
ANY_SCHEMA = loose([*SCHEMA_WORDS, *REFERENCES], [*SCHEMA_KEYS, *LIMITS])
RIGHT_PROPERTIES: dict[str, dict[str, Any]] = {
    "text": {"type": "string", "maxLength": 80, "pattern": "[A-Z].*", "description": "who gets it"},
    "count": {"type": "integer", "minimum": 0, "maximum": 1e9},
    "kind": {"enum": ["bill", "fine"]},
    "due": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    "items": {"type": "array", "items": {"$ref": "#/$defs/A"}, "maxItems": 5},
}
DEFINITIONS = {"A": {"type": "object", "properties": {"what": {"type": "string"}, "next": {"$ref": "#/$defs/B"}}}}
SOUND_KEYWORDS = {"description": "the payee", "title": "Payee", "maxLength": 5, "minimum": -1.5, "maximum": 1e308}


@st.composite
def changed(
    draw: st.DrawFn, right: dict[str, dict[str, Any]], sound: dict[str, Any], keys: list[str], words: list[str]
) -> dict[str, Any]:
    """Right fields with one changed detail: half of the details are those of `sound`."""
    fields = copy.deepcopy(right)
    any_detail = st.tuples(st.sampled_from(keys), st.sampled_from(words) | loose(words, keys))
    key, value = draw(st.sampled_from([*sound.items()]) if draw(st.booleans()) else any_detail)
    fields[draw(st.sampled_from([*right]))][key] = value
    return fields


def of_properties(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": ["text", "items"],
        "$defs": {**DEFINITIONS, "B": {"type": "boolean"}},
    }


def use(fields: tuple[Field, ...]) -> None:
    """Make everything that a stage makes of its fields."""
    for is_part in (False, True):
        answer_model(fields, is_part=is_part).model_json_schema()
    json.dumps(json_schema(fields), ensure_ascii=False, allow_nan=False).encode()
    in_words(fields).encode()


def read_or_refused(read: Callable[[], tuple[Field, ...]]) -> bool:
    """Whether fields are accepted. What is made of them must not fail."""
    try:
        fields = read()
    except FieldError:
        return False
    use(fields)
    return True


@settings(deadline=None)
@given(ANY_FORM)
def test_any_form_of_an_answer_is_read_or_refused(written: Any) -> None:
    read_or_refused(lambda: read_answer(written))


@settings(deadline=None)
@given(ANY_SCHEMA, st.booleans())
def test_any_json_schema_is_read_or_refused(written: Any, is_checked_elsewhere: bool) -> None:
    schema = written if isinstance(written, dict) else {"type": "object", "properties": {"a": written}}
    read_or_refused(lambda: fields_of_schema(schema, is_checked_elsewhere=is_checked_elsewhere))


def test_a_right_form_with_any_detail_is_read_or_refused() -> None:
    accepted = []

    @settings(deadline=None)
    @given(changed(RIGHT_FIELDS, SOUND_DETAILS, FORM_KEYS, FORM_WORDS))
    def holds(written: Any) -> None:
        accepted.append(read_or_refused(lambda: read_answer(written)))

    holds()
    assert sum(accepted) >= ENOUGH


def test_a_right_schema_with_any_detail_is_read_or_refused() -> None:
    accepted = []

    @settings(deadline=None)
    @given(
        changed(RIGHT_PROPERTIES, SOUND_KEYWORDS, [*SCHEMA_KEYS, *LIMITS], [*SCHEMA_WORDS, *REFERENCES]), st.booleans()
    )
    def holds(properties: Any, is_checked_elsewhere: bool) -> None:
        schema = of_properties(properties)
        accepted.append(read_or_refused(lambda: fields_of_schema(schema, is_checked_elsewhere=is_checked_elsewhere)))

    holds()
    assert sum(accepted) >= ENOUGH
