"""Conditions on times: a date is the whole day that a document states, and an offset makes a moment of a time."""

import pytest

from dagster_offload.records import Query
from dagster_offload.records.reading import stream
from tests.support.engine import FILLER, Engine

MEETINGS = {
    "new-york.txt": "2025-05-01T23:30:00-05:00",  # 04:30 of the next day in UTC
    "utc.txt": "2025-05-01T12:00:00Z",
    "seoul.txt": "2025-05-02T08:30:00+09:00",  # 23:30 of the day before in UTC
    "no-offset.txt": "2025-05-01T12:00:00",
    "no-time.txt": "soon",  # an answer to an older question
}


@pytest.mark.parametrize(
    ("where", "documents"),
    [
        # A date is the whole day that the document states.
        ("=2025-05-01", ["new-york", "no-offset", "utc"]),
        ("!=2025-05-01", ["seoul"]),
        (">2025-05-01", ["seoul"]),
        (">=2025-05-02", ["seoul"]),
        ("<=2025-05-01", ["new-york", "no-offset", "utc"]),
        ("<2025-05-01", []),
        # So is a time without an offset.
        ("=2025-05-01T12:00", ["no-offset", "utc"]),
        (">2025-05-01T12:00", ["new-york", "seoul"]),
        ("<2025-05-01T23:30", ["no-offset", "utc"]),
        # A time with an offset is a moment.
        ("=2025-05-01T14:00+02:00", ["no-offset", "utc"]),
        ("=2025-05-01T23:30Z", ["seoul"]),
        (">2025-05-01T23:30:00Z", ["new-york"]),
        ("<=2025-05-01T23:30:00Z", ["no-offset", "seoul", "utc"]),
        ("~2025-05-01T23", ["new-york"]),
    ],
)
def test_times_are_compared_as_times_over_time_zones(engine: Engine, where: str, documents: list[str]) -> None:
    engine.use_stages(meeting={"prompt": "When?", "answer": {"begins": "datetime"}})
    engine.extracted(*MEETINGS, texts={key: f"Meeting {key}.\n{FILLER}" for key in MEETINGS})
    engine.drain()
    for key, begins in MEETINGS.items():
        change = "update results set value = value || jsonb_build_object('begins', %s::text) where stage = 'meeting' "
        engine.sql(f"{change} and first_document = %s", begins, key)
    query = Query(where=f"meeting.begins{where}")
    found = stream(engine.settings(), engine.ledger, query)
    assert [record["document"].removesuffix(".txt") for record in found] == documents
