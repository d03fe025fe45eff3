"""`make real-servers`: a drain with each real server that can be installed here, in a table.

Each row is a fresh home, a library of generated letters, and the product's commands. The models' answers are noise that
fits the schema, or always the same, so only `classify` runs. `make real-servers ARGS="mlx_lm"` runs one family.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.servers import Server, lite_llm, llama_cpp, llama_cpp_python, mlx_lm
from benchmarks.workspace import Home, Workspace
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.ledger.core.database import Ledger

DOCUMENTS = 6
SECONDS_BETWEEN_TICKS = 5.0

Family = Callable[[Workspace, ExitStack], Iterator[Server]]


def _llama_cpp(workspace: Workspace, running: ExitStack) -> Iterator[Server]:
    server = running.enter_context(llama_cpp(workspace))
    yield server
    keyed = running.enter_context(llama_cpp(workspace, "k3y"))
    yield replace(keyed, name="llama.cpp, a wrong key", api_key="wrong")
    proxy = running.enter_context(lite_llm(workspace, server))
    yield proxy
    yield replace(proxy, name="LiteLLM, a wrong key", api_key="sk-wrong", upstream=None)
    yield replace(proxy, name="LiteLLM, no key", api_key=None, upstream=None)
    yield replace(proxy, name="LiteLLM, an unknown alias", model="qwen", upstream=None)


def _mlx_lm(workspace: Workspace, running: ExitStack) -> Iterator[Server]:
    server = running.enter_context(mlx_lm(workspace))
    yield server
    yield replace(server, name="mlx_lm, the name of no model", model="qwen-macbook")
    yield running.enter_context(lite_llm(workspace, server))


def _llama_cpp_python(workspace: Workspace, running: ExitStack) -> Iterator[Server]:
    server = running.enter_context(llama_cpp_python(workspace))
    yield server
    keyed = running.enter_context(llama_cpp_python(workspace, "k3y"))
    yield replace(keyed, name="llama-cpp-python, a wrong key", api_key="wrong")
    yield running.enter_context(lite_llm(workspace, server))


FAMILIES: dict[str, Family] = {"llama.cpp": _llama_cpp, "mlx_lm": _mlx_lm, "llama-cpp-python": _llama_cpp_python}


@dataclass(frozen=True)
class Outcome:
    """A row of the table."""

    server: str
    done: str
    calls: str = "-"
    health: str = "-"
    advice: str = "-"
    in_a_minute: str = "-"


def run_family(workspace: Workspace, name: str) -> Iterator[Outcome]:
    """The rows of one family of servers. A server that cannot be installed or started is a row that says why."""
    with ExitStack() as running:
        try:
            for server in FAMILIES[name](workspace, running):
                yield run(workspace, server)
        except RuntimeError as error:
            yield Outcome(name, str(error))


def run(workspace: Workspace, server: Server) -> Outcome:
    """Check a server with `doctor`, scan a library, and drain it."""
    # The noise between the parts of an answer is long.
    slot = {"deep_url": server.url, "deep_model": server.model, "deep_extra_body": '{"max_tokens": 800}'}
    with workspace.home(None, **slot, deep_api_key=server.api_key or "") as (home, ledger):
        write_letters(home.folder / "library")
        doctor = _command(home, "doctor")
        _command(home, "scan")
        in_a_minute = _upstream_work_in_a_minute(server, home, ledger)
        drained = _command(home, "drain", "classify")
        calls = _count_calls(ledger)
    checks = {check["name"]: check["found"] for check in doctor["checks"]}
    outcome = Outcome(
        server=server.name,
        done=f"{drained.get('done')} of {DOCUMENTS}" + (f": {drained['reason']}" if drained.get("reason") else ""),
        calls=str(calls),
        health=checks.get("health", checks.get("connects", "")),
        advice=str(doctor.get("advice") or "nothing to change"),
        in_a_minute=in_a_minute,
    )
    workspace.report(str(outcome))
    return outcome


def write_letters(folder: Path) -> None:
    for n in range(DOCUMENTS):
        lines = [f"Dear Ms Lovelace, item {line} of letter {n} costs {17 * line + n} euros.\n" for line in range(12)]
        (folder / f"letter-{n}.txt").write_text("".join(lines))


def _command(home: Home, *arguments: str) -> dict[str, Any]:
    return home.run(*arguments, "--json")


def _count_calls(ledger: Ledger) -> int:
    with ledger.transaction() as cur:
        (row,) = cur.execute("select count(*) as n from calls where document_id is not null").fetchall()
    return int(row["n"])


def _upstream_work_in_a_minute(server: Server, home: Home, ledger: Ledger) -> str:
    """What a minute of waiting costs a proxy's upstream while documents are due, and one request of `/health`.

    The drain sensor is evaluated as often as the daemon does, and no drain is started.
    """
    upstream = server.upstream
    if upstream is None or upstream.work is None:
        return "-"
    before, ticks, end = upstream.work(), 0, time.monotonic() + 60
    while time.monotonic() < end:
        decision = decide_drain(home.settings, ledger)
        assert decision.launch, decision.message
        ticks += 1
        time.sleep(SECONDS_BETWEEN_TICKS)
    ours = upstream.work() - before
    httpx.get(f"{server.url}/health", headers={"authorization": f"Bearer {server.api_key}"}, timeout=300)
    theirs = upstream.work() - before - ours
    return f"{ours} {upstream.unit} in {ticks} ticks ({theirs} for one /health)"


def main() -> None:
    """Run the families that are named, or all, and print the table."""
    names = sys.argv[1:] or list(FAMILIES)
    if unknown := set(names) - set(FAMILIES):
        sys.exit(f"unknown: {', '.join(unknown)}. There are: {', '.join(FAMILIES)}")
    with Workspace() as workspace:
        outcomes = [outcome for name in names for outcome in run_family(workspace, name)]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("server", "done", "calls", "doctor: health", "doctor: last line", "upstream in a minute"):
        table.add_column(column, overflow="fold")
    for row in outcomes:
        table.add_row(row.server, row.done, row.calls, row.health, row.advice, row.in_a_minute)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
