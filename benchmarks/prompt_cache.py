"""The real llama.cpp server reads each document once: its own counts of tokens, and the time that saves.

The other side is what scripts do: stage by stage over all documents, the instruction first, the document after it.
"""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.filling import add_extracted, analyze
from benchmarks.ground import ALIAS, Ground
from benchmarks.rows import Benchmark, Row, at_most
from dagster_offload.chat import request_body
from dagster_offload.ledger import Ledger
from dagster_offload.settings import Settings
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
            settings = Settings(
                **home.settings.model_dump(exclude_defaults=True)
                | {"deep_url": real.url, "deep_model": ALIAS, "deep_concurrency": width}
            )
            add_extracted(ledger, settings, DOCUMENTS, characters=CHARACTERS)
            analyze(ledger)
            texts = _texts(ledger)
            once = sum(real.tokens(text) for text in texts)
            theirs = asyncio.run(_stage_by_stage(real, settings, texts, width))
            ours = _drain(type(home)(home.folder, settings), ledger)
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


def _drain(home: Any, ledger: Ledger) -> Side:
    """Through the product; from the first call's start to the last one's end, second questions included."""
    home.run("drain", "--json")
    with ledger.transaction() as cur:
        cur.execute(
            "select sum(tokens_in - coalesce(tokens_cached, 0)) as read, "
            "extract(epoch from max(ended_at) - min(ended_at - make_interval(secs => seconds))) as seconds, "
            "(select count(*) from work_items where stage <> 'extract' and state = 'done') as done "
            "from calls where item_id is not null"
        )
        row = cur.fetchone()
    assert row is not None
    assert row["done"] == 2 * DOCUMENTS, f"only {row['done']} items done"
    return Side(int(row["read"]), float(row["seconds"]))


async def _stage_by_stage(real: Server, settings: Settings, texts: list[str], width: int) -> Side:
    deep = settings.slots.deep
    assert deep is not None
    read, began = 0, time.perf_counter()
    async with httpx.AsyncClient(timeout=900) as http:
        for stage in llm_stages(settings).values():
            waiting = iter(texts)

            async def lane(body_of: Any, waiting: Iterator[str]) -> int:
                tokens = 0
                for text in waiting:
                    answer = await http.post(f"{real.url}/v1/chat/completions", json=body_of(text))
                    usage = answer.raise_for_status().json()["usage"]
                    tokens += usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
                return tokens

            def body_of(text: str, stage: Any = stage) -> dict[str, Any]:
                return request_body(deep, text, stage.instruction, stage.options)

            read += sum(await asyncio.gather(*(lane(body_of, waiting) for _ in range(width))))
    return Side(read, time.perf_counter() - began)


BENCHMARKS = (Benchmark("prompt-cache", read_once),)
