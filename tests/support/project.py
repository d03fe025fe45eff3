"""A stranger's Dagster project, with our components and assets of its own."""

import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_offload.simulator.server import Router

PYPROJECT = '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "stranger"\n'
# Jobs for processes: each builds the project again.
DEFINITIONS = """
from pathlib import Path

import dagster as dg


def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)


def summaries_in_own_process():
    return _summaries(dg.multiprocess_executor.configured({"max_concurrent": 1}))


def summaries_in_process():
    return _summaries(dg.in_process_executor)


def summaries_by_default():
    return _summaries(None)


def _summaries(executor):
    job = dg.define_asset_job("summaries", dg.AssetSelection.assets(["papers", "summary"]), executor_def=executor)
    return dg.Definitions.merge(defs(), dg.Definitions(jobs=[job])).resolve_job_def("summaries")
"""


@dataclass
class Project:
    """A dg project of a stranger. Its components share one ledger database."""

    folder: Path
    instance: dg.DagsterInstance
    router: Router
    _loaded: tuple[dict[Path, str], dg.Definitions] | None = None

    @classmethod
    def create(cls, folder: Path, instance: dg.DagsterInstance, router: Router) -> "Project":
        """An empty project. Its package `stranger` must be importable."""
        (folder / "stranger" / "defs").mkdir(parents=True)
        (folder / "pyproject.toml").write_text(PYPROJECT)
        (folder / "stranger" / "__init__.py").touch()
        (folder / "stranger" / "definitions.py").write_text(DEFINITIONS)
        return cls(folder, instance, router)

    def folder_of(self, component: str) -> Path:
        """The folder of a component."""
        return self.folder / "stranger" / "defs" / component

    def add(self, name: str, *texts: str, extra: str = "") -> Path:
        """Add a component whose library has the documents `<text>.txt`. Returns its `defs.yaml`."""
        folder = self.folder_of(name)
        (folder / "library").mkdir(parents=True)
        for text in texts:
            (folder / "library" / f"{text}.txt").write_text(f"The {text} of {name} is due in March.")
        file = folder / "defs.yaml"
        file.write_text(
            "type: dagster_offload.OffloadPipeline\nattributes:\n"
            "  library: {path: ./library}\n  postgres_url: \"{{ env('LEDGER') }}\"\n"
            f"  home: {self.folder / 'home'}\n"
            f"  slots: {{deep: {{url: {self.router.url}, model: qwen-macbook}}}}\n{extra}"
        )
        return file

    def add_assets(self, code: str) -> None:
        """Add a module with assets of the stranger's own."""
        (self.folder / "stranger" / "defs" / "downstream.py").write_text(code)

    @property
    def defs(self) -> dg.Definitions:
        """The definitions, loaded anew if a file has changed since."""
        files = {file: file.read_text() for kind in ("*.py", "*.yaml") for file in self.folder.rglob(kind)}
        if self._loaded is None or self._loaded[0] != files:
            self._loaded = files, dg.load_from_defs_folder(path_within_project=self.folder / "stranger")
        return self._loaded[1]

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
        """Materialize an asset of the stranger's. Returns its metadata."""
        job = self.defs.resolve_implicit_global_asset_job_def()
        result = job.get_subset(asset_selection={dg.AssetKey(asset)}).execute_in_process(
            instance=self.instance, partition_key=partition
        )
        (event,) = result.asset_materializations_for_node(asset)
        return {name: value.value for name, value in event.metadata.items()}

    def dg(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command `dg` in the project's folder."""
        return subprocess.run(
            [str(Path(sys.executable).parent / "dg"), *arguments],
            cwd=self.folder,
            text=True,
            capture_output=True,
            check=False,
        )
