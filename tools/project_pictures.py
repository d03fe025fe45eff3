"""Takes the pictures of the component in a project of a stranger: scaffolded as docs/in-your-project.md says, run by `dg dev`.

`make pictures` runs it after the other pictures; by itself: python -m tools.project_pictures [FOLDER]
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from dagster_offload.postgres import stop_postgres
from dagster_offload.simulator import Router
from tests.support.acceptance import wait_for
from tests.support.browser import browser
from tests.support.doc_blocks import ROOT, blocks_of
from tools.pictures import LIBRARY, Camera

PAGE = ROOT / "docs" / "in-your-project.md"
DEFINITIONS = """\
from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
PYPROJECT = '[project]\nname = "my-project"\nversion = "0.1.0"\n[tool.dg]\ndirectory_type = "project"\n' + (
    '[tool.dg.project]\nroot_module = "my_project"\n'
)
# The page of all assets shows only closed groups.
LINEAGE = "/assets/papers/extracted_text?view=lineage&lineageScope=downstream&lineageDepth=2"
COMPONENT = "/locations/my-project/docs/packages/dagster_offload/dagster_offload.OffloadPipeline"
DONE = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
    ... on AssetNode { partitionStats { numMaterialized numPartitions } } } }"""


def make_project(folder: Path, environment: Mapping[str, str], router: Router) -> None:
    """What `create-dagster project` makes, with the component and the assets of docs/in-your-project.md."""
    defs = folder / "my_project" / "defs"
    defs.mkdir(parents=True)
    (folder / "my_project" / "__init__.py").touch()
    (folder / "my_project" / "definitions.py").write_text(DEFINITIONS)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    scaffold = ("dg", "scaffold", "defs", "dagster_offload.OffloadPipeline", "papers")
    subprocess.run(scaffold, cwd=folder, env=environment, check=True)
    file = defs / "papers" / "defs.yaml"
    text = file.read_text()
    for written, wanted in (
        (" path: ", f" path: {folder / 'papers'} "),
        (" url: ", f" url: {router.url} "),
        (" model: ", " model: qwen-macbook "),
        ("# home: /srv/papers", f"home: {folder / 'home'}"),
    ):
        assert written in text, written
        text = text.replace(written, wanted)
    file.write_text(text)
    shutil.copytree(LIBRARY, folder / "papers")
    (defs / "notes.py").write_text(next(block.text for block in blocks_of(PAGE) if block.language == "python"))


@contextmanager
def dagster_of(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """`dg dev` in the project; the address of its UI."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            ("dg", "dev", "--port", address.rpartition(":")[2]),
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: process.poll() is not None or _answers(address), "the UI")
        assert process.poll() is None, (folder / "said").read_text()
        yield address
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:  # a job in the background of a shell ignores SIGINT, and so do its children
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/server_info", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def ask(address: str, query: str, **variables: Any) -> Any:
    """The data of a GraphQL query."""
    answer = httpx.post(
        f"{address}/graphql", json={"query": query, "variables": variables}, trust_env=False, timeout=60
    )
    return answer.json()["data"]


def is_done(address: str, asset: str) -> bool:
    """Whether all partitions of an asset of `papers` but the broken file's are materialized."""
    found = ask(address, DONE, key={"path": ["papers", asset]})["assetNodeOrError"]["partitionStats"]
    return bool(found["numPartitions"]) and found["numMaterialized"] >= found["numPartitions"] - 1


def main(pictures: Path) -> None:
    above = Path(tempfile.mkdtemp(prefix="offload-")).resolve()
    above.chmod(0o711)  # root's Postgres runs as another user
    folder = above / "my-project"  # the name of the code location
    (folder / "dagster").mkdir(parents=True)
    # Without them, a dialog of Dagster's hides the page.
    (folder / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(Path(sys.executable).parent.parent),
        "PYTHONPATH": str(folder),
        "DAGSTER_HOME": str(folder / "dagster"),
    }
    try:
        with Router() as router:
            make_project(folder, environment, router)
            with dagster_of(folder, environment) as address, browser() as page:
                wait_for(lambda: is_done(address, "summary"), "the records")
                camera = Camera(page, address, pictures)
                camera.take("project-lineage", LINEAGE, "note")
                camera.take("project-component", COMPONENT, "Scaffolding")
    finally:
        stop_postgres(folder / "home")
        shutil.rmtree(above)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "pictures")
    main(parser.parse_args().folder)
