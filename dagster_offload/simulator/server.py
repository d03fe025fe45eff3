"""Runs the stand-in router in a thread (`with Router() as router`) or in the foreground (`serve`)."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import uvicorn

from dagster_offload.simulator.app import RouterApp
from dagster_offload.simulator.connections import ConnectionHolder
from dagster_offload.simulator.script import Behaviour, read_script

TICK_SECONDS = 0.1  # as in uvicorn


class Router:
    """A stand-in router on a port of this host, served by its own thread.

    Keyword arguments are fields of `Behaviour`: `Router(mode="cold", latency=0.1)`. Port 0 picks a free port. It accepts
    connections from `__enter__` on. After `stop` the port refuses connections; `start` opens the same port again.
    """

    def __init__(self, port: int = 0, script: Sequence[dict[str, Any]] = (), **behaviour: Any) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self._behaviour = Behaviour().with_changes(behaviour)
        self._steps = read_script(script)
        self._app: RouterApp | None = None
        self._listening: socket.socket | None = None
        self._server: AbruptServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        return f"http://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Accept connections from the moment this returns. Log and behaviour from before a stop are kept."""
        self._listening = listening = listen(self.host, self.port)
        self.port = listening.getsockname()[1]
        if self._app is None:
            self._app = RouterApp(self._behaviour, self._steps)
        self._app.enter_new_loop()
        self._server = make_server(self._app)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="stand-in router")
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection at once, even during an answer."""
        if self._server is None or self._thread is None or self._listening is None:
            return
        self._server.end()
        self._thread.join()
        self._listening.close()  # uvicorn before 0.41 leaves it open if the server is ended while it starts
        self._listening = self._server = self._thread = None

    def set(self, **changes: Any) -> None:
        """Change fields of the behaviour, for new requests and for held ones. Raises `ValueError` for a wrong field."""
        self._admin("POST", "/admin/state", changes)

    def log(self) -> dict[str, Any]:
        """Return every request so far and their totals; see `RequestLog.summary`."""
        log = self._admin("GET", "/admin/log")
        assert isinstance(log, dict)  # noqa: S101 - our own server's answer
        return log

    def completions(self) -> list[dict[str, Any]]:
        """Return the log's completion requests, oldest first."""
        return [entry for entry in self.log()["requests"] if entry["path"] == "/v1/chat/completions"]

    def wait(self, *, timeout: float = 240, **numbers: int) -> None:
        """Block until `open`, `answers` and `refusals` reach the given numbers. Raises `TimeoutError` after `timeout` s.

        From a coroutine: `await asyncio.to_thread(router.wait, open=1)`.
        """
        self._admin("POST", "/admin/wait", {**numbers, "timeout": timeout})

    def _admin(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        longest_wait = (body or {}).get("timeout", 0.0)
        connection = http.client.HTTPConnection(self.host, self.port, timeout=240 + longest_wait)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status == 409:
            raise TimeoutError(answer["error"])
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket. Raises `OSError` if the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only if the socket names its protocol. With it on, each answer on a reused
    # connection is 40 ms late: its head is sent first, and its body waits for the client's delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    return listening


class AbruptServer(uvicorn.Server):
    """A server that stops like a killed process: it resets every connection without finishing answers."""

    on_started: Callable[[], None] | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def end(self) -> None:
        """End the server at once. Called from another thread."""
        self.should_exit = self.force_exit = True
        if self._loop is not None:  # else it has not started, and looks at `should_exit` when it has
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended by itself
                self._loop.call_soon_threadsafe(self._ending.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does. From then on a signal ends the server in order."""
        self._ending = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.on_started is not None:
            self.on_started()

    async def main_loop(self) -> None:
        """Wait until the server is to end. uvicorn looks every 0.1 s, which is needed for signals; `end` ends the wait."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Abort all connections, then shut down as uvicorn does. After `end`, without its pause if no request is left."""
        self._abort_connections()
        if not self.force_exit:
            await super().shutdown(sockets)
            return
        # asyncio loses a connection that it has accepted, and does not close it, if its server is closed before the
        # connection has a transport. That takes three turns of the loop: a task, the transport, the call to the protocol.
        for listening in sockets or []:
            asyncio.get_running_loop().remove_reader(listening)
        for _ in range(3):
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        self._abort_connections()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=TICK_SECONDS)

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def make_server(app: RouterApp) -> AbruptServer:
    """Return a uvicorn server for `app`. It does not listen yet."""
    config = uvicorn.Config(
        app.asgi, http=ConnectionHolder, loop="asyncio", ws="none", lifespan="off", log_config=None, access_log=False
    )
    return AbruptServer(config)


def serve(listening: socket.socket, app: RouterApp, on_started: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM. Call `on_started` when the server answers and handles these signals."""
    server = make_server(app)
    server.on_started = on_started
    server.run([listening])
