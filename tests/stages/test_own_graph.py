"""The graph with own stages: its order, and mistakes that show when all stages are known."""

import json
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stage_spec.relations import BUILT_IN_FIELDS
from dagster_offload.stages.catalog import recipes, stage_graph
from dagster_offload.stages.classify import Classification
from dagster_offload.stages.graph import StageGraph
from dagster_offload.stages.summarize import Summary

BILL = {
    "payee": "string",
    "amount": "number",
    "count": "integer",
    "paid": "boolean",
    "due": "date",
    "sender": {"name": "string"},
    "kinds": [{"enum": ["a", "b"]}],
    "rows": [["string"]],
}


def settings_of(**stages: Any) -> Settings:
    """The settings of a pipeline file with these stages, which have a prompt and an answer unless they give their own."""
    written = {name: {"prompt": "What?", "answer": {"a": "string"}} | stage for name, stage in stages.items()}
    Path("offload.yaml").write_text(json.dumps({"stages": written}), encoding="utf-8")  # JSON is YAML
    return load_settings()


def graph_of(**stages: Any) -> StageGraph:
    return stage_graph(settings_of(**stages))


def test_own_stages_follow_the_built_in_ones_and_those_they_need() -> None:
    graph = graph_of(last={"reads": "first"}, first={"when": {"classify": {"category": "invoice"}}})
    assert graph.names == ("extract", "classify", "summarize", "first", "last")
    assert graph.node("first").needs == ("extract", "classify")
    assert graph.with_needs(["last"]) == ("extract", "classify", "first", "last")


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"a": {"reads": "b"}, "b": {"reads": "a"}}, "a and b need each other"),
        ({"a": {"reads": "a"}}, "stages.a.reads: a stage cannot read itself"),
        ({"a": {"when": {"a": {"a": "x"}}}}, "stages.a.when.a: the condition of a stage cannot name the stage itself"),
        ({"a": {"reads": "sumarize"}}, "did you mean summarize?"),
        ({"a": {"when": {"clasify": {"category": "x"}}}}, "did you mean classify?"),
        ({"a": {"when": {"classify": {"kategory": "x"}}}}, "did you mean category?"),
        ({"a": {"when": {"extract": {"text": "x"}}}}, "there is no stage 'extract'"),
        ({"summary": {}}, "a name that this program uses itself"),
        ({"all": {}}, "a name that this program uses itself"),
        ({"My Stage": {}}, "lower-case letters"),
        ({"x" * 41: {}}, "at most 40"),
    ],
)
def test_a_mistake_between_stages_is_named(stages: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=r"stages") as caught:
        graph_of(**stages)
    assert message in str(caught.value)


def test_a_condition_on_a_class_or_a_value_that_cannot_be_is_refused() -> None:
    classes = {"classify": {"classes": ["invoice", "reminder"]}}
    mine = {"prompt": "What?", "answer": {"kind": {"enum": ["new", "old"]}}}

    def refused(when: dict[str, Any]) -> str:
        written = {**classes, "mine": mine, "next": {"prompt": "Why?", "answer": {"a": "string"}, "when": when}}
        Path("offload.yaml").write_text(json.dumps({"stages": written}), encoding="utf-8")
        with pytest.raises(SettingsError) as caught:
            load_settings()
        return str(caught.value)

    assert "category is never 'remindr' (did you mean reminder?)" in refused({"classify": {"category": ["remindr"]}})
    assert "its values are new, old" in refused({"mine": {"kind": "recent"}})
    del classes["classify"]
    message = refused({"classify": {"category": ["invoices"]}})
    assert "category is never 'invoices' (did you mean invoice?): its values are invoice, letter" in message
    assert "stages.classify.classes, OFFLOAD_CLASSES" in message, "the next step: where the classes are set"


@pytest.mark.parametrize(
    ("stage", "field", "value", "message"),
    [
        ("classify", "confidence", "1", "confidence is never '1': it is a number, which has no quotes"),
        ("bill", "amount", ">100", "amount is never '>100': it is a number"),
        ("bill", "paid", "yes", "paid is never 'yes': it is true or false"),
        ("bill", "paid", 1, "paid is never 1: it is true or false"),
        ("bill", "count", True, "count is never True: it is a whole number"),
        ("bill", "payee", 12, "payee is never 12: it is text: put quotes around it"),
        ("bill", "sender", "Kim", "sender is never 'Kim': it is no single value"),
        ("bill", "kinds", "c", "kinds is never 'c': its values are a, b"),
        ("bill", "rows", 1, "rows is never 1: it is text"),
    ],
)
def test_a_condition_that_no_answer_meets_because_of_its_type_is_refused(
    stage: str, field: str, value: Any, message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of(bill={"answer": BILL}, after={"when": {stage: {field: value}}})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 12),
        ("paid", False),
        ("count", 3),
        ("payee", "Kim"),
        ("kinds", "a"),
        ("due", "2025-03-04"),
        ("rows", "a"),
        ("paid", [True, "yes"]),
        ("kinds", ["b", "c"]),
    ],
)
def test_a_condition_that_an_answer_may_meet_is_accepted(field: str, value: Any) -> None:
    settings = settings_of(bill={"answer": BILL}, after={"when": {"bill": {field: value}}})
    assert stage_graph(settings).node("after").needs == ("extract", "bill")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"prompt": ""}, "prompt"),
        ({"answer": {"a": "dat"}}, "did you mean date?"),
        ({"answer": {"quotes": "string"}}, "a name that records use themselves"),
        ({"promt": "What?"}, "promt"),
        ({"when": {"classify": {}}}, "needs a field and its values"),
        ({"quotes": "sometimes"}, "quotes"),
    ],
)
def test_a_mistake_in_a_stage_is_refused(stage: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        graph_of(mine=stage)
    assert message in str(caught.value)


def test_forty_stages_are_one_graph() -> None:
    graph = graph_of(**{f"stage_{number}": {} for number in range(40)})
    assert len(graph.names) == 43


def test_a_stage_of_ones_own_changes_no_recipe_of_another() -> None:
    before = recipes(load_settings())
    with_own = recipes(settings_of(mine={}))
    assert {name: with_own[name] for name in before} == before


def test_conditions_can_name_every_field_of_the_built_in_stages() -> None:
    fields = {"classify": Classification.model_fields, "summarize": Summary.model_fields}
    assert {name: set(known) for name, known in BUILT_IN_FIELDS.items()} == {n: set(f) for n, f in fields.items()}


def test_a_mistake_has_its_line_and_column() -> None:
    lines = ["stages:", "  payment:", "    prompt: What?", "    answer: {items: [{price: numbr}]}"]
    Path("offload.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"offload\.yaml:4:\d+: stages\.payment\.answer\.items"):
        load_settings()


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"description": "Words for people."}, True),
        ({"when": {"classify": {"category": "invoice"}}}, True),
        ({"prompt": "Who?"}, False),
        ({"answer": {"a": "string?"}}, False),
        ({"quotes": True}, False),
        ({"max_tokens": 99}, False),
    ],
)
def test_only_what_an_answer_depends_on_changes_its_recipe(change: dict[str, Any], is_same: bool) -> None:
    before, after = (recipes(settings_of(mine=each))["mine"] for each in ({}, change))
    assert (before == after) is is_same
