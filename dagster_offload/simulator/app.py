"""The stand-in router's HTTP interface: OpenAI-compatible paths that follow or break the protocol as `Behaviour` sets.

The admin paths (`/admin/state`, `/admin/log`, `/admin/wait`) always work, whatever behaviour is set.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dagster_offload.simulator import context
from dagster_offload.simulator.answers import document_in, passage_kind, stage_of
from dagster_offload.simulator.connections import BrokenAnswer
from dagster_offload.simulator.prompt_cache import PromptCaches
from dagster_offload.simulator.replies import LIMITS, problem_of, reply_to, requested_schema, token_limit
from dagster_offload.simulator.request_log import COMPLETIONS, Entry, RequestLog, count_tokens, fingerprint
from dagster_offload.simulator.script import ROUTER_REASONS, Behaviour, Script, Step


class RouterApp:
    """The router's state and request handlers. All run in one event loop, so plain attributes need no locks."""

    def __init__(self, behaviour: Behaviour, steps: Sequence[Step] = ()) -> None:
        self.behaviour = behaviour
        self.request_log = RequestLog()
        self._origin = time.monotonic()
        self._script = Script(steps, self._now())
        self.enter_new_loop()
        self.asgi = Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/props", self.props),
                Route("/health", self.health),
                Route(COMPLETIONS, self.completions, methods=["POST"]),
                Route("/admin/state", self.state, methods=["GET", "POST"]),
                Route("/admin/log", self.log),
                Route("/admin/wait", self.wait, methods=["POST"]),
            ]
        )

    def enter_new_loop(self) -> None:
        """Reset the state that a restart loses, including prompt caches. Log and behaviour are kept."""
        self._changed = asyncio.Condition()
        self._caches = PromptCaches()

    # Paths for clients of the router

    async def health(self, request: Request) -> Response:
        """`GET /health`."""
        await self._follow_script()
        entry = self.request_log.begin("/health", self._now())
        behaviour = self.behaviour
        if behaviour.health == "hang":
            return await self._hang(request, entry)
        if behaviour.health == "missing":
            response: Response = JSONResponse({"detail": "Not Found"}, status_code=404)
        elif behaviour.is_healthy:
            response = JSONResponse({"status": "ok"})
        else:
            reason = ROUTER_REASONS.get(behaviour.mode, "upstream_cold")
            response = JSONResponse({"status": reason}, status_code=503, headers=self._refusal_headers())
        self.request_log.end(entry, self._now(), response.status_code, "answered")
        return response

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        await self._follow_script()
        entry = self.request_log.begin("/v1/models", self._now())
        model = {
            "id": self.behaviour.alias,
            "object": "model",
            "owned_by": "simulated",
            **context.reported(self.behaviour),
        }
        response = self._refusal_of_key(request) or JSONResponse({"object": "list", "data": [model]})
        self.request_log.end(entry, self._now(), response.status_code, "answered")
        return response

    async def props(self, request: Request) -> Response:
        """`GET /props`: the prompt cache size, as llama.cpp's server reports it."""
        await self._follow_script()
        if self.behaviour.mode == "hang":
            return await self._hang(request, self.request_log.begin("/props", self._now()))
        if not self.behaviour.tells_cache_size:
            return JSONResponse({"detail": "Not Found"}, status_code=404)
        return self._refusal_of_key(request) or JSONResponse({"total_slots": self.behaviour.concurrency})

    async def completions(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        try:
            body = await request.json()
            problem = problem_of(body)
        except ValueError:
            body, problem = {}, "the body is not JSON"
        await self._follow_script()
        entry = self.request_log.begin(COMPLETIONS, self._now())
        try:
            if problem is None:
                self._describe(entry, body)
                await self._notify_waiting()
                response, outcome = await self._complete(request, entry, body)
            else:
                response, outcome = _error(400, problem, "invalid_request_error", {}), "refused"
        except BaseException:  # also the end of the client's connection
            self.request_log.end(entry, self._now(), None, "left")
            raise
        is_answered = not isinstance(response, BrokenAnswer)
        self.request_log.end(entry, self._now(), response.status_code if is_answered else None, outcome)
        await self._notify_waiting()
        return response

    async def _complete(self, request: Request, entry: Entry, body: dict[str, Any]) -> tuple[Response, str]:
        refusal = self._refusal_of_key(request) or self._refusal(body)
        if refusal is not None:
            return refusal, "refused"
        if self.behaviour.mode == "hang":
            return await self._hang(request, entry), "left"
        prompt = _rendered(body["messages"])
        too_long = context.refusal(self.behaviour, count_tokens(prompt), token_limit(body, 0))
        if too_long is not None:
            return JSONResponse({"error": too_long[1]}, status_code=too_long[0]), "refused"
        async with self._prompt_cache(prompt) as cached_characters:
            entry.prompt_tokens = count_tokens(prompt)
            # A server always reads the last token, because the answer is generated from it.
            entry.cached_tokens = min(count_tokens(prompt[:cached_characters]), entry.prompt_tokens - 1)
            entry.document_tokens_read = _document_tokens_read(body["messages"], prompt, cached_characters)
            await self._work(entry)
        behaviour = self.behaviour  # may have changed since: a slot can become unavailable during generation
        if behaviour.mode == "hang":
            return await self._hang(request, entry), "left"
        content = self._answer(body, entry)
        if behaviour.mode in {"cut", "cold", "warming"} or self._is_always_cut(body):
            return _cut(behaviour.cut, content), "cut"
        return Response(content, media_type="application/json", headers=behaviour.headers), "answered"

    async def _work(self, entry: Entry) -> None:
        seconds = self.behaviour.latency
        if self.behaviour.read_tokens_per_second:
            seconds += (entry.prompt_tokens - entry.cached_tokens) / self.behaviour.read_tokens_per_second
        await asyncio.sleep(seconds)
        async with self._changed:
            await self._changed.wait_for(lambda: not self.behaviour.hold)

    @asynccontextmanager
    async def _prompt_cache(self, prompt: str) -> AsyncIterator[int]:
        """Hold a prompt cache for `prompt`, waiting until one is idle. Yields how many characters it already holds."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._caches.has_idle(self.behaviour.concurrency))
            cache, cached_characters = self._caches.take(prompt, self.behaviour.concurrency)
        try:
            yield cached_characters
        finally:
            self._caches.release(cache, self.behaviour.concurrency)
            await self._notify_waiting()

    async def _hang(self, request: Request, entry: Entry) -> Response:
        """Send no answer until the client disconnects, like a frozen process whose kernel keeps the connection open."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        if entry.path != COMPLETIONS:
            self.request_log.end(entry, self._now(), None, "left")
        return Response(status_code=499)

    def _refusal_of_key(self, request: Request) -> Response | None:
        key = self.behaviour.api_key
        if key is None or request.headers.get("authorization") == f"Bearer {key}":
            return None
        return _error(401, "Invalid API Key", "authentication_error", {})

    def _refusal(self, body: dict[str, Any]) -> Response | None:
        behaviour = self.behaviour
        if behaviour.refuses_above is not None and self.request_log.open > behaviour.refuses_above:
            return _error(429, "too many completions are open", "rate_limit_exceeded", self._refusal_headers())
        if behaviour.mode in ROUTER_REASONS:
            reason = ROUTER_REASONS[behaviour.mode]
            return _error(503, f"the slot is not available: {reason}", reason, self._refusal_headers())
        if behaviour.mode == "refuse":
            headers = self._refusal_headers()
            if 300 <= behaviour.status < 400:
                headers["location"] = behaviour.redirect_to
            return _error(behaviour.status, "refused by script", "simulated_refusal", headers)
        if not behaviour.system_role and any(message.get("role") == "system" for message in body["messages"]):
            return _error(400, "System role not supported", "invalid_request_error", {})
        for part in behaviour.refuses:
            if part in body:
                return _error(400, f"unknown parameter: {part}", "invalid_request_error", {})
        form = (body.get("response_format") or {}).get("type")
        refused = {"refused": {"json_schema", "json_object"}, "json_object_only": {"json_schema"}}
        if form in refused.get(behaviour.response_format, set()):
            return _error(400, "This response_format type is unavailable now", "invalid_request_error", {})
        return None

    def _refusal_headers(self) -> dict[str, str]:
        return {} if self.behaviour.retry_after is None else {"retry-after": self.behaviour.retry_after}

    def _is_always_cut(self, body: dict[str, Any]) -> bool:
        document = document_in(body["messages"])
        if document is None:
            return False
        return any(mark in document or mark == fingerprint(document) for mark in self.behaviour.cut_documents)

    def _answer(self, body: dict[str, Any], entry: Entry) -> bytes:
        behaviour = self.behaviour
        message, finish_reason = reply_to(body, behaviour)
        fitting = context.cut_to(behaviour, entry.prompt_tokens)
        if fitting is not None:
            entry.prompt_tokens = fitting
            if behaviour.too_long == "cut_answer":
                message["content"], finish_reason = (message["content"] or "")[: 4 * context.ROOM_LEFT], "length"
            elif behaviour.too_long == "empty":
                message = {"role": "assistant", "content": ""}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        if behaviour.answers == "no_message":
            del choice["message"]
        tokens = count_tokens((message["content"] or "") + message.get("reasoning_content", ""))
        if behaviour.answers == "stops_at_limit":
            tokens = token_limit(body)
        completion = {
            "id": f"chatcmpl-simulated-{entry.number}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.get("model") if behaviour.model == "echo" else behaviour.model,
            "choices": [] if behaviour.answers == "no_choices" else [choice],
            "usage": {
                "prompt_tokens": entry.prompt_tokens,
                "completion_tokens": tokens,
                "total_tokens": entry.prompt_tokens + tokens,
                "prompt_tokens_details": {"cached_tokens": entry.cached_tokens},
            },
        }
        if completion["model"] is None:
            del completion["model"]
        return json.dumps(completion, ensure_ascii=False).encode()

    def _describe(self, entry: Entry, body: dict[str, Any]) -> None:
        document = document_in(body["messages"])
        if document is not None:
            entry.document = fingerprint(document)
            entry.document_tokens = count_tokens(document)
        entry.stage = stage_of(body["messages"], requested_schema(body))
        entry.asked_about = passage_kind(body["messages"])
        entry.model, entry.max_tokens = body.get("model"), token_limit(body, 0) or None
        entry.parts = tuple(sorted(body.keys() - {"model", "messages", *LIMITS, "stream"}))
        entry.response_format = (body.get("response_format") or {}).get("type")

    # Paths for tests and people

    async def state(self, request: Request) -> Response:
        """`GET /admin/state` returns the behaviour; `POST` changes the fields in its body (400 for a wrong one)."""
        await self._follow_script()
        if request.method == "POST":
            try:
                self.behaviour = self.behaviour.with_changes(await request.json())
            except (ValueError, TypeError) as error:
                return JSONResponse({"error": str(error)}, status_code=400)
            await self._notify_waiting()
        shown = {
            name: value for name, value in vars(self.behaviour).items() if name not in {"api_key", "cut_documents"}
        }
        return JSONResponse(shown)

    async def log(self, request: Request) -> Response:
        """`GET /admin/log`: see `RequestLog.summary`."""
        await self._follow_script()
        return JSONResponse(self.request_log.summary())

    async def wait(self, request: Request) -> Response:
        """`POST /admin/wait`: answers once `open`, `answers`, `refusals` reach the given numbers (409 after `timeout` s)."""
        wanted = await request.json()
        limit = wanted.pop("timeout", 10)

        def is_reached() -> bool:
            return all(getattr(self.request_log, name) >= number for name, number in wanted.items())

        try:
            async with asyncio.timeout(limit), self._changed:
                await self._changed.wait_for(is_reached)
        except TimeoutError:
            return JSONResponse({"error": f"not reached within {limit} s"}, status_code=409)
        return JSONResponse({name: getattr(self.request_log, name) for name in ("open", "answers", "refusals")})

    async def _follow_script(self) -> None:
        for changes in self._script.due_changes(self._now(), self.request_log.refusals, self.request_log.answers):
            self.behaviour = self.behaviour.with_changes(changes)
            await self._notify_waiting()

    async def _notify_waiting(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _now(self) -> float:
        return round(time.monotonic() - self._origin, 4)


def _rendered(messages: Sequence[dict[str, Any]]) -> str:
    """The messages in the layout of a chat template. This is the text that a prompt cache compares."""
    return "".join(f"<|{message.get('role')}|>\n{message.get('content') or ''}\n" for message in messages)


def _document_tokens_read(messages: Sequence[dict[str, Any]], prompt: str, cached_characters: int) -> int:
    document = document_in(messages)
    if document is None:
        return 0
    return count_tokens(document[max(0, cached_characters - prompt.index(document)) :])


def _error(status: int, message: str, kind: str, headers: dict[str, str]) -> Response:
    error = {"message": message, "type": kind, "code": status}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def _cut(how: str, content: bytes) -> Response:
    if how == "mid_body":
        return BrokenAnswer(content, len(content) // 2)
    if how == "before_answer":
        return BrokenAnswer(content, None)
    if how == "not_json":
        return Response(content[: len(content) // 2], media_type="application/json")
    if how == "empty":
        return Response(b"", media_type="application/json")
    return _error(502, "the generation was cut", "upstream_error", {})
