"""A proxy between a client and the real server. It counts the tokens that the server reports, and times the calls.

A model of random weights writes noise of any length, and each token costs a search of the vocabulary for one that fits
the schema. A real model does not need this. So the proxy removes the schema, lets the server write exactly
`ANSWER_TOKENS`, and returns `RECORD` instead. It does the same for both sides.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dagster_offload.simulator.server import listen, make_server

# A small real model (tests/real_model) wrote 149 tokens per document of the sample library in two answers (median of 25).
ANSWER_TOKENS = 75
# Both stages accept it, because they ignore other keys.
RECORD = {
    "category": "letter",
    "confidence": 90,
    "language": "en",
    "title": "A letter",
    "summary": "It holds many sentences.",
    "key_points": [],
}


@dataclass(frozen=True)
class Call:
    """The figures of one answer, as the server reports them."""

    read_tokens: int
    cached_tokens: int
    written_tokens: int
    read_ms: float
    written_ms: float


class CountingProxy:
    """The proxy and the calls it has passed on so far."""

    def __init__(self, server: str) -> None:
        self.calls: list[Call] = []
        self.began: float | None = None
        self.ended = 0.0
        self.http = httpx.AsyncClient(base_url=server, timeout=900)
        self.asgi = Starlette(
            routes=[
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
                Route("/{path:path}", self.pass_on, methods=["GET", "POST"]),
            ]
        )

    @property
    def seconds(self) -> float:
        """The seconds from the first request to the last answer."""
        return 0.0 if self.began is None else self.ended - self.began

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        has_schema = body.pop("response_format", None) is not None
        if has_schema:
            body |= {"max_tokens": ANSWER_TOKENS, "ignore_eos": True}
        self.began = self.began or time.perf_counter()
        answer = await self.http.post("/v1/chat/completions", json=body)
        self.ended = time.perf_counter()
        completion = answer.json()
        if answer.is_success:
            self.calls.append(_figures(completion["timings"]))
            if has_schema:
                _put_record(completion["choices"][0])
        return Response(json.dumps(completion), answer.status_code, media_type="application/json")

    async def pass_on(self, request: Request) -> Response:
        answer = await self.http.request(request.method, request.url.path, content=await request.body())
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


def _figures(timings: dict[str, Any]) -> Call:
    return Call(
        timings["prompt_n"], timings["cache_n"], timings["predicted_n"], timings["prompt_ms"], timings["predicted_ms"]
    )


def _put_record(choice: dict[str, Any]) -> None:
    choice["message"] = {"role": "assistant", "content": json.dumps(RECORD)}
    choice["finish_reason"] = "stop"


@contextmanager
def counting_proxy(server: str) -> Iterator[tuple[str, CountingProxy]]:
    """Start a proxy in front of `server`; yields its URL and the proxy."""
    proxy = CountingProxy(server)
    listening = listen("127.0.0.1", 0)
    serving = make_server(proxy)  # type: ignore[arg-type]

    async def serve() -> None:
        async with proxy.http:
            await serving.serve([listening])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="proxy")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", proxy
    finally:
        serving.should_exit = serving.force_exit = True
        thread.join()
