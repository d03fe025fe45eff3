"""What two processes of one ledger compare before they write: recipes, and in words what makes them differ."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.settings import Settings, Stage, load_settings, with_stages
from dagster_offload.stages.pipeline import Pipeline, difference, pipeline_of


def settings(**values: object) -> Settings:
    return load_settings(**({"deep_url": "http://macbook.local:8890", "deep_model": "qwen-macbook"} | values))


def compared(**here: object) -> str | None:
    return difference(pipeline_of(settings(**here)), pipeline_of(settings(classes="invoice,letter")))


@pytest.mark.parametrize(
    "here",
    [
        {},
        {"deep_url": "http://other:1"},
        {"deep_concurrency": 4},
        {"library": "/elsewhere"},
        {"deep_api_key": "k"},
    ],
)
def test_settings_that_change_no_recipe_make_no_difference(here: dict[str, object]) -> None:
    assert compared(classes="invoice, letter", **here) is None


def test_a_difference_names_the_stage_and_the_setting_with_both_values() -> None:
    assert compared(classes="tax") == "stages.classify.classes is tax here and invoice, letter there (classify)"


def test_a_difference_of_the_model_is_named_once_with_the_stages_that_it_concerns() -> None:
    found = compared(classes="invoice,letter", deep_model="llama")
    assert found == "slots.deep.model is llama here and qwen-macbook there (classify, summarize)"


def test_a_difference_of_many_stages_gives_their_number() -> None:
    stages = [f"  s{n}: {{prompt: What?, answer: {{a: string}}}}\n" for n in range(12)]
    Path("offload.yaml").write_text(f"stages:\n{''.join(stages)}")
    found = compared(classes="invoice,letter", deep_model="llama")
    assert found == "slots.deep.model is llama here and qwen-macbook there (14 of 15 stages)"


def of_own_stage(**changes: Any) -> Pipeline:
    spec = {"prompt": "What must be paid?", "answer": {"payee": "string", "amount": "number"}} | changes
    return pipeline_of(with_stages(settings(), payment=Stage(**spec)))


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (
            {"answer": {"payee": "string", "amount": "number", "due": "date?"}},
            "stages.payment.answer is payee, amount here and payee, amount, due there (payment); "
            "stages.payment.answer.due is unset here and date? there (payment)",
        ),
        (
            {"answer": {"payee": "string", "amount": {"type": "number", "min": 0, "optional": True}}},
            "stages.payment.answer.amount is number here and number? (min 0) there (payment)",
        ),
        (
            {"answer": {"payee": {"enum": ["A", "B"]}, "amount": [{"what": "string"}]}},
            "stages.payment.answer.payee is string here and enum [A, B] there (payment); "
            "stages.payment.answer.amount is number here and [{what: string}] there (payment)",
        ),
        (
            {"answer": {"amount": "number", "payee": "string"}},
            "stages.payment.answer is payee, amount here and amount, payee there (payment)",
        ),
    ],
)
def test_a_difference_of_an_answer_names_only_the_fields_that_differ(there: dict[str, Any], found: str) -> None:
    assert difference(of_own_stage(), of_own_stage(**there)) == found


def test_a_difference_of_a_long_prompt_shows_where_it_begins() -> None:
    same = "Read the whole letter before you answer.\n" * 50
    found = difference(of_own_stage(prompt=f"{same}Who pays?"), of_own_stage(prompt=f"{same}Who is paid? {same}"))
    assert found is not None
    assert "is …ore you answer. Who pays? here and …ore you answer. Who is paid? Read the" in found
    assert len(found) < 250
    assert "\n" not in found


def test_the_conditions_of_a_stage_are_kept_as_json() -> None:
    here = of_own_stage(when={"classify": {"category": ["invoice"]}})
    assert here.relations["stages.payment.when"] == '{"classify": {"category": ["invoice"]}}'


def test_a_schema_of_python_may_hold_values_that_json_does_not_have() -> None:
    properties = {"due": {"type": "string", "format": "date", "default": date(2025, 1, 1)}}
    stage = Stage.model_validate({"prompt": "When?", "schema": {"type": "object", "properties": properties}})
    here = pipeline_of(with_stages(settings(), payment=stage))
    assert '"default": "2025-01-01"' in here.settings["stages.payment.schema"]


def test_a_difference_of_an_extra_body_shows_no_value_of_it() -> None:
    found = compared(classes="invoice,letter", deep_extra_body='{"user": "s3cret"}')
    assert found is not None
    assert "slots.deep.extra_body is sha256:" in found
    assert "s3cret" not in found


def test_another_version_and_another_stage_are_named() -> None:
    here = pipeline_of(settings())
    newer = replace(here, recipes=dict(here.recipes) | {"classify": "other", "payment": "new"}, version="9.9")
    found = difference(here, newer)
    assert found is not None
    assert f"dagster_offload is {here.version} here and 9.9 there (classify)" in found
    assert "a stage is only in the running pipeline (payment)" in found
