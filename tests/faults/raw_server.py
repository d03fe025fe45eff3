"""A server that misbehaves below and above HTTP: each completion is handed to an act, which does with the socket what it likes.

Threads and plain sockets, because no HTTP library would send what these acts send.
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

MARK = "POISON"  # stands in the one document that a fault may be meant for
ALIAS = "qwen-macbook"


class Hits(StrEnum):
    """Which completions a fault hits."""

    ALL = "every call"  # trials too: the slot is away or wrong
    DOCUMENTS = "every document"  # trials are answered
    ONE = "one document"
    ONE_AND_AFTER = "one document, and what comes after it"  # the act sees every call, and decides
    TENTH = "every 10th call"


@dataclass
class Asked:
    """One completion request as it came."""

    number: int  # of all completions, trials too; from 1
    body: dict[str, Any]
    document: str | None  # None: a trial
    headers: dict[str, str] = field(repr=False)
    connection: int  # how many requests came over the same connection, this one included

    @property
    def is_marked(self) -> bool:
        return self.document is not None and MARK in self.document


class Line:
    """One connection, as an act sees it."""

    def __init__(
        self, sock: socket.socket, is_over: threading.Event, all_open: set["Line"], shut_door: Callable[[], None]
    ) -> None:
        self._sock = sock
        self._is_over = is_over
        self._all_open = all_open
        self._shut_door = shut_door

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def close(self) -> None:
        """FIN: what was sent arrives, nothing follows."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def reset(self) -> None:
        """RST, once what was sent has been read."""
        self.pause(0.02)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def crash(self) -> None:
        """The server's process dies and is started again: every connection ends."""
        for line in list(self._all_open):
            line.close()

    def go_down(self) -> None:
        """The server's process dies: every connection ends, and new ones are refused until `RawServer.restart`."""
        self._shut_door()
        self.crash()

    def stay_silent(self) -> None:
        """Nothing more, until the client leaves or the test is over."""
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


Act = Callable[[Line, Asked], bool | None]  # True: the connection may be used again


def reply(status: int, body: bytes, headers: Mapping[str, str] | None = None, version: str = "1.1") -> bytes:
    """A whole answer with its length."""
    head = {"content-type": "application/json", "content-length": str(len(body))} | dict(headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/{version} {status} Said\r\n{lines}\r\n".encode("latin-1") + body


def completion(asked: Asked, content: str | None = None, **changes: Any) -> bytes:
    """A chat completion: the stand-in router's answer to what was asked, unless `content` is given."""
    schema = (asked.body.get("response_format") or {}).get("json_schema", {}).get("schema")
    text = answer(asked.body["messages"], schema) if content is None else content
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "mlx-community/Qwen3.6-27B-8bit",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    return json.dumps(whole | changes).encode()


def well(line: Line, asked: Asked) -> bool:
    line.send(reply(200, completion(asked)))
    return True


class RawServer:
    """A slot's server on a port of its own. `act` is what a completion within `hits` meets; the others are answered.

    `door`: `open`, `shut` (connections are refused), `full` (connections are neither taken nor refused) or `down` (crashed:
    refused until `restart`).
    """

    def __init__(self, act: Act = well, hits: Hits = Hits.ALL, door: str = "open", health: Act | None = None) -> None:
        self.act, self.hits, self.door, self.health = act, hits, door, health
        self.asked: list[Asked] = []
        self._is_over = threading.Event()
        self.crashes = 0
        self._socket = _bound(0)
        self.port: int = self._socket.getsockname()[1]
        self._queued: list[socket.socket] = []
        self._open: set[Line] = set()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        if self.door == "open":
            self._accept()
        elif self.door == "full":
            self._fill_queue()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._shut()
        for queued in self._queued:
            queued.close()
        for line in list(self._open):
            line.close()
        for thread in self._threads:
            thread.join()

    def mend(self) -> None:
        """From now on everything is answered well."""
        self.act, self.health = well, None
        self.restart()
        for queued in self._queued:
            queued.close()
        if self.door != "open":
            self.door = "open"
            self._accept()

    def restart(self) -> None:
        """What a supervisor does some seconds after a crash; nothing where the server is up."""
        if self.door == "down":
            self._socket, self.door = _bound(self.port), "open"
            self._accept()

    def _go_down(self) -> None:
        self.door = "down"
        self.crashes += 1
        self._shut()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def calls(self, *, marked: bool = False) -> int:
        """Completions for documents so far; only those for the marked one."""
        return sum(asked.is_marked if marked else asked.document is not None for asked in list(self.asked))

    def _accept(self) -> None:
        self._socket.listen(128)
        self._start(self._serve, self._socket)

    def _fill_queue(self) -> None:
        """The kernel drops what comes to a queue of connections nobody takes: to the client, a black hole."""
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
            self._start(self._talk, sock)

    def _talk(self, sock: socket.socket) -> None:
        line, count = Line(sock, self._is_over, self._open, self._go_down), 0
        self._open.add(line)
        with sock, contextlib.suppress(OSError):
            while (request := _read(sock, self._is_over)) is not None:
                count += 1
                if not self._answer(line, request, count):
                    break
        self._open.discard(line)

    def _answer(self, line: Line, request: "Request", count: int) -> bool:
        if request.method == "?":
            line.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            return False
        if request.method == "GET":
            if self.health is not None:
                return bool(self.health(line, Asked(0, {"path": request.path}, None, request.headers, count)))
            line.send(reply(200, b'{"status": "ok"}'))
            return True
        body = json.loads(request.body)
        asked = Asked(len(self.asked) + 1, body, document_in(body["messages"]), request.headers, count)
        self.asked.append(asked)
        act = self.act if self._is_hit(asked) else well
        return bool(act(line, asked))

    def _is_hit(self, asked: Asked) -> bool:
        if self.hits in {Hits.ALL, Hits.ONE_AND_AFTER}:
            return True
        if self.hits is Hits.ONE:
            return asked.is_marked
        if self.hits is Hits.TENTH:
            return asked.number % 10 == 0
        return asked.document is not None


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


@dataclass
class Request:
    method: str  # "?": it was no HTTP
    path: str
    headers: dict[str, str]
    body: bytes


def _read(sock: socket.socket, is_over: threading.Event) -> Request | None:
    """The next whole request; None where the client left."""
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
            return Request("?", "", {}, b"")
        if wanted < 0 and b"\r\n\r\n" in data:
            wanted = data.index(b"\r\n\r\n") + 4 + int(_headers(data).get("content-length", 0))
    sock.settimeout(None)
    method, path, _ = data.split(b"\r\n", 1)[0].decode().split(" ", 2)
    return Request(method, path, _headers(data), data[data.index(b"\r\n\r\n") + 4 :])


def _headers(data: bytes) -> dict[str, str]:
    lines = data.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
