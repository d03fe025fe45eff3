"""How servers answer requests that complete nothing: health paths and model lists, as the servers that people run do."""

import json

from tests.faults.raw_server import Act, CompletionRequest, Connection, reply


def health_and_a_broken_list(connection: Connection, request: CompletionRequest) -> bool:
    """mlx_lm on a machine without a cache of models: its model list ends before the first byte of its body."""
    if _is_get(request, "/health"):
        connection.send(reply(200, b'{"status": "ok"}'))
        return True
    if _is_get(request, "/v1/models"):
        connection.send(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n")
    else:
        connection.send(b"HTTP/1.0 404 Not Found\r\n\r\nNot Found")
    connection.close()
    return False


def models(*names: str) -> Act:
    """A server without /health whose model list contains `names`."""

    def act(connection: Connection, request: CompletionRequest) -> bool:
        if request.body["path"] != "/v1/models":
            connection.send(reply(404, b'{"detail": "Not Found"}'))
        else:
            connection.send(
                reply(200, json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode())
            )
        return True

    return act


def busy_models(connection: Connection, request: CompletionRequest) -> bool:
    """llama-cpp-python: no /health, and a model list that waits until a generation ends."""
    if request.body["path"] == "/v1/models":
        connection.stay_silent()
        return False
    connection.send(reply(404, b'{"detail": "Not Found"}'))
    return True


def _is_get(request: CompletionRequest, path: str) -> bool:
    return bool(request.body.get("path") == path)


def _model_list(*names: str) -> bytes:
    return reply(200, json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode())


class LiteLLM:
    """The GET requests of a LiteLLM proxy (1.108): `/health` completes a call on every alias, and its other paths do not.

    `is_alive_shown`: false if something before it lets only `/health` through.
    """

    def __init__(self, *aliases: str, is_alive_shown: bool = True) -> None:
        self.aliases, self._is_alive_shown = aliases, is_alive_shown
        self.completions = 0  # that its health path has cost
        self.paths: list[str] = []

    def __call__(self, connection: Connection, request: CompletionRequest) -> bool:
        path = request.body["path"]
        self.paths.append(path)
        if path == "/health":
            self.completions += len(self.aliases)
            endpoints = [{"model": alias} for alias in self.aliases]
            body = {"healthy_endpoints": [], "unhealthy_endpoints": endpoints, "healthy_count": 0}
            connection.send(reply(200, json.dumps(body).encode()))
        elif path == "/health/liveliness" and self._is_alive_shown:
            connection.send(reply(200, b'"I\'m alive!"'))
        elif path == "/health/readiness" and self._is_alive_shown:
            connection.send(reply(200, b'{"status": "healthy", "db": "Not connected"}'))
        elif path == "/v1/models":
            connection.send(_model_list(*self.aliases))
        else:
            connection.send(reply(404, b'{"detail": "Not Found"}'))
        return True


def lm_studio(*names: str) -> Act:
    """LM Studio answers a path that does not exist with an error and status 200."""

    def act(connection: Connection, request: CompletionRequest) -> bool:
        path = request.body["path"]
        error = json.dumps({"error": f"Unexpected endpoint or method. (GET {path})"}).encode()
        connection.send(_model_list(*names) if path == "/v1/models" else reply(200, error))
        return True

    return act


def plain_health(body: bytes = b"", *names: str) -> Act:
    """A server with `/health` (vLLM: an empty body; llama-swap: OK) and a model list."""

    def act(connection: Connection, request: CompletionRequest) -> bool:
        if _is_get(request, "/v1/models"):
            connection.send(_model_list(*names))
        elif _is_get(request, "/health"):
            connection.send(reply(200, body))
        else:
            connection.send(reply(404, b"404 page not found"))
        return True

    return act


def wants_another_key_for_health(connection: Connection, request: CompletionRequest) -> bool:
    """A health path that needs an administrator's key; completions and the model list do not."""
    if _is_get(request, "/v1/models"):
        connection.send(_model_list("qwen-macbook"))
    else:
        connection.send(reply(401, b'{"error": {"message": "Only admins may see this"}}'))
    return True


def slow_health(connection: Connection, request: CompletionRequest) -> bool:
    """A health path that takes longer than a probe waits, beside a model list that answers."""
    if _is_get(request, "/v1/models"):
        connection.send(_model_list("qwen-macbook"))
        return True
    if _is_get(request, "/health"):
        connection.stay_silent()
        return False
    connection.send(reply(404, b"not found"))
    return True
