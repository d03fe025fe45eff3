"""The texts of materializations: always what Dagster itself would store. Fails if Dagster changes underneath."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from dagster_shared.serdes import deserialize_value, serialize_value

from dagster_offload.defs import event_texts, events
from dagster_offload.defs.event_texts import MOST_KINDS, EventTexts
from dagster_offload.defs.names import names_of
from dagster_offload.defs.shown import documents
from dagster_offload.ledger.core.rows import PendingEvent, PendingObservation, State
from dagster_offload.settings import load_settings
from dagster_offload.stages.catalog import code_versions
from dagster_offload.stages.graph import BUILT_IN
from tests.dagster.test_events import PENDING

KEYS = names_of(BUILT_IN).keys
FACTS = documents.StageFacts(BUILT_IN, {"summarize": PENDING.recipe}, code_versions(load_settings()))
RECORD = dg.MetadataValue.md("**letter**\n\n| a | b |")


def entry_of(shown: dg.AssetMaterialization | dg.AssetObservation, run_id: str = "run 1") -> dg.EventLogEntry:
    return events._entry(run_id, "drain", "drain_backlog", f"{shown.partition}: done.", shown)


def materialized(event: PendingEvent, run_id: str = "run 1", **changes: Any) -> dg.EventLogEntry:
    shown = documents.materialization(event, KEYS, FACTS, None, record=RECORD)
    return entry_of(shown._replace(**changes), run_id)


def unlike_each_other() -> Iterator[dg.EventLogEntry]:
    """Materializations of several kinds, with all that they may hold. The first of a kind is followed by others."""
    yield materialized(PENDING, metadata={"not UTF-8": dg.MetadataValue.text("\udc80")})
    for run_id in ("run 1", "run 2"):
        yield materialized(PENDING, run_id)
        yield materialized(replace(PENDING, document="b/\u202e\U0001f600 \\.txt", result_id=8, seconds=None), run_id)
        yield materialized(replace(PENDING, stage="classify", value={"category": "letter", "confidence": 0.5}), run_id)
        yield materialized(replace(PENDING, stage="classify", value={"category": "é", "confidence": 1}), run_id)
        yield materialized(replace(PENDING, value={"doubtful": ["a"], "summary": "x\n\ty"}, recipe="old"), run_id)
    own = {
        "json": dg.MetadataValue.json({"b": [1, None, {"c": "\u2028"}], "a": 1.5}),
        "flag": dg.MetadataValue.bool(True),
        "number": dg.MetadataValue.float(1e300),
        "nothing": dg.MetadataValue.null(),
        "table": dg.MetadataValue.table([dg.TableRecord({"a": 1})]),
        "asset": dg.MetadataValue.asset(dg.AssetKey(["a", "b"])),
        "link": dg.MetadataValue.url("http://x"),
    }
    yield materialized(PENDING, metadata=own)
    yield materialized(PENDING, metadata={})
    yield materialized(PENDING, metadata={"not UTF-8": dg.MetadataValue.text("\udc80")})
    yield materialized(PENDING, tags={})
    yield materialized(PENDING, partition=None)
    yield materialized(PENDING, description="described")
    yield materialized(replace(PENDING, document="described, too"), description="described")


def test_each_text_is_what_dagster_stores() -> None:
    texts = EventTexts()
    for entry in unlike_each_other():
        text = texts.of(entry)
        assert json.loads(text) == json.loads(serialize_value(entry))
        assert deserialize_value(text, dg.EventLogEntry) == entry


def test_dagster_serializes_only_the_first_event_of_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    by_dagster: list[dg.EventLogEntry] = []

    def counted(event: dg.EventLogEntry) -> str:
        by_dagster.append(event)
        return serialize_value(event)

    monkeypatch.setattr(event_texts, "serialize_value", counted)
    texts = EventTexts()
    for number in range(5):
        texts.of(materialized(replace(PENDING, document=f"{number}.txt")))
    assert len(by_dagster) == 1


def test_a_dagster_that_stores_another_form_serializes_all_events_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_texts, "_forms", lambda: {dg.TextMetadataValue: ("AnotherName", "text")})
    texts = EventTexts()
    for number in range(3):
        entry = materialized(replace(PENDING, document=f"{number}.txt"))
        assert texts.of(entry) == serialize_value(entry)


def test_an_observation_is_serialized_by_dagster() -> None:
    observed = PendingObservation(
        event_id=1, document="a.txt", stage="summarize", run_id=None, is_in_doubt=False, state=State.FAILED,
        reason="r", attempts=3, deferrals=0, at=PENDING.created_at, next_try=None,
    )  # fmt: skip
    entry = entry_of(documents.observation(observed, KEYS))
    assert EventTexts().of(entry) == serialize_value(entry)


def test_a_process_that_runs_for_years_keeps_few_kinds() -> None:
    texts = EventTexts()
    for number in range(MOST_KINDS + 10):
        texts.of(materialized(PENDING, f"run {number}"))
    assert len(texts._packed) <= MOST_KINDS
