"""Names that were copied from those of files on a Mac, in Unicode NFD: they look like those that people and models write."""

import json
import unicodedata
from pathlib import Path
from typing import Any, Literal

import pytest

from dagster_offload.cli.stage_inputs import read_expected
from dagster_offload.ledger.reports.records import select
from dagster_offload.records import Query
from dagster_offload.records.conditions import unknown_values
from dagster_offload.records.correcting import new_values
from dagster_offload.settings import Settings, load_settings
from dagster_offload.sinks.build import build
from dagster_offload.stages.own import own_stage
from tests.support.engine import Engine
from tests.support.own_stages import INVOICE, PAYMENT, fill, record

STAGES: dict[str, Any] = {
    "classify": {"classes": ["Verträge"]},
    "room": {"prompt": "Which?", "answer": {"금액": "number", "größe": {"enum": ["groß", "schön"]}}},
    "next": {
        "prompt": "Why?",
        "answer": {"why": "string"},
        "when": {"classify": {"category": "Verträge"}, "room": {"größe": ["schön"]}},
    },
}
SINKS = {"paperless": {"paperless": "http://127.0.0.1:1", "token": "t", "document_type": "room.größe"}}


@pytest.fixture(params=["NFC", "NFD"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    file = tmp_path / "offload.yaml"
    written = json.dumps({"stages": STAGES, "on_record": SINKS}, ensure_ascii=False)
    file.write_text(unicodedata.normalize(request.param, written))
    file.chmod(0o600)
    return load_settings(config=file, home=tmp_path / "home")


def test_names_and_values_are_found_whichever_form_the_pipeline_file_has(settings: Settings) -> None:
    conditions = ("category=Verträge", "room.größe=schön", "room.금액>3")
    assert list(unknown_values(conditions, settings)) == []
    assert Query(where=conditions).selection(settings).conditions[2].field == "금액"
    build(settings, "paperless")


def test_the_names_in_an_answer_are_those_of_the_stage_whichever_form_the_pipeline_file_has(settings: Settings) -> None:
    answer = own_stage("room", settings.own_stages["room"]).parse('{"금액": 45000, "größe": "Schön"}')
    assert answer.model_dump(mode="json") == {"금액": 45000.0, "größe": "schön"}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_what_a_person_writes_may_have_either_form(engine: Engine, form: Literal["NFC", "NFD"]) -> None:
    engine.use_stages(room={"prompt": "Which?", "answer": {"maß": {"größe": "number"}, "höhe": "number"}})
    written = ['room.maß={"größe": 3}', "room.maß.größe=4", "room.höhe=5"]
    values, _ = new_values(
        engine.settings(), engine.ledger, "a.txt", [unicodedata.normalize(form, each) for each in written]
    )
    assert [(each.field, each.value) for each in values] == [("maß", {"größe": 4.0}), ("höhe", 5.0)]
    file = engine.library.parent / "expected.jsonl"
    file.write_text(unicodedata.normalize(form, '{"document": "a.txt", "maß": {"größe": 4}, "höhe": 5}'))
    assert read_expected(file, engine.settings(), "room") == {"a.txt": {"maß": {"größe": 4.0}, "höhe": 5.0}}


def in_nfd(engine: Engine, value: dict[str, Any]) -> None:
    """Store these values in the answer to `classify` as version 0.2.0 did: as the pipeline file has them."""
    written = unicodedata.normalize("NFD", json.dumps(value, ensure_ascii=False))
    engine.sql("update results set value = value || %s::jsonb where stage = 'classify'", written)


def found(engine: Engine, condition: str) -> int:
    return len(engine.ledger.run(select, Query(where=condition).selection(engine.settings())))


def test_a_change_to_nfc_makes_no_answer_inapplicable(engine: Engine) -> None:
    engine.extracted("a.txt", texts={"a.txt": INVOICE})
    engine.use_stages(payment=PAYMENT)
    engine.drain()
    in_nfd(engine, {"category": "Verträge"})
    classes = {"classes": ["Verträge"]}
    engine.use_stages(classify=classes, payment=PAYMENT | {"when": {"classify": {"category": "Verträge"}}})
    fill(engine)
    assert record(engine, "a.txt", "payment")["outcome"] == "ok"
    assert [found(engine, f"category{operator}Verträge") for operator in ("=", "~", "!=")] == [1, 1, 0]


@pytest.mark.parametrize("value", ["groß und schön", ["klein", "groß und schön"]])
def test_a_condition_is_met_by_an_answer_whose_names_and_texts_are_in_nfd(engine: Engine, value: Any) -> None:
    engine.texts("a.txt")
    engine.drain("classify")
    in_nfd(engine, {"größe": value})
    condition = json.dumps({"classify": {"größe": ["groß und schön"]}})
    [row] = engine.sql("select is_met(%s::jsonb, document_id) as is_met from documents", condition)
    assert row["is_met"]
