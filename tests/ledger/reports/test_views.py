"""The typed view of each own stage."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from dagster_offload.ledger.reports import views
from dagster_offload.ledger.reports.views import ViewField
from dagster_offload.stages.graph import CLASSIFY
from tests.support.ledger import Bench

FIELDS = [
    ViewField("amount", "number"),
    ViewField("due", "date"),
    ViewField("is_paid", "boolean"),
    ViewField("select", "string"),
    ViewField('the "sum"', "string"),
    ViewField("금액", "integer"),
    ViewField("parts", "json"),
    ViewField("x" * 63, "string"),
]


@pytest.fixture
def answered(bench: Bench) -> Bench:
    """A ledger with one document whose class is done; its record has the fields of an own stage."""
    bench.extracted("a.txt")
    worker = bench.worker()
    claim = bench.hold(worker)
    for item in claim.items:
        bench.finish(worker, claim, item)
    return bench


def view(bench: Bench, **value: Any) -> dict[str, Any]:
    bench.ledger.run(views.replace, {CLASSIFY: FIELDS})
    bench.sql("update results set value = %s where stage = %s", Jsonb(value), CLASSIFY)
    [row] = bench.sql("select * from record_classify")
    return row


def test_a_stage_has_a_view_with_a_typed_column_for_each_field(answered: Bench) -> None:
    row = view(answered, amount=12.5, due="2025-03-04", is_paid=True, select="x", parts=[1])
    assert (row["amount"], row["due"], row["is_paid"]) == (Decimal("12.5"), date(2025, 3, 4), True)
    assert (row["select"], row["document"], row["parts"]) == ("x", "a.txt", [1])
    assert row["금액"] is None


def test_a_value_of_another_form_is_null_and_breaks_no_query(answered: Bench) -> None:
    row = view(answered, amount="much", due="tomorrow", is_paid="yes", 금액=None)
    assert (row["amount"], row["due"], row["is_paid"], row["금액"]) == (None, None, None, None)


def test_a_view_follows_its_fields_and_goes_with_its_stage(answered: Bench) -> None:
    view(answered)
    answered.ledger.run(views.replace, {CLASSIFY: FIELDS[:1]})
    assert "due" not in answered.sql("select * from record_classify")[0]
    answered.ledger.run(views.replace, {})
    assert answered.sql("select from pg_views where viewname = 'record_classify'") == []


def test_a_view_that_somebody_built_upon_is_kept(answered: Bench) -> None:
    view(answered, due="2025-03-04")
    answered.sql("create view mine as select due from record_classify")
    answered.ledger.run(views.replace, {})
    assert answered.sql("select * from mine") == [{"due": date(2025, 3, 4)}]


def test_a_view_that_somebody_built_upon_follows_its_fields_once_that_is_gone(answered: Bench) -> None:
    view(answered)
    answered.sql("create view mine as select due from record_classify")
    answered.ledger.run(views.replace, {CLASSIFY: FIELDS[:1]})
    answered.sql("drop view mine")
    answered.ledger.run(views.replace, {CLASSIFY: FIELDS[:1]})
    assert "due" not in answered.sql("select * from record_classify")[0]


@pytest.mark.parametrize("written", ["2025-02-30", "2025-13-01", "0000-00-00"])
def test_a_date_that_does_not_exist_is_null_and_breaks_no_query(answered: Bench, written: str) -> None:
    assert view(answered, amount=1, due=written)["due"] is None


def test_no_table_of_the_ledger_has_the_name_of_a_view(bench: Bench) -> None:
    assert bench.sql("select relname from pg_class where starts_with(relname, %s)", views.PREFIX) == []
    bench.ledger.run(views.replace, {"changes": FIELDS})
    assert bench.sql("table record_changes") == []
