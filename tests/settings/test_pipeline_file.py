"""The pipeline file: where it is found, what overrides it, and the variables. test_wrong_pipeline_file.py has its mistakes."""

import os
from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.settings import Settings, load_settings, loading, read_settings
from dagster_offload.settings.leaves import LEAVES
from tests.support.pipeline_file import written

SLOT = "slots:\n  deep:\n    url: http://macbook.local:8890\n    model: from-file\n"


def deep_model(settings: Settings) -> str | None:
    return settings.slots_section.deep.model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFFLOAD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_every_kind_of_value_is_read_from_the_file(tmp_path: Path) -> None:
    written(
        """
library:
  path: documents           # relative to the file
  max_file_size: 2 MiB
slots:
  deep: {url: "http://macbook.local:8890/v1", model: qwen-macbook, concurrency: auto, extra_body: {top_p: 0.8}}
stages:
  classify:
    classes: [invoice, letter]
    slots: any
language: no                # Norwegian: YAML 1.2 has no such boolean
retry_after_minutes: 5
"""
    )
    settings = load_settings()
    deep = settings.slots.deep
    assert deep is not None
    assert (deep.url, deep.concurrency, deep.extra_body) == ("http://macbook.local:8890", "auto", {"top_p": 0.8})
    assert settings.library == tmp_path / "documents"
    assert settings.library_section.max_file_size == 2 * 1024**2
    assert (settings.stages.classify.classes, settings.stages.classify.slots) == (("invoice", "letter"), "any")
    assert settings.stages.summarize.slots == "deep"
    assert (settings.language, settings.retry_after_minutes) == ("no", 5)


@pytest.mark.rule("pipeline-2")
def test_options_override_the_environment_then_dotenv_then_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    written(SLOT)
    assert deep_model(load_settings()) == "from-file"
    written("OFFLOAD_DEEP_MODEL=from-dotenv\n", ".env")
    assert deep_model(load_settings()) == "from-dotenv"
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "from-environment")
    assert deep_model(load_settings()) == "from-environment"
    assert deep_model(load_settings(deep_model="from-option")) == "from-option"
    assert load_settings().slots_section.deep.url == "http://macbook.local:8890", "the rest of the section stays"


def test_the_file_is_found_by_variable_then_in_the_working_folder_then_in_the_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_settings().file is None
    in_home = written("language: home", home / "offload.yaml")
    assert (read_settings().file, load_settings().language) == (in_home, "home")
    here = written("language: here")
    assert (read_settings().file, load_settings().language) == (here, "here")
    named = written("language: named", "elsewhere/own.yaml")
    monkeypatch.setenv("OFFLOAD_CONFIG", "elsewhere/own.yaml")
    assert (read_settings().file, load_settings().language) == (named, "named")
    monkeypatch.setenv("OFFLOAD_CONFIG", "missing.yaml")
    with pytest.raises(SettingsError, match=r"missing\.yaml cannot be read: No such file"):
        load_settings()


def test_a_deleted_working_folder_has_no_settings(home: Path, tmp_path: Path) -> None:
    written("language: home", home / "offload.yaml")
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert load_settings().language == "home"
    os.chdir(tmp_path)


def test_relative_paths_start_at_the_real_folder_of_the_file(home: Path, tmp_path: Path) -> None:
    written("library: {path: documents}", tmp_path / "project/offload.yaml")
    home.mkdir(mode=0o700)
    (home / "offload.yaml").symlink_to(tmp_path / "project/offload.yaml")
    assert load_settings().library == tmp_path / "project/documents"


def test_an_empty_path_is_not_set_and_not_the_folder_of_the_file(home: Path) -> None:
    written("home: ''\nlibrary: {path: ''}\nslots: {deep: {url: 'http://x:1', model: m, api_key_file: ''}}\n")
    settings = load_settings()
    assert (settings.library, settings.home) == (None, home)


def test_a_file_in_the_default_home_cannot_name_another_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "default"
    monkeypatch.setattr(loading, "default_home", lambda: home)
    written("home: /elsewhere", home / "offload.yaml")
    with pytest.raises(SettingsError, match="home names another folder"):
        load_settings()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "{}", "slots:\nstages:\n"])
def test_an_empty_file_has_only_defaults(text: str) -> None:
    without_file = load_settings()
    written(text)
    assert load_settings() == without_file


def test_a_variable_in_the_file_is_replaced_from_the_environment_or_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    written(SLOT + "    api_key: ${MACBOOK_KEY}\n    expected_model: $${x}\n", mode=0o644)
    with pytest.raises(SettingsError, match=r"5:14: slots\.deep\.api_key: the variable MACBOOK_KEY is not set"):
        load_settings().slots.require_keys()
    written("MACBOOK_KEY=from-dotenv\n", ".env")
    deep = load_settings().slots.deep
    assert deep is not None
    assert (deep.api_key, deep.expected_model) == ("from-dotenv", "${x}")
    monkeypatch.setenv("MACBOOK_KEY", "from-environment")
    deep = load_settings().slots.deep
    assert deep is not None
    assert deep.api_key == "from-environment"


def test_the_text_of_stages_is_taken_as_it_is() -> None:
    written("stages: {classify: {classes: ['${HOME}']}}")
    assert load_settings().stages.classify.classes == ("${HOME}",)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("OFFLOAD_DEEP_MODLE", "did you mean OFFLOAD_DEEP_MODEL?"),
        ("OFFLOAD_DEEP", "did you mean OFFLOAD_DEEP_"),
        ("OFFLOAD_LIBARY", "did you mean OFFLOAD_LIBRARY?"),
        ("OFFLOAD_QQQQQQQQQQQQQQQQQQQQQ", "`dagster-offload config show` lists them, and a name for ${NAME}"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(SettingsError, match=f"{name} is not a setting: ") as caught:
        load_settings()
    assert hint in str(caught.value)
    monkeypatch.delenv(name)
    written(f"{name}=x\n", ".env")
    with pytest.raises(SettingsError, match=rf"{name} in \.env is not a setting"):
        load_settings()


@pytest.mark.parametrize("service", ["OFFLOAD", "OFFLOAD_UI", "OFFLOAD_USER_CODE"])
def test_the_variables_that_kubernetes_sets_for_services_are_not_ours(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    without = load_settings()
    variables = {
        "SERVICE_HOST": "10.0.0.11",
        "SERVICE_PORT": "3030",
        "SERVICE_PORT_GRPC": "3030",
        "PORT": "tcp://10.0.0.11:3030",
        "PORT_3030_TCP": "tcp://10.0.0.11:3030",
        "PORT_3030_TCP_PROTO": "tcp",
        "PORT_3030_TCP_PORT": "3030",
        "PORT_3030_TCP_ADDR": "10.0.0.11",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"{service}_{name}", value)
    assert load_settings() == without


def test_a_misspelt_stage_in_a_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_ANY_STAGES", "clasify")
    with pytest.raises(SettingsError, match="OFFLOAD_ANY_STAGES: there is no stage 'clasify': did you mean classify"):
        load_settings()


def test_the_variable_for_any_stages_overrides_the_slots_of_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    written("stages: {classify: {slots: any}}")
    monkeypatch.setenv("OFFLOAD_ANY_STAGES", "summarize")
    stages = load_settings().stages
    assert (stages.classify.slots, stages.summarize.slots) == ("deep", "any")


def test_each_value_knows_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(SLOT)
    written("OFFLOAD_OCR=off\n", ".env")
    monkeypatch.setenv("OFFLOAD_LANGUAGE", "ko")
    loaded = read_settings(deep_model="m")
    found = {leaf.dotted: str(loaded.origin(leaf)) for leaf in LEAVES}
    assert found["slots.deep.url"] == f"{file}:3:10"
    assert found["slots.deep.model"] == "option OFFLOAD_DEEP_MODEL"
    assert found["language"] == "environment OFFLOAD_LANGUAGE"
    assert found["ocr"] == ".env OFFLOAD_OCR"
    assert found["library.path"] == "default"


SLOT_VARIABLES = """
URL MODEL EXPECTED_MODEL API_KEY API_KEY_FILE CA_FILE CONCURRENCY MAX_CALL_SECONDS HEALTH_PATH CONNECT_TIMEOUT READ_TIMEOUT
CONTEXT_TOKENS EXTRA_BODY
"""
OTHER_VARIABLES = """
HOME LIBRARY LIBRARY_CROSS_MOUNTS POSTGRES_URL ANY_STAGES CLASSES LANGUAGE OCR OCR_LANGUAGES MAX_FILE_SIZE
RETRY_AFTER_MINUTES PREFORK SCAN_INTERVAL
"""


def test_every_setting_has_a_description_and_every_released_variable_exists() -> None:
    assert [leaf.dotted for leaf in LEAVES if not leaf.field.description] == []
    slots = {f"OFFLOAD_{name}_{field}" for name in ("DEEP", "PRIMARY") for field in SLOT_VARIABLES.split()}
    assert {leaf.variable for leaf in LEAVES} >= slots | {f"OFFLOAD_{name}" for name in OTHER_VARIABLES.split()}
