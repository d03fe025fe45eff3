"""The graph with own stages: its order, and mistakes that show when all stages are known."""

from typing import Any

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.settings import load_settings
from dagster_offload.stages.catalog import recipes, stage_graph


def graph_of(**stages: Any) -> Any:
    written = {name: {"prompt": "What?", "answer": {"a": "string"}} | stage for name, stage in stages.items()}
    return stage_graph(load_settings(stages=written))


def test_own_stages_follow_the_built_in_ones_and_those_they_need() -> None:
    graph = graph_of(last={"reads": "first"}, first={"when": {"classify": {"category": "invoice"}}})
    assert graph.names == ("extract", "classify", "summarize", "first", "last")
    assert graph.node("first").needs == ("extract", "classify")
    assert graph.with_needs(["last"]) == ("extract", "classify", "first", "last")


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"a": {"reads": "b"}, "b": {"reads": "a"}}, "a and b need each other"),
        ({"a": {"reads": "a"}}, "there is no stage 'a'"),
        ({"a": {"reads": "sumarize"}}, "did you mean 'summarize'?"),
        ({"a": {"when": {"clasify": {"category": "x"}}}}, "did you mean 'classify'?"),
        ({"a": {"when": {"classify": {"kategory": "x"}}}}, "did you mean 'category'?"),
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


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"prompt": ""}, "prompt"),
        ({"answer": {"a": "dat"}}, "did you mean 'date'?"),
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
    own = {"mine": {"prompt": "What?", "answer": {"a": "string"}}}
    with_own = recipes(load_settings(stages=own))
    assert {name: with_own[name] for name in recipes(load_settings())} == recipes(load_settings())


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
    stage = {"prompt": "What?", "answer": {"a": "string"}}
    before, after = (recipes(load_settings(stages={"mine": each}))["mine"] for each in (stage, stage | change))
    assert (before == after) is is_same
