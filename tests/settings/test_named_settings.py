"""Messages about a slot name each setting where it was set."""

from pathlib import Path

import pytest

from dagster_offload.settings import load_settings
from dagster_offload.settings.loading import settings_of
from dagster_offload.slot.config import SlotConfig
from tests.support.pipeline_file import written

PIPELINE = r"""
slots:
  deep:
    url: http://macbook.local:8890
    model: qwen-macbook
    expected_model: 'Qwen3\.6-27B'
"""


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def deep() -> SlotConfig:
    slot = load_settings().slots.deep
    assert slot is not None
    return slot


def test_a_slot_of_the_pipeline_file_is_named_by_its_keys_also_what_is_not_set() -> None:
    written(PIPELINE)
    assert deep().setting("expected_model") == "slots.deep.expected_model"
    assert deep().setting("context_tokens") == "slots.deep.context_tokens"


def test_a_variable_that_overrides_the_pipeline_file_is_named_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    written(PIPELINE)
    monkeypatch.setenv("OFFLOAD_DEEP_EXPECTED_MODEL", "Qwen3")
    assert deep().setting("expected_model") == "OFFLOAD_DEEP_EXPECTED_MODEL"
    assert deep().setting("url") == "slots.deep.url"


def test_a_slot_of_variables_is_named_by_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_DEEP_URL", "http://macbook.local:8890")
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "qwen-macbook")
    assert deep().setting("url") == "OFFLOAD_DEEP_URL"
    assert deep().setting("expected_model") == "OFFLOAD_DEEP_EXPECTED_MODEL"


def test_a_component_reads_no_variables_so_its_keys_are_named(tmp_path: Path) -> None:
    slots = {"deep": {"url": "http://macbook.local:8890", "model": "qwen-macbook"}}
    slot = settings_of({"slots": slots, "home": str(tmp_path / "home")}, tmp_path, "papers").slots.deep
    assert slot is not None
    assert slot.setting("expected_model") == "slots.deep.expected_model"


def test_where_a_setting_stands_makes_no_other_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    written(PIPELINE)
    of_file = deep()
    Path("offload.yaml").unlink()
    for name, value in (("URL", of_file.url), ("MODEL", of_file.model), ("EXPECTED_MODEL", r"Qwen3\.6-27B")):
        monkeypatch.setenv(f"OFFLOAD_DEEP_{name}", value)
    assert deep() == of_file
