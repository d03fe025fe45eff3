"""The web server ends when no page was open for a while."""

import http.client
import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from dagster_offload.service.ui.in_use import InUse, ServerWhileUsed
from dagster_offload.service.ui.server import server_config
from tests.support.acceptance import wait_for
from tests.support.patience import PATIENCE_SECONDS

MOST_UNUSED_SECONDS = 300.0


class Clock:
    """A clock that a test moves."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def _answer(_: Request) -> Response:
    return PlainTextResponse("here")


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


class Served:
    """A server in a thread, on a real socket."""

    def __init__(self) -> None:
        self.clock = Clock()
        app = Starlette(routes=[Route("/", _answer), Route("/healthz", _answer), WebSocketRoute("/socket", _echo)])
        self.use = InUse(app, frozenset({"/healthz"}), self.clock)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._server = ServerWhileUsed(server_config(self.use), self.use, MOST_UNUSED_SECONDS)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()

    def ask(self, path: str = "/") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        connection.request("GET", path)
        try:
            return connection.getresponse().read()
        finally:
            connection.close()

    def wait_for_end(self) -> None:
        """Let time pass until the server has ended. The last request may end a moment after its answer."""

        def has_ended() -> bool:
            self.clock.seconds += MOST_UNUSED_SECONDS
            return not self._thread.is_alive()

        wait_for(has_ended, "the end of the server")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.stop()


def test_it_serves_while_it_is_used_and_ends_when_it_was_not(served: Served) -> None:
    for _ in range(3):
        served.clock.seconds += MOST_UNUSED_SECONDS - 1
        assert served.ask() == b"here"
    served.wait_for_end()


def test_a_health_check_is_no_use(served: Served) -> None:
    served.clock.seconds += 100
    assert served.ask("/healthz") == b"here"
    assert served.use.unused_seconds == 100


def test_an_open_page_keeps_it_running(served: Served) -> None:
    with connect(f"ws://127.0.0.1:{served.port}/socket", proxy=None, open_timeout=PATIENCE_SECONDS) as page:
        served.clock.seconds += 100 * MOST_UNUSED_SECONDS
        page.send("still there")
        assert page.recv(timeout=PATIENCE_SECONDS) == "still there"
        assert served.use.unused_seconds == 0
        assert served.ask() == b"here"
    served.wait_for_end()
