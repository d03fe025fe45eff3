"""A JSON Schema as the form of an answer: what it may hold, and what is refused."""

import datetime
from enum import StrEnum
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from dagster_offload.stage_spec.fields import FieldError, read_answer
from dagster_offload.stage_spec.json_schema import fields_of_schema
from dagster_offload.stage_spec.stage import StageSpec


class Currency(StrEnum):
    EUR = "EUR"
    KRW = "KRW"


class Item(BaseModel):
    what: str
    price: float = Field(ge=0)


class Payment(BaseModel):
    payee: str = Field(description="who gets it", max_length=80)
    amount: float = Field(gt=0)
    currency: Currency
    due: datetime.date | None = None
    kind: Literal["bill", "fine"]
    items: list[Item] = Field(max_length=5)
    notes: list[str] = []
    is_paid: bool


def test_a_pydantic_model_has_the_same_fields_as_the_written_form() -> None:
    written = read_answer(
        {
            "payee": {"type": "string", "description": "who gets it", "max_length": 80},
            "amount": "number",  # `gt` is left to the model
            "currency": {"enum": ["EUR", "KRW"]},
            "due": "date?",
            "kind": {"enum": ["bill", "fine"]},
            "items": {"type": [{"fields": {"what": "string", "price": {"type": "number", "min": 0}}}], "max_items": 5},
            "notes": ["string"],
            "is_paid": "boolean",
        }
    )
    assert fields_of_schema(Payment.model_json_schema(), is_checked_elsewhere=True) == written


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    "form",
    [
        {"enum": ["a", None]},
        {"type": ["string", "null"], "enum": ["a", None]},
        {"anyOf": [{"enum": ["a"]}, {"type": "null"}]},
    ],
)
def test_null_among_the_values_of_an_enum_makes_it_optional(form: dict[str, Any]) -> None:
    assert fields_of_schema(schema(kind=form)) == read_answer({"kind": {"enum": ["a"], "optional": True}})


def test_an_enum_of_null_alone_is_refused() -> None:
    with pytest.raises(FieldError, match="must be a list of texts"):
        fields_of_schema(schema(kind={"enum": [None]}))


LONG_CHAIN: dict[str, Any] = {"type": "string"}
for _ in range(3_000):
    LONG_CHAIN = {"anyOf": [LONG_CHAIN]}


@pytest.mark.parametrize(
    ("given", "place", "message"),
    [
        (schema(a={"type": "number", "multipleOf": 2}), "properties.a.multipleOf", "no answer could be checked for it"),
        (schema(a={"type": "number", "exclusiveMinimum": 0}), "properties.a.exclusiveMinimum", "is not supported"),
        (schema(a={"anyOf": [{"type": "string"}, {"type": "number"}]}), "properties.a.anyOf", "must have one type"),
        (schema(a={"type": ["string", "number"]}), "properties.a.type", "must be one type, or one type and null"),
        (schema(a={"$ref": "other.json"}), "properties.a.$ref", "leads out of the schema"),
        (schema(a={"$ref": "#/$defs/Missing"}), "properties.a.$ref", "is not in the schema"),
        (
            {**schema(a={"$ref": "#/$defs/A"}), "$defs": {"A": {"$ref": "#/$defs/A"}}},
            "properties.a",
            "refers to itself",
        ),
        ({"$ref": "#"}, "$ref", "leads out of the schema"),
        (schema(a={"type": "object"}), "properties.a.properties", "must name the fields"),
        (schema(a={"type": "null"}), "properties.a.type", "is not a type that an answer can have"),
        (schema(a={"type": "strin"}), "properties.a.type", "did you mean string?"),
        (
            schema(a={"description": "?"}),
            "properties.a.type",
            "use one of string, number, integer, boolean, array, object",
        ),
        ({"type": "array", "items": {"type": "string"}}, "", "must describe an object"),
        (schema(a={"enum": [1, 2]}), "a.enum", "must be a list of texts"),
        (schema(a=True), "properties.a", "must be a schema"),
        (schema(a={"anyOf": [True, {"type": "null"}]}), "properties.a.anyOf", "must be a list of schemas"),
        (schema(a={"anyOf": {"type": "string"}}), "properties.a.anyOf", "must be a list of schemas"),
        (schema(a={"allOf": None}), "properties.a.allOf", "must be a list of schemas"),
        (schema(a={"$ref": []}), r"properties.a.$ref", "leads out of the schema"),
        (schema(a={"type": "string", "required": True}), "properties.a.required", "must be a list of names"),
        ({**schema(a={"type": "string"}), "required": True}, "required", "must be a list of names"),
        ({**schema(a={"type": "string"}), "required": "a"}, "required", "must be a list of names"),
        (schema(a={"type": "string", "format": [], 1: 2, "x": 3}), "properties.a.1", "is not supported"),
        (schema(a={"type": "integer", "maximum": float("inf")}), "a.max", "must be a finite number"),
        (schema(a=LONG_CHAIN), "properties.a", "nested too deeply"),
    ],
)
def test_what_no_answer_could_be_checked_for_is_refused_with_its_place(
    given: dict[str, Any], place: str, message: str
) -> None:
    with pytest.raises(FieldError, match=message) as refused:
        fields_of_schema(given)
    assert ".".join(refused.value.path) == place


def test_a_schema_that_holds_itself_is_refused() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#/$defs/Tree"}}}
    with pytest.raises(FieldError, match=r"refers to itself|levels deep"):
        fields_of_schema({**schema(a={"$ref": "#/$defs/Tree"}), "$defs": {"Tree": tree}})
    loop = {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}
    with pytest.raises(FieldError, match="refers to itself"):
        fields_of_schema({**schema(a={"$ref": "#/$defs/A"}), "$defs": loop})


@pytest.mark.parametrize(
    ("form", "is_accepted"),
    [
        ({"answer": {"day": "date"}}, True),
        ({"schema": "due.json"}, True),
        ({"model": "my_package.answers:Due"}, True),
        ({}, False),
    ],
)
def test_editors_accept_the_fields_of_an_answer_in_each_form(form: dict[str, Any], is_accepted: bool) -> None:
    validator = Draft202012Validator(StageSpec.model_json_schema())
    assert validator.is_valid({"prompt": "When is it due?", **form}) == is_accepted
