"""Numbers in words without digits: a word of a number may state one, and other words state none."""

import pytest

from dagster_offload.stages.answers.stated_values import states_value


@pytest.mark.parametrize(
    ("quote", "number"),
    [
        ("twelve hundred euros", 1_200),
        ("a term of Thirty-six months", 36),
        ("zwölftausend Euro", 12_000),
        ("eine dreimonatige Frist", 3),
        ("einundzwanzig Tage", 21),
        ("due per cento", 0.02),
        ("duecento euro", 200),
        ("quatre-vingt-dix jours", 90),
        ("doscientos euros", 200),
        ("mil euros", 1_000),
        ("duizend euro", 1_000),
        ("tachtig euro", 80),
        ("achtentwintig dagen", 28),
        ("doze meses", 12),
        ("quatorze dias", 14),
        ("quattordici giorni", 14),
        ("förtio dagar", 40),
        ("tooghalvfjerds timer", 72),
        ("atten måneder", 18),
        ("jedenaście dni", 11),
        ("čtrnáct dnů", 14),
        ("devadesát dnů", 90),
        ("tridsať dní", 30),
        ("hetven nap", 70),
        ("douăzeci de zile", 20),
        ("onüç ay", 13),
        ("дев'яносто днів", 90),
        ("trideset dana", 30),
        ("štirinajst dni", 14),
        ("dvylika mėnesių", 12),
        ("divpadsmit mēneši", 12),
        ("kümme päeva", 10),
        ("tólf mánuðir", 12),
        ("дванадесет месеца", 12),
        ("dotze mesos", 12),
        ("set dies", 7),
        ("to uger", 2),
        ("dwunastu miesięcy", 12),
        ("двенадцать месяцев", 12),
        ("п'ятнадцять днів", 15),
        ("on iki ay", 12),
        ("mười hai tháng", 12),
        ("δώδεκα μήνες", 12),
        ("kaksitoista kuukautta", 12),
        ("합계 오백만원", 5_000_000),
        ("두 명", 2),
        ("열두 달", 12),
        ("三人", 3),
        ("三割引", 0.3),
        ("百分之五", 0.05),
        ("二分の一", 0.5),
        ("半額", 0.5),
        ("Chapter XIV", 14),
        ("Article Ⅳ", 4),
        ("½ Tasse", 0.5),
        ("項目③", 3),
        ("خمسة أشهر", 5),
        ("a single copy", 1),
        ("ein Monat", 1),
        ("free of charge", 0),
        ("無料", 0),
        ("Total: —", 0),
    ],
)
def test_a_number_in_words_may_be_stated(quote: str, number: float) -> None:
    assert states_value(number, "number", quote)


@pytest.mark.parametrize(
    ("quote", "lie"),
    [
        ("the total amount", 1_234),
        ("a set of doors", 1_234),
        ("Antrag auf Zahlung", 1_234),
        ("the dividend in store", 1_234),
        ("the total amount", 1),
        ("the total amount", 0),
        ("Total due", 1_234),
        ("Der Mieter hat den Betrag zu zahlen", 1_234),
        ("Achtung: die Frachtkosten", 8),
        ("free of charge", 1_234),
        ("ein Monat", 6),
        ("이 계약의 합계 금액", 1_234),
        ("합계 오백만원", 4_000_000),
        ("合計金額（三菱商事）", 1_234),
        ("Chapter XIV", 15),
        ("einschließlich Steuer", 1),
    ],
)
def test_other_words_state_no_number(quote: str, lie: float) -> None:
    assert not states_value(lie, "number", quote)


@pytest.mark.parametrize(
    ("quote", "number"),
    [
        ("three months from 1 May 2025", 3),
        ("Kündigungsfrist von drei Monaten nach § 568", 3),
        ("within thirty days of 05/01/2025", 30),
        ("令和7年4月1日から三か月", 3),
    ],
)
def test_a_small_number_in_words_is_read_beside_digits(quote: str, number: float) -> None:
    assert states_value(number, "number", quote)


@pytest.mark.parametrize(
    ("quote", "lie"),
    [
        ("three months from 1 May 2025", 6),
        ("twenty-four months from 1 May 2025", 3),
        ("Tender 500", 10),
        ("三菱 500円", 3),
    ],
)
def test_a_small_number_in_words_is_no_other_one_beside_digits(quote: str, lie: float) -> None:
    assert not states_value(lie, "number", quote)
