"""The fields of an answer, as people write them, and the errors that name what is wrong."""

from typing import Any

import pytest

from dagster_offload.stage_spec.fields import MOST_BYTES, Field, FieldError, read_answer


def test_every_form_of_a_field_is_read() -> None:
    fields = read_answer(
        {
            "payee": "string",
            "due": "date?",
            "currency": {"enum": ["EUR", "KRW"], "description": "as printed"},
            "share": {"type": "number", "min": 0, "max": 1},
            "tags": ["string"],
            "items": [{"what": "string", "price": "number"}],
            "address": {"city": "string"},
            "form": {"fields": {"type": "string"}, "optional": True},
        }
    )
    by_name = {field.name: field for field in fields}
    assert by_name["payee"] == Field("payee", "string")
    assert by_name["due"] == Field("due", "date", is_optional=True)
    assert (by_name["currency"].type, by_name["currency"].values) == ("enum", ("EUR", "KRW"))
    assert (by_name["share"].minimum, by_name["share"].maximum) == (0, 1)
    assert by_name["tags"].entry == Field("tags", "string")
    assert by_name["items"].entry is not None
    assert [field.name for field in by_name["items"].entry.fields] == ["what", "price"]
    assert by_name["address"].type == by_name["form"].type == "object"
    assert by_name["form"].fields == (Field("type", "string"),)


@pytest.mark.parametrize("name", ["select", "금액", 'the "sum"', "json", "class", "a b", "x" * MOST_BYTES])
def test_a_field_may_have_any_name_that_a_column_can_have(name: str) -> None:
    assert read_answer({name: "string"})[0].name == name


ENDLESS: dict[str, Any] = {}
ENDLESS["type"] = ENDLESS  # as an alias of YAML can
ENDLESS_LIST: list[Any] = []
ENDLESS_LIST.append(ENDLESS_LIST)


@pytest.mark.parametrize(
    ("written", "path", "message"),
    [
        ({"a": {"type": "integer", "max": float("inf")}}, ("a", "max"), "must be a finite number"),
        ({"a": {"type": "number", "min": float("nan")}}, ("a", "min"), "must be a finite number"),
        ({"a": {"type": "number", "min": -(10**400)}}, ("a", "min"), "must be a finite number"),
        ({"a": {"type": "string", "max_length": 10**30}}, ("a", "max_length"), "must be at most 1,000,000,000"),
        ({"a": {"type": "string", "pattern": "a{99999999999}"}}, ("a", "pattern"), "not a regular expression"),
        ({"a": {"type": "string", "pattern": "(" * 5_000}}, ("a", "pattern"), "not a regular expression"),
        ({"a": {"type": "string", "pattern": "\ud800"}}, ("a", "pattern"), "no answer can have"),
        ({"a": {"enum": ["\ud800"]}}, ("a", "enum"), "no answer can have"),
        ({"a": ENDLESS}, ("a", *["type"] * 20), "levels deep"),
        ({"a": ENDLESS_LIST}, ("a",), "levels deep"),
        ({"due": "dat"}, ("due",), "did you mean date?"),
        ({"a": "text"}, ("a",), "the types are string"),
        ({}, (), "must be a mapping"),
        ("string", (), "must be a mapping"),
        ({"a": ["string", "number"]}, ("a",), "exactly one type"),
        ({"items": [{"price": "numbr"}]}, ("items", "price"), "did you mean number?"),
        ({"a": {"enum": [1, 2]}}, ("a", "enum"), "put quotes around"),
        ({"a": {"enum": []}}, ("a", "enum"), "must be a list of texts"),
        ({"a": {"enum": ["x", "x"]}}, ("a", "enum"), "twice"),
        ({"a": {"type": "string", "minn": 1}}, ("a", "minn"), "did you mean min?"),
        ({"a": {"type": "string", "min": 1}}, ("a", "min"), "only for numbers"),
        ({"a": {"type": "number", "min": 5, "max": 1}}, ("a", "max"), "below min"),
        ({"a": {"type": "string", "pattern": "("}}, ("a", "pattern"), "not a regular expression"),
        ({"a": {"type": "number", "max": "high"}}, ("a", "max"), "must be a number"),
        ({"a": {"type": "string", "optional": "yes"}}, ("a", "optional"), "true or false"),
        ({"a": 5}, ("a",), "must be a type"),
        ({"": "string"}, ("",), "text without blanks"),
        ({5: "string"}, ("5",), "text without blanks"),
        ({"a=b": "string"}, ("a=b",), "must not contain '=': `--where` reads it as an operator"),
        ({"items": [{"net>tax": "number"}]}, ("items", "net>tax"), "must not contain '>'"),
        ({"a\nb": "string"}, ("a\nb",), "control characters"),
        ({"가" * 22: "string"}, ("가" * 22,), "at most 63 bytes; this one has 66"),
        ({"\u00e9": "string", "e\u0301": "number"}, ("e\u0301",), "is here twice, in two forms of Unicode"),
        ({"a": {"enum": ["\u00e9", "e\u0301"]}}, ("a", "enum"), "twice"),
        ({str(n): "string" for n in range(101)}, (), "the limit is 100"),
        ({"a": {"a": {"a": {"a": {"a": {"a": "string"}}}}}}, ("a",) * 5, "nested more than 5 levels"),
    ],
)
def test_a_mistake_is_named_with_its_place(written: object, path: tuple[str, ...], message: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_answer(written)
    assert caught.value.path == path
    assert message in str(caught.value)


def test_a_misspelt_detail_of_a_field_is_named_with_the_right_one() -> None:
    with pytest.raises(FieldError, match="did you mean enum"):
        read_answer({"region": {"enmu": ["EU", "NA", "APAC"]}})
