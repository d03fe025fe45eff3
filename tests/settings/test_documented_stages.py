"""The examples of docs/own-stages.md are loaded as a person would write them."""

import re
import sys
from pathlib import Path

import pytest

from dagster_offload.settings import load_settings
from dagster_offload.settings.yaml_text import parse_yaml
from dagster_offload.stage_spec.fields import read_answer
from dagster_offload.stages.catalog import llm_stages, stage_graph

PAGE = (Path(__file__).parents[2] / "docs/own-stages.md").read_text(encoding="utf-8")
EXAMPLES = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if block.startswith("stages:")]
MODEL = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the examples name."""
    schema = '{"type": "object", "properties": {"amount": {"type": "number"}}}'
    (tmp_path / "money.json").write_text(schema)
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "answers.py").write_text("from pydantic import BaseModel\n\nclass Payment(BaseModel):\n    payee: str\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(package.parent)])
    return tmp_path


def test_every_form_of_the_table_of_fields_is_read() -> None:
    table = PAGE.split("| You write |")[1].split("\n\n")[0]
    forms = [form for row in table.splitlines()[2:] for form in re.findall(r"`([^`]+)`", row.split("|")[1])]
    read = [read_answer(parse_yaml(f"a: {form}", "the page").values)[0] for form in forms]
    is_optional = [field.is_optional for field in read]
    assert is_optional == [form.endswith("?") or "optional: true" in form for form in forms]
    assert {field.type for field in read if field.is_optional} >= {"string", "enum", "object", "list"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_pipeline_file(files: Path, example: str) -> None:
    (files / "offload.yaml").write_text(example)
    settings = load_settings(home=files / "home", config=files / "offload.yaml")
    assert settings.own_stages
    assert set(settings.own_stages) <= llm_stages(settings).keys()


def test_the_example_in_python_adds_its_stage(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MODEL is not None
    settings = []
    monkeypatch.setenv("OFFLOAD_HOME", str(files / "home"))
    # The definitions are tested elsewhere, and importing Dagster takes seconds.
    code = MODEL[1].replace("from dagster_offload.definitions import build_definitions\n", "")
    exec(code, {"build_definitions": lambda loader: settings.append(loader())})  # noqa: S102 - our own page
    assert stage_graph(settings[0]).names[-1] == "payment"
