"""What a misbehaving server does with one completion request: the building blocks of the fault matrix."""

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from tests.faults.raw_server import Act, CompletionRequest, Connection, completion, reply, well

Ending = Callable[[Connection], None]
# The alert (protocol_version) that a TLS server sends to a plain HTTP client.
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"


def cut(at: str, ending: Ending) -> Act:
    """Send a part of an answer, then call `ending`: close the connection or fall silent."""

    def act(connection: Connection, request: CompletionRequest) -> None:
        body = completion(request)
        half, head = body[: len(body) // 2], b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        connection.send(
            {
                "before": b"",
                "headers": head,
                "length": head + b"content-length: %d\r\n\r\n" % len(body) + half,
                "chunked": head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(half), half),
                "until_close": head + b"connection: close\r\n\r\n" + half,
            }[at]
        )
        ending(connection)

    return act


def says(status: int, body: bytes | str | dict[str, Any] | list[Any] = b"", **headers: str) -> Act:
    """A complete response. Headers are keywords: `retry_after` is `retry-after`."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return _says(status, data, {name.replace("_", "-"): value for name, value in headers.items()})


def _says(status: int, body: bytes, headers: Mapping[str, str]) -> Act:
    def act(connection: Connection, request: CompletionRequest) -> bool:
        connection.send(reply(status, body, headers))
        return True

    return act


def writes(content: str | None, finish_reason: str | None = "stop", **around: Any) -> Act:
    """A completion whose text is `content`."""

    def act(connection: Connection, request: CompletionRequest) -> bool:
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
        connection.send(reply(200, completion(request, choices=[choice], **around)))
        return True

    return act


def speaks(message: Mapping[str, Any], finish_reason: str | None = "stop", **around: Any) -> Act:
    """A completion with this message. `{right}` in its texts is replaced with the correct answer."""

    def act(connection: Connection, request: CompletionRequest) -> bool:
        right = json.loads(completion(request))["choices"][0]["message"]["content"]
        texts = {name: text.replace("{right}", right) for name, text in message.items()}
        choice = {"index": 0, "message": {"role": "assistant", **texts}, "finish_reason": finish_reason}
        connection.send(reply(200, completion(request, choices=[choice], **around)))
        return True

    return act


def writes_nothing_in_a_schema(connection: Connection, request: CompletionRequest) -> bool:
    """A server whose structured output is empty."""
    if "response_format" not in request.body:
        return well(connection, request)
    return bool(writes("")(connection, request))


def stops_at_its_limit(connection: Connection, request: CompletionRequest) -> bool:
    """`max_tokens` cuts the answer, but the finish reason is `stop`."""
    usage = {"prompt_tokens": 100, "completion_tokens": request.body["max_tokens"]}
    connection.send(reply(200, completion(request, usage=usage)))
    return True


def without_system_role(status: int) -> Act:
    """A chat template that raises an error for a system message, as servers report it."""

    def act(connection: Connection, request: CompletionRequest) -> bool:
        if all(entry["role"] != "system" for entry in request.body["messages"]):
            return well(connection, request)
        message = (
            "While executing CallExpression at line 1, column 4:\n^\nError: Jinja Exception: System role not supported"
        )
        connection.send(
            reply(status, json.dumps({"error": {"code": status, "message": message, "type": "server_error"}}).encode())
        )
        return True

    return act


def wants_max_completion_tokens(connection: Connection, request: CompletionRequest) -> bool:
    if "max_tokens" not in request.body:
        return well(connection, request)
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    error = {
        "message": message,
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
    connection.send(reply(400, json.dumps({"error": error}).encode()))
    return True


def always_thinks_in_a_small_context(connection: Connection, request: CompletionRequest) -> bool:
    """vLLM with `max_model_len` 4096 and a model that always thinks."""
    limit, bound = request.body["max_tokens"], 4_096
    if limit > bound:
        message = (
            f"max_tokens={limit} cannot be greater than max_model_len={bound}. Please request fewer output tokens."
        )
        connection.send(
            reply(400, json.dumps({"error": {"message": message, "type": "BadRequestError", "code": 400}}).encode())
        )
        return True
    if limit < 1_000:
        return bool(speaks({"content": "", "reasoning_content": "Hm. " * limit}, "length")(connection, request))
    return bool(speaks({"content": "{right}", "reasoning_content": "Hm. " * 500})(connection, request))


def wraps(before: str, after: str) -> Act:
    """The correct answer, with text around it."""

    def act(connection: Connection, request: CompletionRequest) -> bool:
        right = json.loads(completion(request))["choices"][0]["message"]["content"]
        connection.send(reply(200, completion(request, content=before + right + after)))
        return True

    return act


def answers_with(headers: Mapping[str, str] | None = None, **around: Any) -> Act:
    """The correct answer, in a completion with other headers or fields."""

    def act(connection: Connection, request: CompletionRequest) -> bool:
        connection.send(reply(200, completion(request, **around), headers))
        return True

    return act


def sends(data: bytes, ending: Ending = Connection.close) -> Act:
    def act(connection: Connection, request: CompletionRequest) -> None:
        connection.send(data)
        ending(connection)

    return act


def answers_after(seconds: float) -> Act:
    def act(connection: Connection, request: CompletionRequest) -> bool:
        connection.pause(seconds)
        return well(connection, request)

    return act


def crashes(connection: Connection, request: CompletionRequest) -> None:
    """The document crashes the server's process, which ends all open calls. The port is closed until a restart."""
    connection.go_down()


def crashes_on_one(connection: Connection, request: CompletionRequest) -> bool:
    if not request.is_marked:
        return well(connection, request)
    connection.go_down()
    return False


class CoolsDown:
    """A proxy with LiteLLM's defaults: after an error it refuses the next calls of all clients with a 429.

    `refusals` is the number of calls it refuses after each error. `is_for_all`: every call gets the error, not only that
    of the marked document.
    """

    BODY = (
        '{"error": {"message": "No deployments available for selected model", "type": "all_deployments_in_cooldown"}}'
    )

    def __init__(self, status: int, refusals: int, *, is_for_all: bool = False, retry_after: str | None = None) -> None:
        headers = {} if retry_after is None else {"retry_after": retry_after}
        self._error, self._refusal = says(status, "not there"), says(429, self.BODY, **headers)
        self._refusals, self._is_for_all = refusals, is_for_all
        self._left = 0

    def __call__(self, connection: Connection, request: CompletionRequest) -> bool | None:
        if self._left:
            self._left -= 1
            return self._refusal(connection, request)
        if not (request.is_marked or self._is_for_all):
            return well(connection, request)
        self._left = self._refusals
        return self._error(connection, request)


def one_zero(connection: Connection, request: CompletionRequest) -> None:
    """HTTP/1.0: no content length; the end of the connection ends the answer."""
    connection.send(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + completion(request))
    connection.close()


def drips_blanks(connection: Connection, request: CompletionRequest) -> None:
    """A proxy that sends blanks for ever to keep the connection open."""
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    while not connection.is_over:
        connection.send(b"1\r\n \r\n")
        connection.pause(0.02)


def endless_answer(connection: Connection, request: CompletionRequest) -> None:
    """An endless answer, sent as fast as the client reads."""
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while not connection.is_over:
        connection.send(b'"' + b"a" * 1_000_000)


def zipped(connection: Connection, request: CompletionRequest) -> bool:
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(completion(request)) + packer.flush()
    connection.send(reply(200, body, {"content-encoding": "gzip"}))
    return True


def bomb(connection: Connection, request: CompletionRequest) -> bool:
    """A few kB that unpack to 40 MB of blanks."""
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(b" " * 10_000_000) for _ in range(4)) + packer.flush()
    connection.send(reply(200, body, {"content-encoding": "gzip"}))
    return True


def closes_kept(connection: Connection, request: CompletionRequest) -> bool:
    """Keeps connections open, and closes each one when a second request arrives on it."""
    if request.connection > 1:
        connection.close()
        return False
    return well(connection, request)


def wants_key(key: str) -> Act:
    def act(connection: Connection, request: CompletionRequest) -> bool:
        if request.headers.get("authorization") == f"Bearer {key}":
            return well(connection, request)
        connection.send(reply(401, b'{"error": {"message": "Invalid API Key", "code": 401}}'))
        return True

    return act


def refuses(*parts: str) -> Act:
    """A server that rejects these fields of a request, naming the field."""

    def act(connection: Connection, request: CompletionRequest) -> bool:
        for part in parts:
            if part in request.body:
                connection.send(reply(400, json.dumps({"error": {"message": f"unknown parameter: {part}"}}).encode()))
                return True
        return well(connection, request)

    return act


def knows_only_json_object(connection: Connection, request: CompletionRequest) -> bool:
    """llama-cpp-python: its check of the request does not know `json_schema`, and the error of the check is a 500."""
    if request.body.get("response_format", {}).get("type") != "json_schema":
        return well(connection, request)
    message = (
        "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), "
        "'msg': \"Input should be 'text' or 'json_object'\", 'input': 'json_schema'}]"
    )
    error = {"message": message, "type": "internal_server_error", "param": None, "code": None}
    connection.send(reply(500, json.dumps({"error": error}).encode()))
    return True


def leaves_its_grammar(connection: Connection, request: CompletionRequest) -> bool:
    """llama.cpp with a model whose answers its grammar for a schema cannot hold."""
    if "response_format" not in request.body:
        return well(connection, request)
    message = "The model produced output that does not match the expected peg-native format"
    connection.send(reply(500, json.dumps({"error": {"code": 500, "message": message}}).encode()))
    return True


def finds_the_answer_invalid(connection: Connection, request: CompletionRequest) -> bool:
    """Groq: the model's answer is no JSON, or does not fit the schema."""
    if "response_format" not in request.body:
        return well(connection, request)
    message = "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details."
    error = {"message": message, "code": "json_validate_failed", "failed_generation": request.document}
    connection.send(reply(400, json.dumps({"error": error}).encode()))
    return True


def echoes_the_document(connection: Connection, request: CompletionRequest) -> bool:
    """A short error message that quotes the end of the document."""
    text = (request.document or "")[-60:]
    connection.send(reply(400, json.dumps({"error": {"message": f"cannot tokenize: {text}"}}).encode()))
    return True
