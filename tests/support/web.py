"""Dagster's real web app behind our access control, on a real socket, with an instance and no code location."""

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget

from dagster_offload.service.ui.access import Access
from dagster_offload.service.ui.server import build_app, server_config, serving_context
from tests.support.patience import PATIENCE_SECONDS

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. Header names are in lower case; the values of one name are joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: str


def mutation(asset: str) -> str:
    """A mutation that anyone can recognise afterwards: Dagster then knows this asset."""
    return (
        "mutation { reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION, "
        f'assetKey: {{path: ["{asset}"]}}}}) {{ __typename }} }}'
    )


def send(
    port: int, method: str, target: str, headers: Headers = (), body: str = "", address: str = "127.0.0.1"
) -> Answer:
    """Send exactly these headers. Without `Host` among them, `Host: localhost:PORT` is added."""
    connection = http.client.HTTPConnection(address, port, timeout=PATIENCE_SECONDS)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        if not any(name.lower() == "host" for name, _ in headers):
            connection.putheader("Host", f"localhost:{port}")
        for name, value in (*headers, ("Content-Length", str(len(body.encode())))):
            connection.putheader(name, value)
        connection.endheaders(body.encode())
        response = connection.getresponse()
        found: dict[str, str] = {}
        for name, value in response.getheaders():
            found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
        return Answer(response.status, found, response.read().decode("utf-8", errors="replace"))
    finally:
        connection.close()


@contextmanager
def serving(app: Any, address: str = "127.0.0.1") -> Iterator[int]:
    """Serve an ASGI app on a free port, as the UI is served. Yields the port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((address, 0))
        port = listener.getsockname()[1]
        server = uvicorn.Server(server_config(app))
        ready = threading.Event()
        startup = server.startup

        async def report_startup(*arguments: Any, **named: Any) -> None:
            await startup(*arguments, **named)
            ready.set()

        server.startup = report_startup  # type: ignore[method-assign]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert ready.wait(PATIENCE_SECONDS), "the server did not start"
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join()


@dataclass(frozen=True)
class Web:
    """A running UI."""

    port: int
    instance: dg.DagsterInstance

    def send(self, method: str, target: str, headers: Headers = (), body: str = "") -> Answer:
        return send(self.port, method, target, headers, body)

    def assets(self) -> set[str]:
        """The assets that a mutation has reported."""
        return {key.to_user_string() for key in self.instance.get_asset_keys()}


@contextmanager
def web(access: Access) -> Iterator[Web]:
    """Serve Dagster's app with this access, and with an instance of its own."""
    with an_instance() as context, web_of(context, access) as ui:
        yield ui


@contextmanager
def an_instance() -> Iterator[WorkspaceProcessContext]:
    """What Dagster's app shows: an empty instance. To make its tables takes most of the start of a UI."""
    with dg.instance_for_test() as instance, serving_context(instance, EmptyWorkspaceTarget()) as context:
        yield context


@contextmanager
def web_of(context: WorkspaceProcessContext, access: Access) -> Iterator[Web]:
    """Serve Dagster's app for this instance with this access."""
    with serving(build_app(context, access)) as port:
        yield Web(port, context.instance)
