"""The HTML page of records."""

import io
import time
from collections.abc import Iterator

import pytest

from dagster_offload.records.as_html import write
from dagster_offload.records.columns import Column


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
