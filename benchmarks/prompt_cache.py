"""The real llama.cpp server reads each document once: its own counts of tokens, and the time that saves.

The other side is what scripts do: stage by stage over all documents, the instruction first, the document after it.
"""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.filling import add_extracted, analyze
from benchmarks.ground import ALIAS, Ground, Home
from benchmarks.judge import judged
from benchmarks.rows import Benchmark, Row, at_most
from dagster_offload.chat import request_body
from dagster_offload.ledger import Ledger
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages import llm_stages
from tests.router import real_server

DOCUMENTS = 12
CHARACTERS = 2_750  # some 2,500 tokens of a model that knows hardly a word
CONTEXT_TOKENS = 8_192


@dataclass(frozen=True)
class Server:
    url: str

    def tokens(self, text: str) -> int:
        answer = httpx.post(f"{self.url}/tokenize", json={"content": text}, timeout=60)
        return len(answer.raise_for_status().json()["tokens"])


@contextmanager
def server(ground: Ground, slots: int) -> Iterator[Server]:
    """The real server in front of a medium model of random weights, in a process of its own."""
    model = ground.cache() / "random-medium.gguf"
    if not model.exists():
        ground.tell(f"making {model}")
        real_server.make_model(model, real_server.MEDIUM)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    options = ["--slots", str(slots), "--ctx", str(slots * CONTEXT_TOKENS)]
    command = [sys.executable, str(Path(real_server.__file__)), str(model), str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("listening"):
            assert process.poll() is None, "the real server does not start"
        yield Server(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class Side:
    """What one way of asking cost."""

    tokens_read: int
    seconds: float


def read_once(ground: Ground) -> Iterator[Row]:
    for width in (1, 4):
        with server(ground, width) as real, ground.home() as (home, ledger):
            given = home.settings.model_dump(exclude_defaults=True)
            with judged(real.url) as (url, judge):
                settings = load_settings(**given, deep_url=url, deep_model=ALIAS, deep_concurrency=width)
                add_extracted(ledger, settings, DOCUMENTS, characters=CHARACTERS)
                analyze(ledger)
                _drain(Home(home.folder, settings), ledger)
                ours = Side(judge.tokens_read, judge.seconds)
            texts = _texts(ledger)
            once = sum(real.tokens(text) for text in texts)
            with judged(real.url) as (url, judge):
                asyncio.run(_stage_by_stage(url, settings, texts, width))
                theirs = Side(judge.tokens_read, judge.seconds)
        ground.tell(f"{width} in flight: {ours}, stage by stage {theirs}, documents {once} tokens")
        raw: dict[str, Any] = {
            "documents": DOCUMENTS,
            "document_tokens_once": once,
            "drain_tokens_read": ours.tokens_read,
            "drain_seconds": ours.seconds,
            "stage_by_stage_tokens_read": theirs.tokens_read,
            "stage_by_stage_seconds": theirs.seconds,
        }
        in_flight = f"real server, {width} in flight"
        beside = f"(stage by stage {theirs.tokens_read / once:.2f})"
        yield Row(f"tokens read / documents once, {in_flight} {beside}", at_most(1.1), ours.tokens_read / once, raw)
        yield Row(f"time against stage by stage, {in_flight}", at_most(0.65), ours.seconds / theirs.seconds, {})


def _texts(ledger: Ledger) -> list[str]:
    with ledger.transaction() as cur:
        return [row["text"] for row in cur.execute("select text from results where stage = 'extract' order by 1")]


def _drain(home: Home, ledger: Ledger) -> None:
    home.run("drain", "--json")
    with ledger.transaction() as cur:
        cur.execute("select count(*) as n from work_items where stage <> 'extract' and state = 'done'")
        done = cur.fetchall()[0]["n"]
    assert done == 2 * DOCUMENTS, f"only {done} items done"


async def _stage_by_stage(url: str, settings: Settings, texts: list[str], width: int) -> None:
    deep = settings.slots.deep
    assert deep is not None
    async with httpx.AsyncClient(timeout=900) as http:
        for stage in llm_stages(settings).values():
            bodies = iter([request_body(deep, text, stage.instruction, stage.options) for text in texts])
            await asyncio.gather(*(_lane(http, url, bodies) for _ in range(width)))


async def _lane(http: httpx.AsyncClient, url: str, bodies: Iterator[dict[str, Any]]) -> None:
    for body in bodies:
        (await http.post(f"{url}/v1/chat/completions", json=body)).raise_for_status()


BENCHMARKS = (Benchmark("prompt-cache", read_once),)
