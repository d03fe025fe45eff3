"""The command blocks of README and docs, run as they are written: one home per page, its blocks in order.

The pages name a library, a router and a disk. In the test, they are a folder of sample documents, the stand-in router and a
temporary folder.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dagster_offload.simulator import Router
from tests.support.acceptance import wait_for
from tests.support.doc_blocks import ROOT, Block, blocks_of, runnable
from tests.support.forked_commands import write_program
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import hold_port, port_of
from tests.support.short_folders import make_short_folder, stop_servers_below

pytestmark = pytest.mark.slow

# What a page needs before its first block. `new`: a folder of documents. `drained`: a home with records. `project`: a dg project.
SETUPS = {
    "README.md": "new",
    "docs/first-hour.md": "new",
    "docs/the-slot.md": "new",
    "docs/troubleshooting.md": "drained",
    "docs/remote-ui.md": "drained",
    "docs/terminal.md": "drained",
    "docs/pipeline-file.md": "drained",
    "docs/backup.md": "drained",
    "docs/own-stages.md": "drained",
    "docs/records.md": "drained",
    "docs/running-for-years.md": "drained",
    "docs/in-your-project.md": "project",
}
SAMPLES = ROOT / "fixtures" / "library"
DOCUMENTS = {
    "letters/landlord.txt": SAMPLES / "office" / "letter-to-the-landlord.txt",
    "letters/rent.pdf": SAMPLES / "finance" / "invoice-2024-0317.pdf",
    "office/minutes.md": SAMPLES / "office" / "allotment-committee-minutes.md",
}
PIPELINE = """\
library: {path: ~/Documents}
slots: {deep: {url: "%s", model: qwen-macbook}}
ocr: off
stages:
  payment:
    prompt: What must be paid, to whom, and by when?
    answer: {payee: string, amount: number, due: date}
"""


class Shell:
    """A person's shell in a home of the test."""

    def __init__(self, folder: Path, router: Router) -> None:
        # A socket's path may have about 100 bytes, and root's Postgres runs as another user.
        folder.chmod(0o711)
        self.folder, self.router = folder, router
        self.home = folder / ".local" / "share" / "dagster-offload"
        self._held = hold_port()
        self.port = port_of(self._held)
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "SHELL": "/bin/bash",
            "OFFLOAD_HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(Path(sys.executable).parent.parent),
        }

    def put_documents(self) -> None:
        for name, source in DOCUMENTS.items():
            target = self.folder / "Documents" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        shutil.copy(DOCUMENTS["letters/rent.pdf"], self.folder / "invoice.pdf")
        (self.folder / "new.txt").write_text("Who must be paid, and how much?")

    def drain(self) -> None:
        """Make a home whose documents are all done, and stop its Postgres."""
        self.home.mkdir(parents=True, mode=0o700)
        self._write_pipeline()
        self.run_script("dagster-offload scan && dagster-offload drain && dagster-offload stop", "the setup")

    def copy_from(self, drained: "Shell") -> None:
        """Take over the documents and the home of another shell, which is stopped."""
        subprocess.run(["cp", "-a", f"{drained.folder}/.", self.folder], check=True)
        (self.home / "postgres" / "place.json").unlink()  # confirms that the copy may be used
        self._write_pipeline()

    def _write_pipeline(self) -> None:
        (self.home / "offload.yaml").write_text(PIPELINE % self.router.url)
        (self.home / "offload.yaml").chmod(0o600)

    def fork_commands(self) -> None:
        """Let `dagster-offload` be forked from a process that has imported what it needs."""
        programs = self.folder / ".programs"
        programs.mkdir()
        write_program(programs)
        self.environment["PATH"] = f"{programs}{os.pathsep}{self.environment['PATH']}"

    def make_project(self) -> None:
        """What `dg init` makes, as far as components need it."""
        (self.folder / "my_project" / "defs").mkdir(parents=True)
        (self.folder / "my_project" / "__init__.py").touch()
        (self.folder / "my_project" / "definitions.py").write_text(
            "from pathlib import Path\n\nimport dagster as dg\n\n\n@dg.definitions\ndef defs() -> dg.Definitions:\n"
            "    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
        )
        (self.folder / "pyproject.toml").write_text(
            '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "my_project"\n'
        )
        self.environment |= {"PYTHONPATH": str(self.folder), "LEDGER_URL": "postgresql://x", "MACBOOK_KEY": "invented"}

    def run(self, block: Block) -> None:
        """Run one block. Fails with its output if a command fails."""
        script = block.text.replace("http://macbook.local:8890", self.router.url)
        script = script.replace("http://127.0.0.1:8890", self.router.url).replace("--port 8890", f"--port {self.port}")
        script = script.replace("/mnt/disk", str(self.folder))
        if block.until is None:
            self.run_script(script, block.place)
        else:
            self._run_until(script, block.until, block.place)

    def run_script(self, script: str, place: str) -> None:
        """Run these lines in bash, as a person who answers each question with yes."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            input="y\n" * 9,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{place} ended with {done.returncode}:\n{script}\n{done.stdout}"

    def _run_until(self, script: str, until: str, place: str) -> None:
        output = self.folder / "output"
        with output.open("w") as said:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(lambda: process.poll() is not None or until in output.read_text(), f"{place}: {until}")
            ended = process.poll()
            assert ended is None, f"{place} ended with {ended}:\n{script}\n{output.read_text()}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(PATIENCE_SECONDS)
        assert "Traceback" not in output.read_text(), output.read_text()

    def end(self) -> None:
        """Stop every Postgres that the page started, and give back the port."""
        stop_servers_below(self.folder)
        self._held.close()


@contextmanager
def a_shell(router: Router) -> Iterator[Shell]:
    folder = make_short_folder()
    shell = Shell(folder, router)
    try:
        yield shell
    finally:
        shell.end()
        shutil.rmtree(folder)


@pytest.fixture
def shell(router: Router) -> Iterator[Shell]:
    with a_shell(router) as shell:
        yield shell


@pytest.fixture(scope="module")
def drained() -> Iterator[Shell]:
    """A home whose documents are all done, to be copied: one drain for all pages."""
    with Router() as router, a_shell(router) as shell:
        shell.put_documents()
        shell.drain()
        yield shell


@pytest.mark.parametrize("page", SETUPS)
def test_the_commands_of_a_page_work(page: str, shell: Shell, request: pytest.FixtureRequest) -> None:
    blocks = runnable(ROOT / page)
    match SETUPS[page]:
        case "project":
            shell.make_project()
        case "drained":
            shell.copy_from(request.getfixturevalue("drained"))
            if all(block.until is None for block in blocks):  # Ctrl-C reaches only what the shell has started
                shell.fork_commands()
        case _:
            shell.put_documents()
    for block in blocks:
        shell.run(block)


def test_the_examples_of_the_component_page_load(shell: Shell) -> None:
    shell.make_project()
    blocks = blocks_of(ROOT / "docs" / "in-your-project.md")
    attributes, _of_a_run = [block.text for block in blocks if block.language == "yaml"]
    assets = next(block.text for block in blocks if block.language == "python")
    defs = shell.folder / "my_project" / "defs"
    (defs / "papers").mkdir()
    (defs / "papers" / "defs.yaml").write_text(attributes)
    (defs / "note.py").write_text(assets)
    shell.run_script("dg check yaml && dg check defs", "docs/in-your-project.md")
