"""The component `dagster_offload.OffloadPipeline`: libraries in a stranger's project, beside assets of its own."""

import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_offload.component import OffloadPipeline
from dagster_offload.defs.resources import DeepSlot
from dagster_offload.simulator.server import Router

DOWNSTREAM = """
import dagster as dg
from pydantic import BaseModel

DOCUMENTS = dg.DynamicPartitionsDefinition(name="papers_documents")


class Summary(BaseModel):
    title: str


@dg.asset(
    partitions_def=DOCUMENTS,
    automation_condition=dg.AutomationCondition.eager(),
    ins={"text": dg.AssetIn(["papers", "extracted_text"]), "summary": dg.AssetIn(["papers", "summary"])},
)
def note(context: dg.AssetExecutionContext, text: str, summary: Summary) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"title": summary.title, "characters": len(text)})


@dg.asset(ins={"summaries": dg.AssetIn(["papers", "summary"])})
def index(summaries: dict[str, Summary]) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={name.partition(".")[0]: summary.title for name, summary in summaries.items()})
"""


@dataclass
class Project:
    """A dg project of a stranger, in SQLite. Its components share one ledger database."""

    folder: Path
    instance: dg.DagsterInstance
    router: Router

    def add(self, name: str, *texts: str, extra: str = "") -> None:
        """Add a component whose library has the documents `<text>.txt`."""
        folder = self.folder / "stranger" / "defs" / name
        (folder / "library").mkdir(parents=True)
        for text in texts:
            (folder / "library" / f"{text}.txt").write_text(f"The {text} of {name} is due in March.")
        (folder / "defs.yaml").write_text(
            "type: dagster_offload.OffloadPipeline\nattributes:\n"
            '  library: {path: ./library}\n  postgres_url: "{{ env.LEDGER }}"\n'
            f"  home: {self.folder / 'home'}\n"
            f"  slots: {{deep: {{url: {self.router.url}, model: qwen-macbook}}}}\n{extra}"
        )

    @property
    def defs(self) -> dg.Definitions:
        return dg.load_from_defs_folder(path_within_project=self.folder / "stranger")

    def error(self) -> str:
        """What Dagster prints if the definitions cannot be loaded."""
        try:
            _ = self.defs
        except Exception:  # noqa: BLE001 - Dagster's wrapper has no public type
            return traceback.format_exc()
        pytest.fail("the definitions can be loaded")

    def run(self, job: str) -> dg.ExecuteInProcessResult:
        return self.defs.resolve_job_def(job).execute_in_process(instance=self.instance)

    def materialize(self, asset: str, partition: str | None = None) -> dict[str, Any]:
        job = self.defs.resolve_implicit_global_asset_job_def()
        result = job.get_subset(asset_selection={dg.AssetKey(asset)}).execute_in_process(
            instance=self.instance, partition_key=partition
        )
        (event,) = result.asset_materializations_for_node(asset)
        return {name: value.value for name, value in event.metadata.items()}


@pytest.fixture
def project(tmp_path: Path, database: str, router: Router, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "stranger" / "defs").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "stranger"\n'
    )
    (tmp_path / "stranger" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LEDGER", database)
    for name in [name for name in list(sys.modules) if name.partition(".")[0] == "stranger"]:
        monkeypatch.delitem(sys.modules, name)
    return Project(tmp_path, dg.DagsterInstance.local_temp(str(tmp_path)), router)


def test_two_components_and_a_strangers_assets_work_side_by_side(project: Project) -> None:
    project.add("papers", "lease", "bill")
    project.add("letters", "note")
    (project.folder / "stranger" / "defs" / "downstream.py").write_text(DOWNSTREAM)
    dg.Definitions.validate_loadable(project.defs)

    for job in ("papers_scan", "papers_drain", "letters_scan", "letters_drain"):
        assert project.run(job).success

    assert project.instance.get_dynamic_partitions("papers_documents") == ["bill.txt", "lease.txt"]
    assert project.instance.get_dynamic_partitions("letters_documents") == ["note.txt"]
    for key, documents in (("papers", {"bill.txt", "lease.txt"}), ("letters", {"note.txt"})):
        for asset in ("extracted_text", "classification", "summary"):
            assert project.instance.get_materialized_partitions(dg.AssetKey([key, asset])) == documents
    note = project.materialize("note", "lease.txt")
    assert note["characters"] == len("The lease of papers is due in March.")
    assert set(project.materialize("index")) >= {"lease", "bill"}


# Dagster's own helper selects all assets by a beta parameter.
@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_an_automation_condition_on_our_assets_requests_the_strangers_asset(project: Project) -> None:
    project.add("papers", "lease")
    (project.folder / "stranger" / "defs" / "downstream.py").write_text(DOWNSTREAM)
    first = dg.evaluate_automation_conditions(defs=project.defs, instance=project.instance)
    assert first.total_requested == 0
    project.run("papers_scan")
    project.run("papers_drain")
    second = dg.evaluate_automation_conditions(defs=project.defs, instance=project.instance, cursor=first.cursor)
    assert second.get_requested_partitions(dg.AssetKey("note")) == {"lease.txt"}


def test_an_input_without_a_value_names_the_document(project: Project) -> None:
    project.add("papers", "lease")
    (project.folder / "stranger" / "defs" / "downstream.py").write_text(DOWNSTREAM)
    project.run("papers_scan")
    with pytest.raises(dg.Failure, match=r"lease\.txt has no summary yet"):
        project.materialize("note", "lease.txt")


def test_a_stage_of_ones_own_becomes_an_asset_of_the_component(project: Project) -> None:
    project.add("papers", "lease", extra="  stages: {due: {prompt: 'When is it due?', answer: {month: string}}}\n")
    assert dg.AssetKey(["papers", "due"]) in project.defs.resolve_asset_graph().get_all_asset_keys()


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        ("  librry: {path: /tmp}\n", "librry"),
        ("  stages: {classify: {clases: [a]}}\n", "clases"),
        ("  name: My Papers\n", "name"),
    ],
)
def test_a_typo_in_the_attributes_is_named_with_its_line(project: Project, extra: str, found: str) -> None:
    project.add("papers", extra=extra)
    error = project.error()
    assert "papers/defs.yaml:7" in error
    assert found in error


def test_settings_that_do_not_fit_together_are_named_with_the_component(project: Project) -> None:
    project.add("papers")
    file = project.folder / "stranger" / "defs" / "papers" / "defs.yaml"
    file.write_text(file.read_text().replace(", model: qwen-macbook", ""))
    assert re.search(r"component papers: .*slots\.deep\.model", project.error())


def test_variables_of_the_home_do_not_change_a_component(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.add("papers")
    monkeypatch.setenv("OFFLOAD_LIBRARY", "/nowhere")
    resource = project.defs.get_repository_def().get_top_level_resources()["papers_deep_slot"]
    slot = resource(dg.build_init_resource_context())
    assert isinstance(slot, DeepSlot)
    library = slot.settings().library
    assert library == project.folder / "stranger" / "defs" / "papers" / "library"


@pytest.fixture
def dg_command(project: Project) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).parent / "dg"), *arguments],
            cwd=project.folder,
            text=True,
            capture_output=True,
            check=False,
        )

    return run


@pytest.mark.slow
def test_dg_lists_scaffolds_and_checks_the_component(
    project: Project, dg_command: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(Path(sys.executable).parent.parent))
    monkeypatch.setenv("PYTHONPATH", str(project.folder))
    assert "dagster_offload.OffloadPipeline" in dg_command("list", "components").stdout
    scaffolded = dg_command("scaffold", "defs", "dagster_offload.OffloadPipeline", "papers")
    assert scaffolded.returncode == 0, scaffolded.stderr
    folder = project.folder / "stranger" / "defs" / "papers"
    assert [file.name for file in folder.iterdir()] == ["defs.yaml"]
    assert dg_command("check", "yaml").returncode == 0
    file = folder / "defs.yaml"
    file.write_text(file.read_text().replace("  library:", "  librry:"))
    checked = dg_command("check", "yaml")
    assert checked.returncode == 1
    assert "librry" in checked.stdout + checked.stderr


def test_importing_the_package_does_not_import_dagster() -> None:
    code = "import sys, dagster_offload; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_component_is_a_public_name_of_the_package() -> None:
    import dagster_offload

    assert dagster_offload.OffloadPipeline is OffloadPipeline
