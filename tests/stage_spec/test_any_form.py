"""Whatever a person writes as the fields of an answer, it is read, or refused as a field that is written wrongly."""

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_offload.stage_spec.fields import Field, FieldError, read_answer
from dagster_offload.stage_spec.json_schema import fields_of_schema
from dagster_offload.stages.answers.answer_model import answer_model, in_words, json_schema

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
FORM_KEYS = ["type", "enum", "fields", "description", "optional", "canonical", "min", "max", "pattern", "max_length"]
ANY_FORM = loose(FORM_WORDS, [*FORM_KEYS, "max_items"])
# Forms that are right but for one detail.
DETAILED = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "number", "integer", "boolean", "date", ["string"]]) | ANY_FORM},
    optional={
        **dict.fromkeys(("min", "max", "max_length", "max_items"), NUMBERS),
        **{key: st.sampled_from(FORM_WORDS) | ANY_FORM for key in ("pattern", "description", "optional", "canonical")},
    },
)
ENUM = st.fixed_dictionaries(
    {"enum": st.lists(st.text(max_size=2), max_size=3) | ANY_FORM}, optional={"type": ANY_FORM}
)

SCHEMA_WORDS = ["string", "number", "integer", "boolean", "null", "object", "array", "date", "date-time"]
REFERENCES = ["#/$defs/A", "#/$defs/B", "#/properties/a", "#/$defs/A/items", "#"]
SCHEMA_KEYS = ["type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "format"]
LIMITS = ["minimum", "maximum", "pattern", "maxLength", "maxItems", "description", "additionalProperties", "title"]
ANY_SCHEMA = loose([*SCHEMA_WORDS, *REFERENCES], [*SCHEMA_KEYS, *LIMITS])
TYPED = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(SCHEMA_WORDS) | ANY_SCHEMA,
        "anyOf": st.lists(st.just({"type": "null"}) | st.just({"type": "string"}) | ANY_SCHEMA, max_size=2)
        | ANY_SCHEMA,
        "$ref": st.sampled_from(REFERENCES) | ANY_SCHEMA,
        "format": st.sampled_from(["date", "date-time"]) | ANY_SCHEMA,
        "required": ANY_SCHEMA,
        "enum": st.lists(st.text(max_size=2), max_size=3) | ANY_SCHEMA,
        **dict.fromkeys((*LIMITS, "items", "properties"), SCALARS | ANY_SCHEMA),
    },
)
SCHEMAS = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("abc"), TYPED | ANY_SCHEMA, max_size=3)},
    optional={
        "required": ANY_SCHEMA | st.lists(st.sampled_from("abc")),
        "$defs": st.dictionaries(st.sampled_from("AB"), TYPED | ANY_SCHEMA, max_size=2),
    },
)


def use(fields: tuple[Field, ...]) -> None:
    """Make everything that a stage makes of its fields."""
    for is_part in (False, True):
        answer_model(fields, is_part=is_part).model_json_schema()
    json.dumps(json_schema(fields), ensure_ascii=False, allow_nan=False).encode()
    in_words(fields).encode()


@settings(deadline=None)
@given(ANY_FORM | st.dictionaries(st.sampled_from("abc"), DETAILED | ENUM | ANY_FORM, max_size=3))
def test_any_form_of_an_answer_is_read_or_refused(written: Any) -> None:
    with contextlib.suppress(FieldError):
        use(read_answer(written))


@settings(deadline=None)
@given(ANY_SCHEMA | SCHEMAS | TYPED, st.booleans())
def test_any_json_schema_is_read_or_refused(written: Any, is_checked_elsewhere: bool) -> None:
    schema = written if isinstance(written, dict) else {"type": "object", "properties": {"a": written}}
    with contextlib.suppress(FieldError):
        use(fields_of_schema(schema, is_checked_elsewhere=is_checked_elsewhere))
