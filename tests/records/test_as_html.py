"""The HTML page of records."""

import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.records.as_html import write
from dagster_offload.records.columns import Column, flat
from tests.support.browser import browser


@pytest.fixture
def in_korea(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "Asia/Seoul")
        time.tzset()
        yield
    time.tzset()


def _fields(page: io.StringIO) -> dict[str, str]:
    """The fields below the top of all records of a page."""
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page.getvalue()))


def test_a_record_shows_its_title_its_summary_and_only_the_fields_that_it_has() -> None:
    names = {"document": "string", "state": "string", "title": "string", "summary": "string", "amount": "number"}
    columns = (
        *(Column(name, kind) for name, kind in names.items()),
        Column("doubtful", "json"),
        Column("tags", "json"),
    )
    page = io.StringIO()
    record = {"document": "a/b.pdf", "state": "done", "title": "A bill", "summary": "It is due.", "amount": 0}
    write([record | {"doubtful": [], "tags": ["tax", "2026"]}], columns, page)
    assert _fields(page) == {"amount": "0", "tags": "tax; 2026"}
    assert '<h2>A bill</h2>\n<p class="document">a/b.pdf</p>\n<p>It is due.</p>' in page.getvalue()


def test_a_record_shows_all_that_it_has_with_the_words_that_state_it() -> None:
    columns = (
        Column("path", "string"),
        Column("outcome", "string"),
        Column("key_points", "json", "summarize", "key_points"),
        Column("payment.amount", "number", "payment", "amount"),
        Column("payment.items", "json", "payment", "items"),
    )
    quotes = {"amount": {"text": "Due: <889>"}, "items": [{"text": "paper"}, None, {"text": "paper"}]}
    items = [{"what": "paper", "price": 3.0}, {"what": "ink", "price": 4.5}]
    record = {
        "document": "a.pdf",
        "state": "done",
        "path": "/library/a.pdf",
        "outcome": "ok",
        "key_points": ["one" * 300, "two"],
        "payment": {"amount": 889.0, "items": items, "quotes": quotes},
    }
    page = io.StringIO()
    write([record, {"document": "b.txt", "state": "done", "outcome": "empty"}], columns, page)
    first, second = page.getvalue().split("</article>")[:2]
    assert dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", first)) == {
        "path": "/library/a.pdf",
        "outcome": "ok",
        "key_points": f"{'one' * 300}; two",
        "payment.amount": "889",
        "payment.items": "what: paper, price: 3; what: ink, price: 4.5",
    }
    assert re.findall(r'<dd class="quote">(.*?)</dd>', first) == ["“Due: &lt;889&gt;”", "“paper”"]
    assert "<dt>outcome</dt><dd>empty</dd>" in second


def test_a_record_that_is_not_done_says_so_and_is_named_by_its_document() -> None:
    page = io.StringIO()
    columns = tuple(Column(name, "string") for name in ("document", "state", "reason", "title"))
    write([{"document": "a.pdf", "state": "failed", "reason": "no_json"}], columns, page)
    assert '<article class="failed">\n<h2>a.pdf</h2>\n<p class="document">failed</p>' in page.getvalue()


def test_a_record_is_named_and_marked_also_if_the_page_has_other_columns() -> None:
    page = io.StringIO()
    write([{"document": "a.pdf", "state": "failed", "reason": "no_json"}], (Column("reason", "string"),), page)
    assert '<article class="failed">\n<h2>a.pdf</h2>\n<p class="document">failed</p>' in page.getvalue()


@pytest.mark.slow
@pytest.mark.chromium
@pytest.mark.parametrize("width", [400, 1300])
def test_no_date_and_no_word_is_broken_and_nothing_is_wider_than_the_window(tmp_path: Path, width: int) -> None:
    own = {f"payment.field_{number}": "2026-01-30" for number in range(12)}
    columns = (*(Column(name, "string") for name in ("document", "state", *own)), Column("summary", "string"))
    file = tmp_path / "records.html"
    with file.open("w", encoding="utf-8") as out:
        write([{"document": "a.pdf", "state": "deferred", "summary": "One sentence. " * 20, **own}], columns, out)
    with browser() as page:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        page.call("Emulation.setDeviceMetricsOverride", **size)
        page.open(file.as_uri())
        page.wait_for_text("1 of 1")
        assert page.run("Math.max(...[...document.querySelectorAll('dd')].map(each => each.offsetHeight))") < 2 * 24
        assert page.run("document.documentElement.scrollWidth") <= width


@pytest.mark.usefixtures("in_korea")
def test_times_are_those_of_this_machine_and_a_documents_own_time_stays_as_it_is() -> None:
    columns = (Column("updated_at", "datetime"), Column("meeting", "datetime"))
    page = io.StringIO()
    record = {"state": "done", "updated_at": "2026-01-01T20:30:00+00:00", "meeting": "2026-01-01T20:30:00"}
    write([record], columns, page)
    assert _fields(page) == {"updated_at": "2026-01-02 05:30", "meeting": "2026-01-01 20:30"}


@pytest.mark.usefixtures("in_korea")
def test_a_date_too_far_for_this_time_zone_stays_in_its_own() -> None:
    page = io.StringIO()
    write([{"state": "done", "end": "9999-12-31T23:59:59+00:00"}], (Column("end", "datetime"),), page)
    assert _fields(page) == {"end": "9999-12-31 23:59"}


def test_an_answer_to_an_older_question_that_no_integer_column_holds_is_left_out() -> None:
    column = Column("payment.cents", "integer", "payment", "cents")
    assert flat({"payment": {"cents": 10**20}}, (column,)) == {"payment.cents": None}
    assert flat({"payment": {"cents": 10**18}}, (column,)) == {"payment.cents": 10**18}
