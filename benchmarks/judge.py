"""A judge between a client and the real server: counts the tokens the server says it read, and times the calls.

A model of random weights fills a text of free length with noise that the server cannot always put into JSON (HTTP 500),
so texts are bounded by a pattern on the way. It does the same for both sides.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dagster_offload.simulator.server import listen, make_server

PLAIN_WORDS = "^[ !#-Z^-~]{20,60}$"


class Judge:
    """What passed so far: the server's own figures."""

    def __init__(self, server: str) -> None:
        self.tokens_read = 0
        self.began: float | None = None
        self.ended = 0.0
        self._http = httpx.AsyncClient(base_url=server, timeout=900)
        self.asgi = Starlette(
            routes=[
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
                Route("/{path:path}", self.hand_on, methods=["GET", "POST"]),
            ]
        )

    @property
    def seconds(self) -> float:
        return 0.0 if self.began is None else self.ended - self.began

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        _bound_texts(body.get("response_format"))
        self.began = self.began or time.perf_counter()
        answer = await self._http.post("/v1/chat/completions", json=body)
        self.ended = time.perf_counter()
        self.tokens_read += answer.json().get("timings", {}).get("prompt_n", 0)
        return Response(answer.content, answer.status_code, media_type="application/json")

    async def hand_on(self, request: Request) -> Response:
        answer = await self._http.request(request.method, request.url.path, content=await request.body())
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


def _bound_texts(schema: Any) -> None:
    """Give every string of a schema without a pattern or a list of values one; changes it in place."""
    if isinstance(schema, list):
        for part in schema:
            _bound_texts(part)
    elif isinstance(schema, dict):
        if schema.get("type") == "string" and not {"pattern", "enum"} & schema.keys():
            schema.pop("maxLength", None)
            schema.pop("minLength", None)
            schema["pattern"] = PLAIN_WORDS
        for part in schema.values():
            _bound_texts(part)


@contextmanager
def judged(server: str) -> Iterator[tuple[str, Judge]]:
    """The address to ask instead of `server`, and who counts there."""
    judge = Judge(server)
    listening = listen("127.0.0.1", 0)
    serving = make_server(judge)  # type: ignore[arg-type]
    thread = threading.Thread(target=serving.run, args=([listening],), name="judge")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", judge
    finally:
        serving.should_exit = serving.force_exit = True
        thread.join()
