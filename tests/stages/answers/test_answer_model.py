"""Answers to own stages: what models write becomes typed values, and what has no meaning is refused."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dagster_offload.errors import UnusableAnswer
from dagster_offload.slot.completion import Answer
from dagster_offload.stage_spec.fields import read_answer
from dagster_offload.stages.answers.answer_model import answer_model, in_words, json_schema
from dagster_offload.stages.answers.parsing import parse_record
from dagster_offload.stages.answers.written_numbers import written_number

FIELDS = read_answer(
    {
        "payee": "string",
        "amount": {"type": "number", "min": 0},
        "currency": {"enum": ["EUR", "KRW"]},
        "due": "date",
        "note": "string?",
        "json": "boolean",
        "금액": {"type": "integer", "optional": True},
        "items": [{"what": "string", "price": "number"}],
    }
)
GOOD: dict[str, Any] = {
    "payee": "Yuna Castellan",
    "amount": 12.5,
    "currency": "EUR",
    "due": "2025-03-04",
    "note": None,
    "json": True,
    "금액": 45000,
    "items": [{"what": "chair", "price": 3.0}],
}


def parsed(**changes: Any) -> dict[str, Any]:
    return answer_model(FIELDS).model_validate(GOOD | changes).model_dump(mode="json")


def test_a_good_answer_keeps_its_values_under_the_names_that_the_person_gave() -> None:
    assert parsed() == GOOD


@pytest.mark.parametrize(
    ("field", "written", "value"),
    [
        ("amount", "1.234,50 EUR", 1234.5),
        ("amount", "1,234.50", 1234.5),
        ("amount", "₩ 45 000", 45000.0),
        ("currency", "eur", "EUR"),
        ("due", "unknown", None),
        ("due", None, None),
        ("note", "n/a", None),
        ("금액", "null", None),
        ("items", None, []),
        ("payee", "  Yuna\x00 Castellan ", "Yuna Castellan"),
    ],
)
def test_a_spelling_with_a_certain_meaning_is_accepted(field: str, written: Any, value: Any) -> None:
    assert parsed(**{field: written})[field] == value


REGIONS = read_answer(
    {
        "region": {"enum": ["NA", "EMEA", "none", "Unknown", "-"], "optional": True},
        "country": "string?",
        "items": [{"region": {"enum": ["NA", "EMEA"], "optional": True}}],
    }
)


@pytest.mark.parametrize("is_part", [False, True])
@pytest.mark.parametrize(
    ("written", "region"),
    [("NA", "NA"), ("na", "NA"), (" None. ", "none"), ("unknown", "Unknown"), ("-", "-"), ("n/a", None), ("", None)],
)
def test_a_word_for_null_that_is_a_value_of_the_field_is_that_value(
    written: str, region: str | None, is_part: bool
) -> None:
    value = answer_model(REGIONS, is_part=is_part).model_validate({"region": written, "country": None, "items": []})
    assert value.model_dump()["region"] == region


@pytest.mark.parametrize("is_part", [False, True])
def test_a_text_that_is_a_code_is_not_null(is_part: bool) -> None:
    written = {"region": None, "country": "NA", "items": [{"region": "NA"}, {"region": "unknown"}]}
    value = answer_model(REGIONS, is_part=is_part).model_validate(written).model_dump(mode="json")
    assert value == {"region": None, "country": "NA", "items": [{"region": "NA"}, {"region": None}]}
    required = answer_model(read_answer({"country": "string"}), is_part=is_part)
    assert required.model_validate({"country": "NA"}).model_dump() == {"country": "NA"}


@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("amount", "1,234"),  # a thousand, or one and a bit
        ("amount", "about ten"),
        ("amount", True),
        ("amount", -1),
        ("amount", float("nan")),
        ("currency", "USD"),
        ("payee", ""),
        ("payee", None),
        ("items", [{"what": "chair"}]),
        ("items", [{"what": "chair", "price": 1}] * 1001),
    ],
)
def test_a_value_without_a_meaning_is_refused(field: str, written: Any) -> None:
    with pytest.raises(ValidationError):
        parsed(**{field: written})


@pytest.mark.parametrize("written", ["4 March 2025", 1741046400, "2025-02-30", "tomorrow"])
def test_a_date_is_iso_or_it_costs_that_field_alone(written: Any) -> None:
    model = answer_model(read_answer({"payee": "string", "due": "date"}))
    text = f'{{"payee": "A", "due": {written if isinstance(written, int) else chr(34) + written + chr(34)}}}'
    assert parse_record(text, model).model_dump(mode="json") == {"payee": "A", "due": None}


@pytest.mark.parametrize(
    "written",
    ["2025-03-04T00:00:00", "2025-03-04 00:00", "2025-03-04T23:59:59.5+09:00", "2025-03-04T00:00:00Z", " 2025-03-04 "],
)
def test_the_day_of_a_full_date_and_time_is_a_date(written: str) -> None:
    assert parsed(due=written)["due"] == "2025-03-04"


@pytest.mark.parametrize("written", ["2025-03-04 or so", "2025-03-04T", "2025-02-30T00:00", "2025-03-04x00:00"])
def test_a_day_with_something_else_behind_it_is_no_date(written: str) -> None:
    with pytest.raises(ValidationError):
        parsed(due=written)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("\u221212.50", -12.5),
        ("EUR \u20133", -3),
        ("EUR \u2013 3", None),
        ("5,-", 5),
        ("5.\u2013", 5),
        ("1,234.50 (incl. VAT)", 1234.5),
        ("120 km", 120),
        ("45000원", 45000),
        ("(1,234.50)", None),
        ("1,234.50-", None),
        ("1.5 million", None),
        ("3만원", None),
        ("12k", None),
        ("2 Mio. EUR", None),
        ("\u2212$5", None),
        ("\u2212CHF 5", None),
        ("▲1,234.5", None),
        ("（1,234.5）", None),
        ("－5", -5),
        ("Soll–Ist: 5", 5),
        ("15 lakh", None),
        ("2 crores", None),
        ("5 mln zł", None),
        ("5 millones", None),
        ("3 milhões", None),
        ("4 miljard", None),
        ("5 млн", None),
        ("2.400 T€", None),
        ("2½", None),
        ("3 millimeter", 3),
    ],
)
def test_a_number_has_its_sign_and_its_size_or_is_refused(written: str, number: float | None) -> None:
    assert written_number(written) == number


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("1.234.567.890.123.456.789", 1_234_567_890_123_456_789),
        ("12,34,567.89 INR", 1_234_567.89),
        ("CHF 1’234.50", 1234.5),
        ("1 234\u00a0567,8", 1_234_567.8),
        ("1\u202f234,567", 1234.567),
        ("0.125", 0.125),
        ("3.5.", 3.5),
        ("1，234．50", 1234.5),
        ("١٬٢٣٤٫٥", 1234.5),
        ("90'", 90),
    ],
)
def test_a_number_may_have_groups_of_digits(written: str, number: float) -> None:
    assert written_number(written) == number


@pytest.mark.parametrize(
    "written",
    ["3 5", "5 10", "12\n34", "2025 12", "12.05.2025", "192.168.0.1", "1.2.3", "1.5,3", "12,5 8", "1,234.567.8"],
)
def test_a_text_with_several_numbers_is_not_read_as_one(written: str) -> None:
    assert written_number(written) is None
    with pytest.raises(ValidationError, match="must be a number without text or another number"):
        parsed(amount=written)


@pytest.mark.parametrize(
    "answer",
    [
        '{"items": [{"what": "a", "price": 1}, {"what": "b", "price": "three"}]}',
        '{"currency": "USD"}',
        '{"amount": -1}',
    ],
)
def test_a_wrong_value_in_the_answer_to_a_part_is_not_dropped(answer: str) -> None:
    with pytest.raises(UnusableAnswer, match="does not fit the stage"):
        parse_record(answer, answer_model(FIELDS, is_part=True))


@pytest.mark.parametrize("is_part", [False, True])
@pytest.mark.parametrize(
    ("entry", "written", "kept"),
    [
        ("date", ["2025-03-04", None, "unknown"], ["2025-03-04"]),
        ("string?", [None, "Kim"], ["Kim"]),
        ({"type": "number", "optional": True}, ["n/a", 3], [3.0]),
        ({"enum": ["-", "A"], "optional": True}, ["-", None], ["-"]),
    ],
)
def test_an_entry_of_a_list_for_which_the_question_allows_null_is_left_out_if_it_is_null(
    entry: Any, written: list[Any], kept: list[Any], is_part: bool
) -> None:
    fields = read_answer({"all": [entry]})
    assert "or null" in in_words(fields)
    assert answer_model(fields, is_part=is_part).model_validate({"all": written}).model_dump(mode="json") == {
        "all": kept
    }


def test_a_null_for_which_the_question_asks_a_value_is_refused() -> None:
    with pytest.raises(ValidationError):
        answer_model(read_answer({"all": ["number"]})).model_validate({"all": [3, None]})


def test_a_text_of_thousands_of_blanks_is_no_number_and_is_refused_at_once() -> None:
    # Without a limit, the pattern takes time that grows with the square of the length: hours for a whole answer.
    assert written_number("1" + " " * 500_000 + "x1") is None


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400, "9" * 30])
def test_a_whole_number_that_no_column_holds_is_refused(number: Any) -> None:
    with pytest.raises(ValidationError):
        parsed(금액=number)
    assert parsed(금액=2**63 - 1)["금액"] == 2**63 - 1


def test_a_whole_number_may_have_bounds_that_are_not_whole() -> None:
    fields = read_answer({"count": {"type": "integer", "min": 1.5, "max": 3.5}})
    assert json_schema(fields)["properties"]["count"] == {"type": "integer", "minimum": 2, "maximum": 3}
    for number in (1, 4):
        with pytest.raises(ValidationError):
            answer_model(fields).model_validate({"count": number})
    assert answer_model(fields).model_validate({"count": 3}).model_dump() == {"count": 3}


def test_a_missing_required_field_is_named_in_the_error() -> None:
    with pytest.raises(UnusableAnswer, match="payee"):
        parse_record('{"due": null}', answer_model(read_answer({"payee": "string", "due": "date"})))


OPTIONAL = answer_model(read_answer({"amount": "number?", "due": "date"}))


@pytest.mark.parametrize(
    "written",
    [
        '{"payee": "X", "amount": 5, "quotes": {"payee": "Pay to X", "amount": "5"}',
        '{"items": [{"payee": "X", "amount": 5}, {"payee": "Y", "amount": 6}]',
        '{"payee": "X" "amount": 5, "of": {"payee": "Y", "amount": 6}}',
    ],
)
def test_a_part_of_an_object_that_cannot_be_read_is_not_the_record(written: str) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        parse_record(written, answer_model(read_answer({"payee": "string", "amount": "number"})))
    assert caught.value.code == "no_json"


def test_an_object_without_a_field_of_the_stage_is_not_the_record() -> None:
    record = parse_record('{"amount": 5, "due": null} and {"note": "x"}', OPTIONAL)
    assert record.model_dump(mode="json") == {"amount": 5.0, "due": None}
    for other in ('It is so: {"note": "x"}', 'None: {"note": "x"} {}', '{"payment": {"amount": 5}}'):
        with pytest.raises(UnusableAnswer, match="none of the fields"):
            parse_record(other, OPTIONAL)
    for empty in ("{}", "```json\n{}\n```"):
        assert parse_record(empty, OPTIONAL).model_dump() == {"amount": None, "due": None}


def test_the_answer_to_a_part_may_lack_every_field() -> None:
    value = answer_model(FIELDS, is_part=True).model_validate({}).model_dump(mode="json")
    assert value == {name: [] if name == "items" else None for name in GOOD}


def test_the_schema_accepts_a_good_answer_and_refuses_another_form() -> None:
    jsonschema.validate(GOOD, json_schema(FIELDS))
    for wrong in ({**GOOD, "currency": "USD"}, {**GOOD, "due": "4 March"}, {**GOOD, "more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, json_schema(FIELDS))


def test_the_words_of_the_question_name_every_field_and_where_null_is_right() -> None:
    words = in_words(FIELDS)
    assert '"due": a date as YYYY-MM-DD, or null' in words
    assert '"currency": one of "EUR", "KRW"' in words
    assert '"items": a list, each entry {"what": text, "price": a number}' in words


@given(st.integers(-(10**12), 10**12), st.sampled_from(["", " ", "'"]))
def test_a_whole_number_is_read_with_any_separator_of_thousands(number: int, separator: str) -> None:
    assert written_number(f"{number:,}".replace(",", separator)) == number


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_none(text: str) -> None:
    assert written_number(text) is None or isinstance(written_number(text), (int, float))


def test_drafts_in_the_thinking_that_differ_only_in_a_dropped_value_are_one_record() -> None:
    model = answer_model(read_answer({"payee": "string", "due": "date"}))
    thinking = 'Maybe {"payee": "X", "due": "soon"}. So: {"payee": "X", "due": null}'
    record = parse_record(Answer("", finish_reason="stop", reasoning=thinking, is_in_reasoning=True), model)
    assert record.model_dump(mode="json") == {"payee": "X", "due": None}
