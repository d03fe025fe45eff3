"""Dates in words of a document: every form that people use states its day, and no other day."""

from datetime import date

import pytest

from dagster_offload.stages.answers.written_dates import states_date

DAY = date(2025, 3, 4)


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
    ],
)
def test_a_date_states_no_other_day(written: str, lie: date) -> None:
    assert not states_date(lie, written)
    assert not states_date(lie, f"Due {written}")
