"""Quotes: a value counts as supported only if its quote stands in the document and states the value."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_offload.stage_spec.fields import read_answer
from dagster_offload.stages.answers.answer_model import answer_model
from dagster_offload.stages.answers.parsing import parse_record
from dagster_offload.stages.answers.quotes import Text, ground, record_of, with_quotes

FIELDS = read_answer(
    {
        "payee": "string",
        "amount": "number",
        "currency": {"enum": ["EUR", "KRW"]},
        "due": "date",
        "items": [{"what": "string", "price": "number"}],
    }
)
TEXT = read_answer({"what": "string"})
DOCUMENT = "Invoice 12\n\nPay to **Yuna Castellan**, by 4 March\n2025: | total | 1.234,50 EUR |\n- Boiler   300.00\n- Pump 934,50"
VALUES: dict[str, Any] = {
    "payee": "Yuna Castellan",
    "amount": 1234.5,
    "currency": "EUR",
    "due": "2025-03-04",
    "items": [{"what": "Boiler", "price": 300.0}, {"what": "Pump", "price": 934.5}],
}
QUOTES: dict[str, Any] = {
    "payee": "Pay to Yuna Castellan",
    "amount": "total 1.234,50 EUR",
    "currency": "1.234,50 EUR",
    "due": "by 4 March 2025",
    "items": ["Boiler 300.00", "Pump 934,50"],
}


def unsupported(values: dict[str, Any] = VALUES, quotes: Any = QUOTES, document: str = DOCUMENT) -> tuple[str, ...]:
    return ground(values, quotes, FIELDS, document).unsupported


def test_true_values_are_supported_and_their_quotes_have_the_place_in_the_document() -> None:
    grounding = ground(VALUES, QUOTES, FIELDS, DOCUMENT)
    assert grounding.unsupported == ()
    assert grounding.problem is None
    due = record_of(VALUES, grounding, FIELDS, is_required=False)["quotes"]["due"]
    assert DOCUMENT[due["start"] : due["end"]] == due["text"] == "by 4 March\n2025"


@pytest.mark.parametrize(
    ("field", "lie"),
    [
        ("amount", 1234.0),
        ("amount", 12.0),
        ("due", "2025-03-05"),
        ("due", "2024-03-04"),
        ("payee", "Someone Else"),
        ("items", [{"what": "Boiler", "price": 301.0}, {"what": "Pump", "price": 934.5}]),
    ],
)
def test_a_value_beside_a_true_quote_that_states_another_is_unsupported(field: str, lie: Any) -> None:
    assert unsupported(VALUES | {field: lie}) == (field,)


@pytest.mark.parametrize("quote", ["grand total 1.234,50", "", None, 5, ["total"], {}])
def test_a_quote_that_does_not_stand_in_the_document_supports_nothing(quote: Any) -> None:
    assert unsupported(quotes=QUOTES | {"amount": quote}) == ("amount",)


@pytest.mark.parametrize("quotes", [None, "words", 5, []])
def test_quotes_in_a_wrong_form_cost_no_answer(quotes: Any) -> None:
    assert unsupported(quotes=quotes) == ("amount", "currency", "due", "items")  # the payee stands there word for word


def test_quotes_that_are_nested_too_deeply_to_be_stored_cost_no_answer() -> None:
    fields = read_answer({"payee": "string"})
    answer = json.dumps({"payee": "Yuna Castellan"})[:-1] + f', "quotes": {{"payee": {"[" * 300}{"]" * 300}}}}}'
    value = parse_record(answer, with_quotes(answer_model(fields))).model_dump(mode="json")
    assert ground(value, value["quotes"], fields, DOCUMENT).unsupported == ()


def test_a_quote_of_thousands_of_digits_supports_no_date() -> None:
    fields, digits = read_answer({"due": "date"}), "9" * 5_000
    assert ground({"due": "2025-03-04"}, {"due": digits}, fields, f"No. {digits}").unsupported == ("due",)


def test_the_quotes_of_a_list_belong_to_the_entries_that_are_left_without_those_that_were_null() -> None:
    fields = read_answer({"days": ["date"]})
    document = "Due on 2025-03-04 and on 2025-04-05."
    grounding = ground({"days": ["2025-04-05"]}, {"days": [None, "on 2025-04-05"]}, fields, document)
    assert grounding.unsupported == ()


def test_a_single_tilde_is_no_mark_of_markdown() -> None:
    fields = read_answer({"amount": "number"})
    assert ground({"amount": 34}, {"amount": "34 days"}, fields, "within 3~4 days").unsupported == ("amount",)


def test_a_missing_value_needs_no_quote() -> None:
    values: dict[str, Any] = {"payee": None, "amount": None, "currency": None, "due": None, "items": []}
    assert unsupported(values, quotes={}) == ()


@pytest.mark.parametrize(
    ("document", "quote", "amount"),
    [
        ("합계 금액: 3만 5천원", "3만 5천원", 35000),
        ("The sum of twelve euros", "twelve euros", 12),
        ("Total $1,234.50", "$1,234.50", 1234.5),
        ("Total 1 234,50", "1 234,50", 1234.5),
        ("“Total” — 7", '"Total" - 7', 7),
        ("a sum of $1.5 million", "$1.5 million", 1_500_000),
        ("1 to 2 million", "1 to 2 million", 1_000_000),
        ("2,5 Mio. EUR", "2,5 Mio. EUR", 2_500_000),
        ("EUR 3k", "EUR 3k", 3000),
        ("3 Milliarden", "3 Milliarden", 3e9),
        ("3 billion", "3 billion", 3e12),
        ("19 % VAT", "19 % VAT", 0.19),
        ("19 % VAT", "19 % VAT", 19),
        ("7,5 Prozent", "7,5 Prozent", 0.075),
        ("33.3 percent", "33.3 percent", 0.333),
        ("1억 2,500만 원", "1억 2,500만 원", 125_000_000),
        ("2.5만원", "2.5만원", 25_000),
        ("5백만원", "5백만원", 5_000_000),
        ("제3조 금 오백만원", "제3조 금 오백만원", 5_000_000),
        ("제3조 총액 삼만 오천원", "제3조 총액 삼만 오천원", 35_000),
        ("3万5000円", "3万5000円", 35_000),
        ("1,234百万円", "1,234百万円", 1_234_000_000),
        ("第2条 一千零五十元", "第2条 一千零五十元", 1_050),
        ("第2条 金壹拾萬円", "第2条 金壹拾萬円", 100_000),
        ("2025 3만", "2025 3만", 30_000),
        ("第1条 二〇二五年", "第1条 二〇二五年", 2025),
        ("第1条 一千零五元", "第1条 一千零五元", 1_005),
        ("第3条 金参拾万円", "第3条 金参拾万円", 300_000),
        ("第2期 两百万元", "第2期 两百万元", 2_000_000),
        ("第1条 伍拾万元整", "第1条 伍拾万元整", 500_000),
        ("제3조 수수료 천 원", "제3조 수수료 천 원", 1_000),
        ("１，２３４円", "１，２３４円", 1_234),
        ("第5条，300円", "第5条，300円", 300),
        ("١٬٢٣٤٫٥ ريال", "١٬٢٣٤٫٥ ريال", 1234.5),
        ("CHF 1’234.50", "CHF 1’234.50", 1234.5),
        ("Rent ~~500~~ 400 EUR", "Rent 500 400 EUR", 400),
        ("Rent ~~500~~ 400 EUR", "Rent ~~500~~ 400 EUR", 400),
        ("Rs. 15 lakh", "Rs. 15 lakh", 1_500_000),
        ("2.5 crore", "2.5 crore", 25_000_000),
        ("5 millones", "5 millones", 5_000_000),
        ("5 млн рублей", "5 млн рублей", 5_000_000),
        ("2.400 T€", "2.400 T€", 2_400_000),
        ("3½-Zimmer-Wohnung", "3½-Zimmer-Wohnung", 3.5),
        ("Datum: 12.05.2025", "Datum: 12.05.2025", 2025),
        ("Items 1,2,3", "Items 1,2,3", 2),
        ("Boiler 2 1 250,00 2 500,00", "Boiler 2 1 250,00 2 500,00", 1_250),
        ("Boiler 2 1 250,00 2 500,00", "Boiler 2 1 250,00 2 500,00", 2_500),
        ("Kundennummer 4711 0815", "Kundennummer 4711 0815", 47110815),
    ],
)
def test_a_number_may_be_written_in_any_way(document: str, quote: str, amount: float) -> None:
    fields = read_answer({"amount": "number"})
    grounding = ground({"amount": amount}, {"amount": quote}, fields, document)
    assert grounding.unsupported == ()
    assert record_of({"amount": amount}, grounding, fields, is_required=True)["amount"] == amount


@pytest.mark.parametrize(
    ("quote", "lie"),
    [
        ("1.5 million", 1_600_000),
        ("19 % VAT", 0.2),
        ("19 % VAT", 1900),
        ("19 EUR", 0.19),
        ("1500 EUR", 1_500_000),
        ("3만 5천원", 45_000),
        ("3만원", 3_000),
        ("계약 만료 시 위약금 500원", 700),
        ("계약 만료 시 위약금 500원", 10_000),
        ("하지만 총액은 500원", 700),
        ("인천광역시 청구금액 500원", 700),
        ("3월 15일 500원", 151),
        ("제5조 500원", 5_000),
        ("百貨店 合計 500円", 700),
        ("千葉市 十分 500円", 700),
        ("Someone often paid 500", 700),
        ("Achtung: 500 Euro", 8),
        ("Un total de 500 euros", 1),
        ("Total 1.234.567", 234),
        ("Boiler 2 1 250,00 2 500,00", 1_252),
        ("1.5 million", 150_000),
        ("계약 만 명의자 500", 700),
        ("500 이상", 2),
        ("인천 500원", 1_000),
    ],
)
def test_a_word_beside_a_number_supports_no_other_number(quote: str, lie: float) -> None:
    fields = read_answer({"amount": "number"})
    assert ground({"amount": lie}, {"amount": quote}, fields, quote).unsupported == ("amount",)


@pytest.mark.parametrize("written", ["2025년 3월 4일", "04.03.2025", "3/4/25", "2025-03-04", "20250304", "March 4th"])
def test_a_date_may_be_written_in_any_way(written: str) -> None:
    fields = read_answer({"due": "date"})
    assert ground({"due": "2025-03-04"}, {"due": written}, fields, f"Due {written}.").unsupported == ()


def test_a_required_quote_drops_what_it_does_not_support_and_keeps_the_rest() -> None:
    values = VALUES | {"amount": 99.0, "items": [{"what": "Boiler", "price": 300.0}, {"what": "Pump", "price": 1.0}]}
    grounding = ground(values, QUOTES, FIELDS, DOCUMENT)
    record = record_of(values, grounding, FIELDS, is_required=True)
    assert (record["amount"], record["items"]) == (None, [{"what": "Boiler", "price": 300.0}])
    assert record["unsupported"] == ["amount", "items"]
    assert record["payee"] == "Yuna Castellan"
    assert [quote["text"] for quote in record["quotes"]["items"]] == ["Boiler   300.00"]


@given(st.text(max_size=200), st.data())
def test_any_part_of_a_document_is_found_in_it(document: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(document)))
    part = document[start : data.draw(st.integers(start, len(document)))]
    found = Text(document).find(part)
    if found is not None:
        assert found.text == document[found.start : found.end]
    elif part.isascii() and not (document[:start][-1:].isdecimal() or document[start + len(part) :][:1].isdecimal()):
        assert not any(character.isalnum() for character in part)


@pytest.mark.parametrize(
    ("document", "quote"),
    [("Total 1234 EUR", "Total 12"), ("Total 1234 EUR", "34 EUR"), ("Due 4.3.2025", "4.3.20"), ("Sum | 1٢٣", "Sum 1٢")],
)
def test_a_part_of_a_number_is_no_quote(document: str, quote: str) -> None:
    assert Text(document).find(quote) is None


def test_a_number_is_found_behind_another_one_that_contains_it() -> None:
    document = "Units 25, 52, 5 and 5"
    assert (found := Text(document).find("5")) is not None
    assert found.start == document.index("5 and")


def test_a_number_between_line_breaks_is_whole() -> None:
    assert Text("Unit 5\n2 rooms").find("Unit 5") is not None


def test_a_long_row_of_digits_is_searched_in_bounded_time() -> None:
    assert Text("1" * 1_000_000).find("11") is None


@pytest.mark.parametrize(
    ("value", "quote"),
    [
        ("Unit 5", "Unit 5"),
        ("Unit 5", "Unit 05"),
        ("Unit 5", "Unit ５"),
        ("Unit 5", "unit 5."),
        ("Room 34", "Room ٣٤"),
        ("DE89370400440532013000", "IBAN DE89 3704 0044 0532 0130 00 04.03.2025"),
        ("Nr. 4711 0815", "Nr. 47110815"),
        ("1200 EUR", "1.200 EUR"),
        ("85 m2", "85 m²"),
        ("Rent 1200", "Rent 1200¹"),
        ("3½ Zimmer", "3 ½ Zimmer"),
        ("Level 007", "Level 7"),
    ],
)
def test_a_text_with_a_number_is_supported_by_the_same_number(value: str, quote: str) -> None:
    assert ground({"what": value}, {"what": quote}, TEXT, quote).unsupported == ()


@pytest.mark.parametrize(
    ("value", "quote"),
    [
        ("Unit 5", "Unit 25"),
        ("Unit 5", "Unit 52"),
        ("Unit 52", "Unit 5"),
        ("Room A5 north", "Room B7 north"),
        ("Contract of 2024 with Castellan", "Contract of 2025 with Castellan"),
        ("Rent 120", "Rent 1.200"),
    ],
)
def test_a_text_with_a_number_is_not_supported_by_another_one(value: str, quote: str) -> None:
    assert ground({"what": value}, {"what": quote}, TEXT, quote).unsupported == ("what",)
