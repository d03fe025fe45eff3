"""Dates in words of a document: every form that people use states its day, and no other day."""

from datetime import date, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dagster_offload.stages.answers.stated_values import states_value
from dagster_offload.stages.answers.written_dates import states_date

DAY = date(2025, 3, 4)
DAYS = st.dates(date(1970, 1, 1), date(2069, 12, 31))
# The months of a language, and how it writes a date with them.
LANGUAGES = (
    ("January February March April May June July August September October November December", "{1} {0} {2}"),
    ("January February March April May June July August September October November December", "{0} {1}, {2}"),
    ("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec", "{1}-{0}-{3}"),
    ("Januar Februar März April Mai Juni Juli August September Oktober November Dezember", "{1}. {0} {2}"),
    ("Januar Februar März April Mai Juni Juli August September Oktober November Dezember", "{1}. {0} {3}"),
    ("janvier février mars avril mai juin juillet août septembre octobre novembre décembre", "le {1} {0} {2}"),
    ("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre", "{1} de {0} de {2}"),
    ("janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro", "{1} de {0} de {2}"),
    ("gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre", "{1} {0} {2}"),
    ("januari februari maart april mei juni juli augustus september oktober november december", "{1} {0} {2}"),
    ("januari februari mars april maj juni juli augusti september oktober november december", "den {1} {0} {2}"),
    ("stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia", "{1} {0} {2} r."),
    ("ledna února března dubna května června července srpna září října listopadu prosince", "{1}. {0} {2}"),
    ("január február március április május június július augusztus szeptember október november december", "{2}. {0} {1}."),
    ("ianuarie februarie martie aprilie mai iunie iulie august septembrie octombrie noiembrie decembrie", "{1} {0} {2}"),
    ("tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta syyskuuta lokakuuta marraskuuta"
     " joulukuuta", "{1}. {0} {2}"),
    ("Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık", "{1} {0} {2}"),
    ("Januari Februari Maret April Mei Juni Juli Agustus September Oktober November Desember", "{1} {0} {2}"),
    ("января февраля марта апреля мая июня июля августа сентября октября ноября декабря", "{1} {0} {2} г."),
    ("січня лютого березня квітня травня червня липня серпня вересня жовтня листопада грудня", "{1} {0} {2} р."),
    ("Ιανουαρίου Φεβρουαρίου Μαρτίου Απριλίου Μαΐου Ιουνίου Ιουλίου Αυγούστου Σεπτεμβρίου Οκτωβρίου Νοεμβρίου Δεκεμβρίου",
     "{1} {0} {2}"),
)  # fmt: skip


@pytest.mark.parametrize(
    "written",
    [
        "04.03.2025",
        "4. 3. 2025",
        "2025. 3. 4.",
        "04 03 2025",
        "4-3-25",
        "3/4/25",
        "25/03/04",
        "2025-03-04",
        "2025–03–04",
        "2025-03-04T10:00:00Z",
        "04.03.2025 10.30.00",
        "20250304",
        "250304",
        "2025년 3월 4일",
        "25년 3월 4일",
        "令和7年3月4日",
        "R7.3.4",
        "民國114年3月4日",
        "114/03/04",
        "提出期限R7.3.4",
        "令7.3.4",
        "Ｒ７．３．４",
        "04/03/68",
        "04032025",
        "03042025",
        "040325",
        "4 มีนาคม พ.ศ. 2568",
        "4/3/2568",
        "the fourth of March",
        "March 4th",
        "4. März 2025",
        "04-Mar-25",
        "4.III.2025",
        "4.3.",
        "3/4",
        "04.03.–05.05.2025",
        "12.02.2025 – 04.03.2025",
        "4.–8.3.2025",
        "03/04–03/08/2025",
        "2025-03-03/04",
        "2025年3月1日〜3月4日",
        "Section 1.2.3: by 4 March 2025",
        "Invoice of 12.05.2024, due 4 March 2025",
        "Rechnung Nr. 4711 vom 4. März",
        "04.03. 2025",
        "04.03. 10:30",
        "4.3. 5 Stück",
        "IBAN DE89 3704 0044 0532 0130 00 04.03.2025",
        "IBAN DE89 3704 0044 0532 0130 00, 4 March 2025",
        "IBAN DE89 3704 0044 0532 0130 00 4 March 2025",
        "10.0.0.1 04 03 2025",
        "2025 03 04",
        "04 03 2025–31.12.2025",
        "4. März 25",
        "4 March '25",
        "March 4, 25",
        "4 March 10:30",
        "4. März 12 Stück",
        "4. März 10-12 Uhr",
        "4.–8. März 2025",
        "March 4–8, 2025",
        "March 4 April 8, 2025",
        "2025. március 4.",
        "4 de março de 2025",
        "4. kovo 2025",
        "2025 m. kovo 4 d.",
        "4 Mart 2025 Salı",
        "4 марта 2025 г.",
        "ngày 4 tháng 3 năm 2025",
        "4th day of March, 2025",
        "the fourth of March 2025",
        "2025년 3월 중 4일",
        "am vierten März",
        "令和七年三月四日",
        "二〇二五年三月四日",
        "이천이십오년 삼월 사일",
        "2025-W10-2",
        "4 ماه",
    ],
)
def test_a_date_in_any_form_states_its_day(written: str) -> None:
    assert states_date(DAY, written)
    assert states_date(DAY, f"Due {written}")


@pytest.mark.parametrize(
    ("written", "lie"),
    [
        ("04.03.2025", date(2025, 5, 4)),
        ("04.03.2025", date(2025, 4, 4)),
        ("2025-03-04", date(2025, 5, 4)),
        ("2025-03-04", date(2025, 4, 3)),
        ("04 03 2025", date(2025, 5, 4)),
        ("04.03. 2025", date(2024, 3, 4)),
        ("04.03. 10:30", date(2025, 5, 4)),
        ("4.3. 5 Stück", date(2025, 5, 4)),
        ("4.3.25", date(1999, 3, 4)),
        ("25/03/04", date(2025, 5, 4)),
        ("04-Mar-25", date(1999, 3, 4)),
        ("2025년 3월 4일", date(2025, 5, 4)),
        ("25년 3월 4일", date(1999, 3, 4)),
        ("令和7年3月4日", date(2024, 3, 4)),
        ("令和7年3月4日", date(2025, 5, 4)),
        ("R7.3.4", date(1995, 3, 4)),
        ("令7.3.4", date(2024, 3, 4)),
        ("114/03/04", date(2024, 3, 4)),
        ("04032025", date(2025, 5, 4)),
        ("040325", date(2024, 3, 4)),
        ("4/3/2568", date(2024, 3, 4)),
        ("04.03.–05.05.2025", date(2025, 6, 4)),
        ("04.03.–05.05.2025", date(2024, 3, 4)),
        ("04.03.2025 10.30.00", date(2025, 10, 4)),
        ("4. März 2025", date(2024, 3, 4)),
        ("4. März 25", date(1999, 3, 4)),
        ("4 mars 25.", date(2024, 3, 4)),
        ("March 4, '25", date(2024, 3, 4)),
        ("4 de marzo de 25", date(2024, 3, 4)),
        ("04-Mar-25", date(2025, 5, 4)),
        ("4 March 2025", date(2025, 5, 4)),
        ("March 4th", date(2025, 5, 4)),
        ("4.III.2025", date(2025, 5, 4)),
        ("4 March 2024 until 5 May 2025", date(2025, 3, 4)),
        ("4 March 2024 until 5 May 2025", date(2025, 5, 4)),
        ("4.–8. März 2025", date(2025, 5, 4)),
        ("ngày 4 tháng 3 năm 2025", date(2025, 5, 4)),
        ("March", date(2025, 3, 4)),
        ("Ende März 2025", date(2025, 3, 31)),
        ("at once", date(2025, 3, 4)),
        ("the fourth of March", date(2025, 5, 4)),
        ("a part of March 2025", date(2025, 3, 1)),
        ("2025年3月中", date(2025, 8, 3)),
        ("2025년 3월 말", date(2025, 3, 3)),
        ("Elections 2025", date(2025, 3, 2)),
        ("four elections in 2025", date(2025, 3, 4)),
        ("the fourth of March 2025", date(2024, 3, 4)),
        ("令和七年三月四日", date(2024, 3, 4)),
        ("令和七年三月四日", date(2025, 5, 4)),
        ("令和元年5月1日", date(2020, 5, 1)),
        ("2025-W10-2", date(2025, 3, 5)),
        ("2025-W10-2", date(2025, 3, 2)),
        ("2025-W60-2", date(2025, 3, 4)),
    ],
)
def test_a_date_states_no_other_day(written: str, lie: date) -> None:
    assert not states_date(lie, written)
    assert not states_date(lie, f"Due {written}")


def others(day: date) -> list[date]:
    """The days around a day, and those that have two of its three numbers."""
    same_day = [day.replace(month=month) for month in range(1, 13) if day.day < 29 and month != day.month]
    same_year = [day.replace(year=day.year + years) for years in (-10, -1, 1, 10) if day.day < 29]
    return [*same_day, *same_year, *(day + timedelta(days) for days in (-7, -2, -1, 1, 2, 7, 20))]


@given(DAYS, st.sampled_from(LANGUAGES))
def test_a_date_with_a_month_in_words_states_its_day_alone(day: date, language: tuple[str, str]) -> None:
    names, form = language
    written = form.format(names.split()[day.month - 1], day.day, day.year, f"{day.year % 100:02}")
    assert states_date(day, written)
    assume("listopad" not in written)  # October in Croatian, November in Polish and Czech
    assert [other for other in others(day) if states_date(other, written)] == []


@given(
    DAYS, st.sampled_from(["%d.%m.%Y", "%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%Y年%m月%d日", "%Y년 %m월 %d일", "%G-W%V-%u"])
)
def test_a_date_in_digits_states_its_day_alone(day: date, form: str) -> None:
    written = day.strftime(form)
    assert states_date(day, written)
    with_month_first = (day.year, day.day, day.month)
    stated = [other for other in others(day) if states_date(other, written)]
    assert all((other.year, other.month, other.day) == with_month_first for other in stated)


@pytest.mark.parametrize(
    "quote",
    ["4 March 2025, 14:30", "04.03.2025 2:30 PM", "2025-03-04T14:30:00", "4 March 2025", "4 March 2025, 12:00–14:30"],
)
def test_a_time_that_the_quote_has_or_leaves_open_is_stated(quote: str) -> None:
    assert states_value("2025-03-04T14:30:00", "datetime", quote)


def test_a_time_of_another_zone_is_not_compared() -> None:
    assert states_value("2025-03-04T13:30:00Z", "datetime", "4 March 2025, 14:30 CET")


@pytest.mark.parametrize("quote", ["4 March 2025, 10:00", "4 March 2025, 14:00", "2025-03-04T14:31:00"])
def test_a_time_beside_another_one_is_not_stated(quote: str) -> None:
    assert not states_value("2025-03-04T14:30:00", "datetime", quote)
