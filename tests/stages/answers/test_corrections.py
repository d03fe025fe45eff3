"""The values of corrections: what a person may write for a field, and what is refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.answers.corrections import corrected_value

ANSWER = {
    "amount": "number",
    "currency": {"enum": ["EUR", "KRW"], "optional": True},
    "due": "date",
    "items": [{"what": "string", "price": "number"}],
    "sender": {"name": "string", "city": "string?"},
}
NOW = {"amount": 80, "items": [{"what": "oil", "price": 1.0}], "sender": {"name": "Kim", "city": None}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "offload.yaml"
    file.write_text(json.dumps({"stages": {"payment": {"prompt": "What must be paid?", "answer": ANSWER}}}))
    return load_settings(config=file, home=tmp_path / "home")


@pytest.mark.parametrize(
    ("stage", "field", "written", "value"),
    [
        ("payment", "amount", "1.250,50 EUR", 1250.5),
        ("payment", "currency", "krw", "KRW"),
        ("payment", "currency", "null", None),
        ("payment", "due", "2025-03-04", "2025-03-04"),
        ("payment", "due", "null", None),
        ("payment", "items", '[{"what": "oil", "price": "3"}]', [{"what": "oil", "price": 3.0}]),
        ("payment", "sender", '{"name": "Lee"}', {"name": "Lee", "city": None}),
        ("classify", "confidence", "85%", 0.85),
        ("classify", "category", "Invoice", "invoice"),
        ("summarize", "language", "ko", "ko"),
        ("summarize", "summary", " 난방비를 냅니다. ", "난방비를 냅니다."),
        ("summarize", "key_points", '["one", "two"]', ["one", "two"]),
    ],
)
def test_a_value_is_read_as_its_field(settings: Settings, stage: str, field: str, written: str, value: Any) -> None:
    assert corrected_value(settings, stage, field, (), written, NOW) == value


@pytest.mark.parametrize(
    ("path", "written", "value"),
    [
        (("items", "0", "price"), "3", [{"what": "oil", "price": 3.0}]),
        (("items", "1"), '{"what": "gas", "price": 4}', [*NOW["items"], {"what": "gas", "price": 4.0}]),  # type: ignore[misc]
        (("sender", "city"), "Berlin", {"name": "Kim", "city": "Berlin"}),
    ],
)
def test_a_part_is_changed_in_the_value_there_is(
    settings: Settings, path: tuple[str, ...], written: str, value: Any
) -> None:
    field, *rest = path
    assert corrected_value(settings, "payment", field, rest, written, NOW) == value
    assert NOW["items"] == [{"what": "oil", "price": 1.0}]


@pytest.mark.parametrize(
    ("stage", "path", "written", "message"),
    [
        ("payment", "amount", "much", "payment.amount: must be a number"),
        ("payment", "amount", "1,234", "payment.amount: 1,234 can be 1234 or 1.234: write one of them"),
        ("payment", "amount", "null", "payment.amount: "),
        ("payment", "currency", "USD", "'EUR' or 'KRW'"),
        ("payment", "currency", "unknown", "`null` says that the document states none"),
        ("payment", "due", "tomorrow", "2025-03-04"),
        ("payment", "items", "{oil", "written as JSON"),
        ("payment", "items", "oil", "payment.items: "),
        ("payment", "items.7", "x", "write a place from 0 to 1"),
        ("payment", "items.1.what", "gas", "1.price: "),
        ("payment", "amount.cents", "3", "has no parts"),
        ("payment", "items.0.prize", "3", "payment.items.0.prize: there is no part 'prize' (did you mean price?)"),
        ("payment", "items.0", '{"what": "oil", "prize": 3, "price": 1}', "there is no part 'prize'"),
        ("payment", "sender.town", "Seoul", "there is no part 'town': use one of name, city"),
        ("payment", "sender", '{"name": "Lee", "town": "Seoul"}', "there is no part 'town'"),
        ("classify", "category", "invoise", "did you mean invoice?"),
        ("summarize", "language", "the language", "no value for it"),
        ("summarize", "summary", "", "summary: must not be empty"),
        ("classify", "confidence", "2", "confidence: must be a number from 0 to 1, such as 0.85 or 85%, and 2 is not"),
        ("classify", "confidence", "85", "must be a number from 0 to 1"),
        ("classify", "confidence", "-0.1", "must be a number from 0 to 1"),
        ("classify", "confidence", "101%", "must be at most 1"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_the_reason(
    settings: Settings, stage: str, path: str, written: str, message: str
) -> None:
    field, *rest = path.split(".")
    with pytest.raises(SettingsError) as caught:
        corrected_value(settings, stage, field, rest, written, NOW)
    assert message in str(caught.value)
