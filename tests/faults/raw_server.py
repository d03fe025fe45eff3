"""A server that misbehaves below and above HTTP. It passes each completion request and its connection to an act.

Threads and plain sockets, because no HTTP library can send what these acts send.
"""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from dagster_offload.simulator.answers import answer, document_in

MARK = "POISON"  # marks the one document that a fault may be limited to
ALIAS = "qwen-macbook"


class Hits(StrEnum):
    """Which completions a fault hits."""

    ALL = "every call"  # trials too: the slot is unavailable or misconfigured
    DOCUMENTS = "every document"  # trials are answered
    ONE = "one document"
    ONE_AND_AFTER = "one document, and what comes after it"  # the act gets every call and decides
    TENTH = "every 10th call"


@dataclass
class CompletionRequest:
    """One completion request."""

    number: int  # of all completions, trials too; from 1
    body: dict[str, Any]
    document: str | None  # None: a trial
    headers: dict[str, str] = field(repr=False)
    connection: int  # the number of requests on the same connection, including this one

    @property
    def is_marked(self) -> bool:
        return self.document is not None and MARK in self.document


class Connection:
    """One connection, with the actions of an act."""

    def __init__(
        self,
        sock: socket.socket,
        is_over: threading.Event,
        all_open: set["Connection"],
        stop_listening: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._is_over = is_over
        self._all_open = all_open
        self._stop_listening = stop_listening

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def close(self) -> None:
        """Close with FIN: data sent before arrives."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def reset(self) -> None:
        """Close with RST, after the client has read the data sent before."""
        self.pause(0.02)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def crash(self) -> None:
        """End every connection, as if the server's process had died and restarted."""
        for connection in list(self._all_open):
            connection.close()

    def go_down(self) -> None:
        """End every connection and refuse new ones until `RawServer.restart`, as if the server's process had died."""
        self._stop_listening()
        self.crash()

    def stay_silent(self) -> None:
        """Send nothing more until the client disconnects or the test ends."""
        self._sock.settimeout(0.05)
        while not self._is_over.is_set():
            try:
                if not self._sock.recv(65536):
                    return
            except TimeoutError:
                continue

    def pause(self, seconds: float) -> None:
        self._is_over.wait(seconds)

    @property
    def is_over(self) -> bool:
        return self._is_over.is_set()


Act = Callable[[Connection, CompletionRequest], bool | None]  # True: the connection may be reused


def reply(status: int, body: bytes, headers: Mapping[str, str] | None = None, version: str = "1.1") -> bytes:
    """A complete HTTP response with its content length."""
    head = {"content-type": "application/json", "content-length": str(len(body))} | dict(headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/{version} {status} Reply\r\n{lines}\r\n".encode("latin-1") + body


def completion(request: CompletionRequest, content: str | None = None, **changes: Any) -> bytes:
    """A chat completion with the stand-in router's answer to the request, or with `content`."""
    schema = (request.body.get("response_format") or {}).get("json_schema", {}).get("schema")
    text = answer(request.body["messages"], schema) if content is None else content
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "mlx-community/Qwen3.6-27B-8bit",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    return json.dumps(whole | changes).encode()


def well(connection: Connection, request: CompletionRequest) -> bool:
    connection.send(reply(200, completion(request)))
    return True


class RawServer:
    """A slot's server on its own port. `act` handles the completions that `hits` selects; the others are answered.

    `port_state`: `open`, `shut` (connections are refused), `full` (connections are neither accepted nor refused) or `down`
    (crashed: refused until `restart`).
    """

    def __init__(
        self, act: Act = well, hits: Hits = Hits.ALL, port_state: str = "open", health: Act | None = None
    ) -> None:
        self.act, self.hits, self.port_state, self.health = act, hits, port_state, health
        self.requests: list[CompletionRequest] = []
        self._is_over = threading.Event()
        self.crashes = 0
        self._socket = _bound(0)
        self.port: int = self._socket.getsockname()[1]
        self._queued: list[socket.socket] = []
        self._open: set[Connection] = set()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        if self.port_state == "open":
            self._accept()
        elif self.port_state == "full":
            self._fill_queue()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._shut()
        for queued in self._queued:
            queued.close()
        for connection in list(self._open):
            connection.close()
        for thread in self._threads:
            thread.join()

    def mend(self) -> None:
        """Answer every request correctly from now on."""
        self.act, self.health = well, None
        self.restart()
        for queued in self._queued:
            queued.close()
        if self.port_state != "open":
            self.port_state = "open"
            self._accept()

    def restart(self) -> None:
        """Listen again after a crash, as a supervisor would arrange. Does nothing if the server is up."""
        if self.port_state == "down":
            self._socket, self.port_state = _bound(self.port), "open"
            self._accept()

    def _go_down(self) -> None:
        self.port_state = "down"
        self.crashes += 1
        self._shut()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def calls(self, *, marked: bool = False) -> int:
        """The number of completions for documents so far, or only of those for the marked one."""
        return sum(request.is_marked if marked else request.document is not None for request in list(self.requests))

    def _accept(self) -> None:
        self._socket.listen(128)
        self._start(self._serve, self._socket)

    def _fill_queue(self) -> None:
        """Fill the queue of connections, so that the kernel drops new ones: the client sees a black hole."""
        self._socket.listen(0)
        for _ in range(3):
            queued = socket.socket()
            queued.setblocking(False)
            queued.connect_ex(self._socket.getsockname())
            self._queued.append(queued)

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, listening: socket.socket) -> None:
        while not self._is_over.is_set():
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._serve_connection, sock)

    def _serve_connection(self, sock: socket.socket) -> None:
        connection, count = Connection(sock, self._is_over, self._open, self._go_down), 0
        self._open.add(connection)
        with sock, contextlib.suppress(OSError):
            while (raw := _read(sock, self._is_over)) is not None:
                count += 1
                if not self._answer(connection, raw, count):
                    break
        self._open.discard(connection)

    def _answer(self, connection: Connection, raw: "RawRequest", count: int) -> bool:
        if raw.method == "?":
            connection.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            return False
        if raw.method == "GET":
            if self.health is not None:
                return bool(self.health(connection, CompletionRequest(0, {"path": raw.path}, None, raw.headers, count)))
            connection.send(reply(200, b'{"status": "ok"}'))
            return True
        body = json.loads(raw.body)
        request = CompletionRequest(len(self.requests) + 1, body, document_in(body["messages"]), raw.headers, count)
        self.requests.append(request)
        act = self.act if self._is_hit(request) else well
        return bool(act(connection, request))

    def _is_hit(self, request: CompletionRequest) -> bool:
        if self.hits in {Hits.ALL, Hits.ONE_AND_AFTER}:
            return True
        if self.hits is Hits.ONE:
            return request.is_marked
        if self.hits is Hits.TENTH:
            return request.number % 10 == 0
        return request.document is not None


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


@dataclass
class RawRequest:
    method: str  # "?": not HTTP
    path: str
    headers: dict[str, str]
    body: bytes


def _read(sock: socket.socket, is_over: threading.Event) -> RawRequest | None:
    """The next complete request; None if the client disconnected."""
    sock.settimeout(0.05)
    data = b""
    wanted = -1
    while wanted < 0 or len(data) < wanted:
        try:
            more = sock.recv(65536)
        except TimeoutError:
            if is_over.is_set():
                return None
            continue
        if not more:
            return None
        data += more
        if data[:1] == b"\x16":  # a TLS handshake
            return RawRequest("?", "", {}, b"")
        if wanted < 0 and b"\r\n\r\n" in data:
            wanted = data.index(b"\r\n\r\n") + 4 + int(_headers(data).get("content-length", 0))
    sock.settimeout(None)
    method, path, _ = data.split(b"\r\n", 1)[0].decode().split(" ", 2)
    return RawRequest(method, path, _headers(data), data[data.index(b"\r\n\r\n") + 4 :])


def _headers(data: bytes) -> dict[str, str]:
    lines = data.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
