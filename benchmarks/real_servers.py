"""`make real-servers`: a drain with each real server that can be installed here, in a table.

The servers are in a venv of their own in the benchmarks' cache: llama.cpp (in a wheel, with a small model of random weights)
and LiteLLM in front of it, with 28 aliases. Each row is a fresh home, a library of generated letters, and the product's
commands. The model's answers are noise that fits the schema, so only `classify` runs.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.workspace import ALIAS, Home, Workspace
from dagster_offload.cli.quick_probe import quick_probe
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.slot.config import DEEP, SlotConfig

ROOT = Path(__file__).parents[1]
LLAMA_SERVER = ROOT / "tests/support/llama_server.py"
REQUIREMENTS = (
    "xllamacpp==2026.10.11549",
    "gguf==0.19.0",
    "tokenizers==0.23.3",
    "numpy==2.4.6",
    "litellm[proxy]==1.108.0",
)
ALIASES = 28
DOCUMENTS = 6
CONTEXT_TOKENS = 8_192
PROBES_A_MINUTE = 12
START_SECONDS = 120.0


@dataclass(frozen=True)
class Server:
    """A running server: its name, its URL, and the slot's other settings."""

    name: str
    url: str
    model: str = ALIAS
    api_key: str | None = None
    upstream_completions: Callable[[], int] | None = None  # if the server passes completions on


def venv_python(workspace: Workspace) -> Path:
    """The interpreter of the venv with the servers. The first call installs them, which takes some minutes."""
    venv = workspace.cache() / "real-servers"
    python, made = venv / "bin" / "python", venv / "made"
    if not made.exists() or made.read_text() != "\n".join(REQUIREMENTS):
        workspace.report(f"installing {', '.join(REQUIREMENTS)} into {venv}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
        subprocess.run(pip, check=True)
        made.write_text("\n".join(REQUIREMENTS))
    return python


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@contextmanager
def process(log: Path, url: str, command: list[str], environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server until the end of the block. Returns when it answers HTTP. Raises `RuntimeError` with the end of its log."""
    with log.open("w") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=log.parent)
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    httpx.get(url, timeout=5)
                    break
                except httpx.HTTPError:
                    if running.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"{command[1]} did not start: {log.read_text()[-1_000:]}") from None
                    time.sleep(0.2)
            yield
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


@contextmanager
def llama_cpp(workspace: Workspace, python: Path, api_key: str | None = None) -> Iterator[Server]:
    """llama.cpp's HTTP server with a model of random weights."""
    with workspace.folder() as folder:
        make = "import sys; sys.path.insert(0, sys.argv[1]); import llama_server, pathlib; "
        make += "llama_server.make_model(pathlib.Path(sys.argv[2]))"
        model = folder / "random-qwen3.gguf"
        subprocess.run([str(python), "-c", make, str(LLAMA_SERVER.parent), str(model)], check=True)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [
            str(python),
            str(LLAMA_SERVER),
            str(model),
            str(port),
            "--ctx",
            str(2 * CONTEXT_TOKENS),
            "--slots",
            "2",
        ]
        command += ["--api-key", api_key] if api_key else []
        with process(folder / "llama.log", f"{url}/health", command):
            yield Server("llama.cpp", url, api_key=api_key)


@contextmanager
def lite_llm(workspace: Workspace, python: Path, upstream: Server) -> Iterator[Server]:
    """A LiteLLM proxy with 28 aliases of `upstream` and a master key."""
    key = f"sk-{secrets.token_hex(8)}"
    names = [ALIAS, *(f"alias-{n}" for n in range(1, ALIASES))]
    parameters = {"model": "openai/random", "api_base": f"{upstream.url}/v1", "api_key": upstream.api_key or "none"}
    config = {"model_list": [{"model_name": name, "litellm_params": parameters} for name in names]}
    with workspace.folder() as folder:
        (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [str(python.parent / "litellm"), "--config", str(folder / "config.yaml")]
        command += ["--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")}
        environment = kept | {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        with process(folder / "litellm.log", f"{url}/health/liveliness", command, environment):
            yield Server("LiteLLM before llama.cpp", url, api_key=key, upstream_completions=_counter(upstream))


def _counter(server: Server) -> Callable[[], int]:
    """Counts the tokens that llama.cpp has written since its start: each completion writes at least one."""

    def count() -> int:
        headers = {"authorization": f"Bearer {server.api_key}"} if server.api_key else {}
        for line in httpx.get(f"{server.url}/metrics", headers=headers, timeout=10).text.splitlines():
            if line.startswith("llamacpp:tokens_predicted_total"):
                return int(float(line.split()[-1]))
        raise RuntimeError("llama.cpp reports no metrics")

    return count


def letters(folder: Path) -> None:
    for n in range(DOCUMENTS):
        lines = [f"Dear Ms Lovelace, item {line} of letter {n} costs {17 * line + n} euros.\n" for line in range(12)]
        (folder / f"letter-{n}.txt").write_text("".join(lines))


@dataclass(frozen=True)
class Outcome:
    """A row of the table."""

    server: str
    done: str
    calls: int
    health: str
    advice: str
    in_a_minute: str


def run(workspace: Workspace, server: Server) -> Outcome:
    """Check a server with `doctor`, scan a library, and drain it."""
    key = server.api_key or ""
    # The noise between the parts of an answer is long.
    slot = {"deep_url": server.url, "deep_model": server.model, "deep_extra_body": '{"max_tokens": 800}'}
    with workspace.home(None, **slot, deep_api_key=key) as (home, ledger):
        letters(home.folder / "library")
        doctor = _command(home, "doctor")
        _command(home, "scan")
        drained = _command(home, "drain", "classify")
        calls = _count_calls(ledger)
    checks = {check["name"]: check["found"] for check in doctor["checks"]}
    outcome = Outcome(
        server=server.name,
        done=f"{drained.get('done')} of {DOCUMENTS}" + (f": {drained['reason']}" if drained.get("reason") else ""),
        calls=calls,
        health=checks.get("health", checks.get("connects", "")),
        advice=str(doctor.get("advice") or "nothing to change"),
        in_a_minute=str(_completions_in_a_minute(server)),
    )
    workspace.report(str(outcome))
    return outcome


def _command(home: Home, *arguments: str) -> dict[str, Any]:
    return home.run(*arguments, "--json")


def _count_calls(ledger: Ledger) -> int:
    with ledger.transaction() as cur:
        (row,) = cur.execute("select count(*) as n from calls where document_id is not null").fetchall()
    return int(row["n"])


def _completions_in_a_minute(server: Server) -> object:
    """How many completions of its upstream the probes of a minute cost, and one request of `/health` for comparison."""
    if server.upstream_completions is None:
        return "-"
    slot = SlotConfig(DEEP, server.url, server.model, api_key=server.api_key)
    before = server.upstream_completions()
    for _ in range(PROBES_A_MINUTE):
        assert quick_probe(slot).healthy
    ours = server.upstream_completions() - before
    headers = {"authorization": f"Bearer {server.api_key}"}
    httpx.get(f"{server.url}/health", headers=headers, timeout=300)
    theirs = server.upstream_completions() - before - ours
    return f"{ours} tokens for {PROBES_A_MINUTE} probes ({theirs} for one /health)"


def main() -> None:
    """Run each server and print the table."""
    with Workspace() as workspace, ExitStack() as stack:
        python = venv_python(workspace)
        llama = stack.enter_context(llama_cpp(workspace, python))
        outcomes = [run(workspace, llama)]
        keyed = stack.enter_context(llama_cpp(workspace, python, api_key="k3y"))
        outcomes.append(run(workspace, Server("llama.cpp, a wrong key", keyed.url, api_key="wrong")))
        proxy = stack.enter_context(lite_llm(workspace, python, llama))
        outcomes.append(run(workspace, proxy))
        outcomes.append(run(workspace, Server("LiteLLM, a wrong key", proxy.url, api_key="sk-wrong")))
        outcomes.append(run(workspace, Server("LiteLLM, no key", proxy.url)))
        outcomes.append(run(workspace, Server("LiteLLM, an unknown alias", proxy.url, "qwen", proxy.api_key)))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("server", "done", "calls", "doctor: health", "doctor: last line", "upstream in a minute"):
        table.add_column(column, overflow="fold")
    for row in outcomes:
        table.add_row(row.server, row.done, str(row.calls), row.health, row.advice, row.in_a_minute)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
