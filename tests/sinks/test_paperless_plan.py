"""What is changed in a Paperless document, and what is left to a person. Without I/O."""

from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest

from dagster_offload.settings.sections.sinks import PaperlessSettings
from dagster_offload.sinks.paperless_plan import Present, Wanted, changes, wanted_of

NEW = Present(
    title="scan0001",
    created="2025-06-01",
    correspondent=None,
    document_type=None,
    tags=("inbox",),
    custom_fields={},
    added="2025-06-01T10:00:00+02:00",
    file_name="scan0001.pdf",
)
WANTED = Wanted(
    title="Heating bill",
    created="2025-03-04",
    correspondent="Kim Oil",
    document_type="invoice",
    tags=("heating",),
    custom_fields={"Amount": 12.5},
    note="Summary.",
)
ALL = {
    "title": "Heating bill",
    "created": "2025-03-04",
    "correspondent": "Kim Oil",
    "document_type": "invoice",
    "tags": ["inbox", "heating"],
    "custom_fields": {"Amount": 12.5},
}


def applied(present: Present, values: Any) -> Present:
    changed: dict[str, Any] = {name: tuple(value) if name == "tags" else value for name, value in values.items()}
    return replace(present, **changed)


def test_a_document_that_only_paperless_has_touched_gets_every_value() -> None:
    decided = changes(WANTED, NEW, {}, overwrite=False)
    assert decided.values == ALL
    assert decided.note == "Summary."


@pytest.mark.rule("sink-6")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "My heating"),
        ("created", "2024-01-01"),
        ("correspondent", "Somebody else"),
        ("document_type", "letter"),
        ("custom_fields", {"Amount": 13.0}),
    ],
)
def test_what_a_person_has_set_is_left_alone_unless_overwrite_is_set(field: str, value: Any) -> None:
    theirs = replace(NEW, **{field: value})
    assert field not in changes(WANTED, theirs, {}, overwrite=False).values
    assert changes(WANTED, theirs, {}, overwrite=True).values[field] == ALL[field]


@pytest.mark.rule("sink-6")
def test_our_own_values_are_brought_up_to_date_and_those_that_a_person_changed_or_removed_are_not() -> None:
    first = changes(WANTED, NEW, {}, overwrite=False)
    now = applied(NEW, first.values)
    again = changes(WANTED, now, first.written, overwrite=False)
    assert (again.values, again.note) == ({}, None), "the same record changes nothing"
    newer = replace(WANTED, title="Oil bill", correspondent="Lee Oil", tags=("oil",), custom_fields={"Amount": 80.0})
    decided = changes(newer, now, first.written, overwrite=False)
    assert decided.values == {
        "title": "Oil bill",
        "correspondent": "Lee Oil",
        "tags": ["inbox", "oil"],
        "custom_fields": {"Amount": 80.0},
    }
    by_a_person = replace(now, title="Mine", correspondent=None, tags=("inbox",), custom_fields={"Amount": None})
    assert changes(newer, by_a_person, first.written, overwrite=False).values == {"tags": ["inbox", "oil"]}
    assert changes(WANTED, by_a_person, first.written, overwrite=False).values == {}, "a removed tag stays removed"


def test_a_value_that_the_record_does_not_have_changes_nothing() -> None:
    assert changes(Wanted(), NEW, {}, overwrite=True).values == {}


def test_the_values_of_a_record_are_those_of_its_columns() -> None:
    settings = PaperlessSettings.model_validate(
        {
            "paperless": "http://paperless",
            "created": "payment.due",
            "correspondent": "payment.payee",
            "tags": ["payment.parties", "language"],
            "always_tags": ["ai"],
            "custom_fields": {"Amount": "payment.amount", "Due": "payment.due", "Lines": "payment.items"},
            "note": "summary",
        }
    )
    record = {
        "title": "T" * 200,
        "category": "invoice",
        "language": "ko",
        "summary": "난방비",
        "payment.due": date(2025, 3, 4),
        "payment.payee": " Kim\n Oil ",
        "payment.parties": ["Kim", "Lee", "Kim"],
        "payment.amount": 12.5,
        "payment.items": [{"what": "oil"}],
    }
    wanted = wanted_of(record, settings)
    assert wanted == Wanted(
        title="T" * 128,
        created="2025-03-04",
        correspondent="Kim Oil",
        document_type="invoice",
        tags=("Kim", "Lee", "ko", "ai"),
        custom_fields={"Amount": 12.5, "Due": "2025-03-04", "Lines": '{"what": "oil"}'},
        note="난방비",
    )
    assert wanted_of({"payment.due": datetime(2025, 3, 4, 23, 5)}, settings).created == "2025-03-04"
