"""Numbers in words of a document: every form that people use states its number, and no other number."""

from time import process_time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dagster_offload.stages.answers.stated_values import states_value
from dagster_offload.stages.answers.written_numbers import written_number

SIGNS = "0123456789٣１½③Ⅳ.,'’ -−+/×^e%‰()€kmM제조第一二十万円年月日이만천원WIVXLthousand元半\n"
NUMBERS = st.integers(1_000, 10**12 - 1)
CENTS = st.integers(0, 99)
DIGITS = ["0123456789", "٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "०१२३४५६७८९", "０１２３４５６７８９"]
GROUPS = [",", ".", " ", "'", "’", "\u00a0", "\u2009", "\u202f"]


def states(number: float, quote: str) -> bool:
    return states_value(number, "number", quote)


def grouped(number: int, separator: str) -> str:
    return f"{number:,}".replace(",", separator)


def as_in_india(number: int) -> str:
    rest, written = str(number)[:-3], str(number)[-3:]
    while rest:
        rest, written = rest[:-2], f"{rest[-2:]},{written}"
    return written


@st.composite
def written(draw: st.DrawFn) -> tuple[int, int, str]:
    """A number, its cents, and one of the ways to write it."""
    number, cents = draw(NUMBERS), draw(CENTS)
    group = draw(st.sampled_from(GROUPS))
    whole = draw(st.sampled_from([str(number), grouped(number, group), as_in_india(number)]))
    point = draw(st.sampled_from([sign for sign in ".," if sign not in whole]))
    digits = draw(st.sampled_from(DIGITS))
    form = draw(
        st.sampled_from(["Total {}", "€{}", "{} EUR", "−{}", "({})", "USD{}", "₩ {}", "{},-", "Sum: {} incl. VAT"])
    )
    text = f"{whole}{point}{cents:02}" if "-" not in form else whole
    return number, cents if "-" not in form else 0, form.format(text.translate(str.maketrans(DIGITS[0], digits)))


@given(written())
def test_a_number_that_is_written_in_any_form_states_itself(case: tuple[int, int, str]) -> None:
    number, cents, quote = case
    assert states(number + cents / 100, quote)


@given(written(), NUMBERS)
def test_a_number_states_no_other_one(case: tuple[int, int, str], other: int) -> None:
    number, cents, quote = case
    assume(str(other) not in f"{number}{cents:02}")  # each group between blanks may be a number by itself
    assert not states(other, quote)


@pytest.mark.parametrize(
    ("quote", "number"),
    [
        ("2 1/2 cups", 2.5),
        ("99⁹⁹ €", 99.99),
        ("2 250 000,50", 250_000.5),
        ("¾", 0.75),
        ("1/2 share", 0.5),
        ("1/3 share", 0.3333),
        ("the 22nd", 22),
        ("1st floor", 1),
        ("TEUR 2,4", 2_400),
        ("Mio. EUR 2,4", 2_400_000),
        ("2,4 MEUR", 2_400_000),
        ("5 k€", 5_000),
        ("in thousands: 2,400", 2_400_000),
        ("(단위: 천원) 매출 3,500", 3_500_000),
        ("（単位：百万円）売上高 1,234", 1_234_000_000),
        ("单位：万元 350", 3_500_000),
        ("6.02 × 10^23", 6.02e23),
        ("1.5·10⁻⁶ mol", 1.5e-6),
        ("1e5", 100_000),
        ("7,5 por ciento", 0.075),
        ("7,5 процентов", 0.075),
        ("5퍼센트", 0.05),
        ("3 ‰", 0.003),
        ("CHF 1´234.50", 1_234.5),
        ("제3조 1항", 3),
        ("예산 3조 원", 3e12),
        ("3조 5천억", 3.5e12),
        ("第3条", 3),
        ("제십조", 10),
    ],
)
def test_a_number_with_signs_and_words_of_its_size_is_read(quote: str, number: float) -> None:
    assert states(number, quote)


@pytest.mark.parametrize(
    ("quote", "lie"),
    [
        ("제3조 500원", 3e12),
        ("제 3 조", 3e12),
        ("민법 3조 1항", 3e12),
        ("제3조의2", 3e12),
        ("12월 5일 만료", 50_000),
        ("12월 5일 천 원", 5_000),
        ("1'234'567", 234),
        ("2 1/2 cups", 3),
        ("250 000 EUR", 250),
        ("1 000 000", 1_000),
        ("5 000,00", 5),
        ("TEUR 2,4", 24_000),
        ("Total 12,50", 1_250),
        ("Total 0.125", 125),
        ("Customer 123456789012", 123_456_789_013),
        ("9" * 5_000, 9),
        ("(단위: 천원) 3,500", 35_000),
        ("0 EUR", 5e-10),
        ("1 per mil", 0.01),
    ],
)
def test_a_sign_beside_a_number_states_no_other_number(quote: str, lie: float) -> None:
    assert not states(lie, quote)


@given(st.text(st.sampled_from(SIGNS), max_size=40) | st.text(), st.sampled_from(["number", "integer"]))
def test_any_quote_of_a_number_or_a_date_can_be_checked(quote: str, kind: str) -> None:
    states_value(77_777, kind, quote)
    states_value("2025-03-04T10:00:00", "datetime", quote)
    states_value("Unit 5", "string", quote)
    written_number(quote)


@pytest.mark.parametrize("sign", ["1", "1 ", "123 ", "一", "I", "1/", "1/2 ", "1.", "1'", "1e", "-", "1-1 ", "a"])
def test_a_quote_of_thousands_of_the_same_sign_can_be_checked_at_once(sign: str) -> None:
    for quote in (sign * 15_000, sign * 15_000 + "x"):
        start = process_time()
        states_value(77_777, "number", quote)
        states_value("2025-03-04T10:00:00", "datetime", quote)
        states_value("Unit 77", "string", quote)
        assert process_time() - start < 3


@pytest.mark.parametrize("text", ["TEUR 2.400", "kEUR 5", "5 kEUR", "12 MEUR", "3 k€", "minus 5 EUR"])
def test_a_word_before_a_number_that_makes_it_another_one_is_not_left_out(text: str) -> None:
    assert written_number(text) is None
