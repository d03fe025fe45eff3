"""What a misbehaving server does with one completion: the building blocks of the fault matrix."""

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from tests.faults.raw_server import Act, Asked, Line, completion, reply, well

Ending = Callable[[Line], None]
# A TLS server's alert (protocol_version) to somebody who speaks plain HTTP.
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"


def cut(at: str, ending: Ending) -> Act:
    """Send a part of an answer, then end the connection, or fall silent."""

    def act(line: Line, asked: Asked) -> None:
        body = completion(asked)
        half, head = body[: len(body) // 2], b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        line.send(
            {
                "before": b"",
                "headers": head,
                "length": head + b"content-length: %d\r\n\r\n" % len(body) + half,
                "chunked": head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(half), half),
                "until_close": head + b"connection: close\r\n\r\n" + half,
            }[at]
        )
        ending(line)

    return act


def says(status: int, body: bytes | str | dict[str, Any] | list[Any] = b"", **headers: str) -> Act:
    """A whole answer. Headers by keyword: `retry_after` is `retry-after`."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return _says(status, data, {name.replace("_", "-"): value for name, value in headers.items()})


def _says(status: int, body: bytes, headers: Mapping[str, str]) -> Act:
    def act(line: Line, asked: Asked) -> bool:
        line.send(reply(status, body, headers))
        return True

    return act


def writes(content: str | None, finish_reason: str | None = "stop", **around: Any) -> Act:
    """A completion whose text is `content`."""

    def act(line: Line, asked: Asked) -> bool:
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
        line.send(reply(200, completion(asked, choices=[choice], **around)))
        return True

    return act


def speaks(message: Mapping[str, Any], finish_reason: str | None = "stop", **around: Any) -> Act:
    """A completion with this message; `{right}` in its texts stands for the right answer."""

    def act(line: Line, asked: Asked) -> bool:
        right = json.loads(completion(asked))["choices"][0]["message"]["content"]
        said = {name: text.replace("{right}", right) for name, text in message.items()}
        choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": finish_reason}
        line.send(reply(200, completion(asked, choices=[choice], **around)))
        return True

    return act


def writes_nothing_in_a_schema(line: Line, asked: Asked) -> bool:
    """A server whose structured output is empty."""
    if "response_format" not in asked.body:
        return well(line, asked)
    return bool(writes("")(line, asked))


def stops_at_its_limit(line: Line, asked: Asked) -> bool:
    """The answer is cut by `max_tokens`, and the finish reason says `stop`."""
    usage = {"prompt_tokens": 100, "completion_tokens": asked.body["max_tokens"]}
    line.send(reply(200, completion(asked, usage=usage)))
    return True


def without_system_role(status: int) -> Act:
    """A chat template that raises for a system message, as a server passes it on."""

    def act(line: Line, asked: Asked) -> bool:
        if all(message["role"] != "system" for message in asked.body["messages"]):
            return well(line, asked)
        words = (
            "While executing CallExpression at line 1, column 4:\n^\nError: Jinja Exception: System role not supported"
        )
        line.send(
            reply(status, json.dumps({"error": {"code": status, "message": words, "type": "server_error"}}).encode())
        )
        return True

    return act


def wants_max_completion_tokens(line: Line, asked: Asked) -> bool:
    if "max_tokens" not in asked.body:
        return well(line, asked)
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    error = {"message": words, "type": "invalid_request_error", "param": "max_tokens", "code": "unsupported_parameter"}
    line.send(reply(400, json.dumps({"error": error}).encode()))
    return True


def always_thinks_in_a_small_context(line: Line, asked: Asked) -> bool:
    """vLLM with `max_model_len` 4096 and a model that thinks whatever it is asked."""
    limit, bound = asked.body["max_tokens"], 4_096
    if limit > bound:
        words = f"max_tokens={limit} cannot be greater than max_model_len={bound}. Please request fewer output tokens."
        line.send(
            reply(400, json.dumps({"error": {"message": words, "type": "BadRequestError", "code": 400}}).encode())
        )
        return True
    if limit < 1_000:
        return bool(speaks({"content": "", "reasoning_content": "Hm. " * limit}, "length")(line, asked))
    return bool(speaks({"content": "{right}", "reasoning_content": "Hm. " * 500})(line, asked))


def wraps(before: str, after: str) -> Act:
    """The right answer, with text around it."""

    def act(line: Line, asked: Asked) -> bool:
        right = json.loads(completion(asked))["choices"][0]["message"]["content"]
        line.send(reply(200, completion(asked, content=before + right + after)))
        return True

    return act


def answers_with(headers: Mapping[str, str] | None = None, **around: Any) -> Act:
    """The right answer, in a completion with other things around it."""

    def act(line: Line, asked: Asked) -> bool:
        line.send(reply(200, completion(asked, **around), headers))
        return True

    return act


def sends(data: bytes, ending: Ending = Line.close) -> Act:
    def act(line: Line, asked: Asked) -> None:
        line.send(data)
        ending(line)

    return act


def answers_after(seconds: float) -> Act:
    def act(line: Line, asked: Asked) -> bool:
        line.pause(seconds)
        return well(line, asked)

    return act


def crashes(line: Line, asked: Asked) -> None:
    """The document ends the server's process, and with it everybody's call. Nothing listens until it is restarted."""
    line.go_down()


def crashes_on_one(line: Line, asked: Asked) -> bool:
    if not asked.is_marked:
        return well(line, asked)
    line.go_down()
    return False


class CoolsDown:
    """A proxy with LiteLLM's defaults: an error makes it refuse the next calls, whoever makes them, with a 429.

    `refusals`: how many calls it refuses after each error. `is_for_all`: every call ends in the error, not one document's.
    """

    BODY = (
        '{"error": {"message": "No deployments available for selected model", "type": "all_deployments_in_cooldown"}}'
    )

    def __init__(self, status: int, refusals: int, *, is_for_all: bool = False, retry_after: str | None = None) -> None:
        headers = {} if retry_after is None else {"retry_after": retry_after}
        self._error, self._refusal = says(status, "not there"), says(429, self.BODY, **headers)
        self._refusals, self._is_for_all = refusals, is_for_all
        self._left = 0

    def __call__(self, line: Line, asked: Asked) -> bool | None:
        if self._left:
            self._left -= 1
            return self._refusal(line, asked)
        if not (asked.is_marked or self._is_for_all):
            return well(line, asked)
        self._left = self._refusals
        return self._error(line, asked)


def one_zero(line: Line, asked: Asked) -> None:
    """HTTP/1.0: no length, and the end of the connection is the end of the answer."""
    line.send(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + completion(asked))
    line.close()


def drips_blanks(line: Line, asked: Asked) -> None:
    """A proxy that keeps the connection open with blanks, for ever."""
    line.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    while not line.is_over:
        line.send(b"1\r\n \r\n")
        line.pause(0.02)


def never_stops_talking(line: Line, asked: Asked) -> None:
    """An answer without end, as fast as it is taken."""
    line.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while not line.is_over:
        line.send(b'"' + b"a" * 1_000_000)


def zipped(line: Line, asked: Asked) -> bool:
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(completion(asked)) + packer.flush()
    line.send(reply(200, body, {"content-encoding": "gzip"}))
    return True


def bomb(line: Line, asked: Asked) -> bool:
    """A few kB that unpack to 40 MB of blanks."""
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(b" " * 10_000_000) for _ in range(4)) + packer.flush()
    line.send(reply(200, body, {"content-encoding": "gzip"}))
    return True


def closes_kept(line: Line, asked: Asked) -> bool:
    """Keeps connections open, and closes each when a second request comes in over it."""
    if asked.connection > 1:
        line.close()
        return False
    return well(line, asked)


def wants_key(key: str) -> Act:
    def act(line: Line, asked: Asked) -> bool:
        if asked.headers.get("authorization") == f"Bearer {key}":
            return well(line, asked)
        line.send(reply(401, b'{"error": {"message": "Invalid API Key", "code": 401}}'))
        return True

    return act


def refuses(*parts: str) -> Act:
    """A server that does not know these parts of a request, and says which."""

    def act(line: Line, asked: Asked) -> bool:
        for part in parts:
            if part in asked.body:
                line.send(reply(400, json.dumps({"error": {"message": f"unknown parameter: {part}"}}).encode()))
                return True
        return well(line, asked)

    return act


def models(*names: str) -> Act:
    """A server without /health, whose list of models holds `names`."""

    def act(line: Line, asked: Asked) -> bool:
        if asked.body["path"] != "/v1/models":
            line.send(reply(404, b'{"detail": "Not Found"}'))
        else:
            line.send(reply(200, json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode()))
        return True

    return act


def busy_models(line: Line, asked: Asked) -> bool:
    """llama-cpp-python: no /health, and a list of models that waits until a generation ends."""
    if asked.body["path"] == "/v1/models":
        line.stay_silent()
        return False
    line.send(reply(404, b'{"detail": "Not Found"}'))
    return True
