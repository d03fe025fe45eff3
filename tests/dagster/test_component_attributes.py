"""The attributes of the component: mistakes are named with line and word; templates are resolved before they are validated."""

import json
import re

import dagster as dg
import pytest

from dagster_offload.defs.resources import DeepSlot
from dagster_offload.settings import Settings
from tests.support.project import Project

EXTRA_LINE = 7  # where `extra` begins


def settings_of(project: Project) -> Settings:
    resource = project.defs.get_repository_def().get_top_level_resources()["papers_deep_slot"]
    slot = resource(dg.build_init_resource_context())
    assert isinstance(slot, DeepSlot)
    return slot.settings()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("  librry: {path: /tmp}\n", "there is no key 'librry': did you mean library?"),
        ("  nme: papers\n", "there is no key 'nme': did you mean name?"),
        ("  stages: {classify: {clases: [a]}}\n", "there is no key 'clases' in stages.classify: did you mean classes?"),
        (
            "  stages: {due: {promt: a, answer: {month: string}}}\n",
            "there is no key 'promt' in stages.due: did you mean",
        ),
        ("  stages: {due: {prompt: a, answer: {month: strin}}}\n", "strin"),
        ("  stages: {due: {prompt: a, when: {clasify: {category: [a]}}, answer: {b: string}}}\n", "clasify"),
        ("  ocr: maybe\n", "must be 'auto' or 'off'"),
        ("  retry_after_minutes: soon\n", "must be a number"),
        ("  name: My Papers\n", "use at most 40 lower-case letters, digits and _, and begin with a letter"),
        ("  partition_by: folders\n", "write document, folder, month, or shard:N with N from 1 to 2000"),
        (
            "  on_record: {file-it: {command: /bin/true}}\n",
            "on_record is for `dagster-offload up`: in a project, write an asset",
        ),
        ("  language: ${LANGUAGE}\n", "${LANGUAGE} is not replaced in a component: write {{ env('LANGUAGE') }}"),
    ],
)
def test_a_mistake_is_named_with_its_line(project: Project, extra: str, message: str) -> None:
    project.add("papers", extra=extra)
    error = project.error()
    assert f"papers/defs.yaml:{EXTRA_LINE}" in error
    assert message in error


def test_a_wrong_value_that_may_be_a_secret_is_not_shown(project: Project) -> None:
    file = project.add("papers")
    file.write_text(file.read_text().replace("model: qwen-macbook", "model: qwen-macbook, api_key: [hunter2]"))
    error = project.error()
    assert "slots.deep.api_key" in error
    assert "hunter2" not in error


def test_a_key_with_a_name_that_no_variable_has_is_not_sent_as_it_is(project: Project) -> None:
    file = project.add("papers")
    file.write_text(file.read_text().replace("model: qwen-macbook", "model: qwen-macbook, api_key: '${MY-KEY}'"))
    error = project.error()
    assert "'${' is not replaced in a component: write {{ env('NAME') }}" in error
    assert "slots.deep.api_key" in error


def test_settings_that_do_not_fit_together_are_named_with_the_component(project: Project) -> None:
    file = project.add("papers")
    file.write_text(file.read_text().replace(", model: qwen-macbook", ""))
    assert re.search(r"component papers: .*slots\.deep\.model", project.error())


@pytest.mark.parametrize("attributes", ["", "attributes:\n", "attributes: {language: ko}\n"])
def test_a_component_without_a_library_says_so(project: Project, attributes: str) -> None:
    project.add("papers").write_text(f"type: dagster_offload.OffloadPipeline\n{attributes}")
    assert "component papers: library.path is missing" in project.error()


def test_variables_of_the_home_do_not_change_a_component(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.add("papers")
    monkeypatch.setenv("OFFLOAD_LIBRARY", "/nowhere")
    assert settings_of(project).library == project.folder_of("papers") / "library"


def test_every_text_can_be_a_template(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project.add("papers", extra='  home: "{{ context.project_root }}/home"\n')
    text = re.sub(r"{url: [^,]+", "{url: \"{{ env('DEEP_URL') }}\"", file.read_text())
    file.write_text(text.replace(f"  home: {project.folder}/home\n", ""))
    monkeypatch.setenv("DEEP_URL", "http://macbook.local:8890")
    settings = settings_of(project)
    assert settings.slots_section.deep.url == "http://macbook.local:8890"
    assert settings.home == project.folder / "home"


def test_what_a_template_gives_is_validated(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project.add("papers")
    file.write_text(re.sub(r"{url: [^,]+", "{url: \"{{ env('DEEP_URL') }}\"", file.read_text()))
    assert "DEEP_URL is not set" in project.error()
    monkeypatch.setenv("DEEP_URL", "macbook.local")
    assert re.search(r"component papers: slots\.deep\.url: must start with http", project.error())


def test_a_schema_file_of_a_stage_is_read_from_the_components_folder(project: Project) -> None:
    project.add("papers", extra='  stages: {due: {prompt: "When is it due?", schema: due.json}}\n')
    schema = {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}, "required": ["day"]}
    (project.folder_of("papers") / "due.json").write_text(json.dumps(schema))
    assert [field.name for field in settings_of(project).own_stages["due"].answer] == ["day"]


def test_a_schema_file_that_is_missing_is_named_with_the_stage(project: Project) -> None:
    project.add("papers", extra='  stages: {due: {prompt: "When is it due?", schema: due.json}}\n')
    assert re.search(r"component papers: stages\.due\.schema: \S+/papers/due\.json cannot be read", project.error())
