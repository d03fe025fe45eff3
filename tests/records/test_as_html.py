"""The HTML page of records."""

import io
import time
from collections.abc import Iterator

import pytest

from dagster_offload.records.as_html import write
from dagster_offload.records.columns import Column, flat


@pytest.fixture
def in_korea(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "Asia/Seoul")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_korea")
def test_times_are_those_of_this_machine_and_a_documents_own_time_stays_as_it_is() -> None:
    columns = (Column("updated_at", "datetime"), Column("meeting", "datetime"))
    page = io.StringIO()
    record = {"state": "done", "updated_at": "2026-01-01T20:30:00+00:00", "meeting": "2026-01-01T20:30:00"}
    write([record], columns, page)
    assert "<td>2026-01-02 05:30</td><td>2026-01-01 20:30</td>" in page.getvalue()


@pytest.mark.usefixtures("in_korea")
def test_a_date_too_far_for_this_time_zone_stays_in_its_own() -> None:
    page = io.StringIO()
    write([{"state": "done", "end": "9999-12-31T23:59:59+00:00"}], (Column("end", "datetime"),), page)
    assert "<td>9999-12-31 23:59</td>" in page.getvalue()


def test_an_answer_to_an_older_question_that_no_integer_column_holds_is_left_out() -> None:
    column = Column("payment.cents", "integer", "payment", "cents")
    assert flat({"payment": {"cents": 10**20}}, (column,)) == {"payment.cents": None}
    assert flat({"payment": {"cents": 10**18}}, (column,)) == {"payment.cents": 10**18}
