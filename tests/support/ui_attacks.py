"""What attacks on a UI and its log-in are made of: headers, requests, WebSockets and sessions."""

import json
from pathlib import Path
from urllib.parse import urlencode

from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from dagster_offload.service.ui.access import Access, decide_access
from dagster_offload.settings import load_settings
from tests.support.patience import PATIENCE_SECONDS
from tests.support.web import Answer, Web, mutation

JSON = ("Content-Type", "application/json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
PAGE = ("Accept", "text/html,application/xhtml+xml")
EVIL = ("Origin", "http://evil")
PASSWORD = "correct horse battery"


def access(home: Path, host: str = "127.0.0.1", **given: str) -> Access:
    home.mkdir(exist_ok=True)
    return decide_access(load_settings(home=home, **given).ui, home, host)


def post(ui: Web, asset: str, *headers: tuple[str, str], path: str = "/graphql") -> Answer:
    return ui.send("POST", path, (JSON, *headers), json.dumps({"query": mutation(asset)}))


RUN_LOGS = 'subscription { pipelineRunLogs(runId: "none") { __typename } }'


def subscribe(ui: Web, path: str = "/graphql", **headers: str) -> str:
    """Open a subscription as Dagster's pages do. Returns the type of the first event. Raises `InvalidStatus`."""
    origin = Origin(headers.pop("origin")) if "origin" in headers else None
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    uri = f"ws://localhost:{ui.port}{path}"
    protocol = Subprotocol("graphql-ws")
    with connect(
        uri, origin=origin, additional_headers=given, subprotocols=[protocol], proxy=None, open_timeout=PATIENCE_SECONDS
    ) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket.recv())["type"] == "connection_ack"
        socket.send(json.dumps({"type": "start", "id": "1", "payload": {"query": RUN_LOGS}}))
        payload = json.loads(socket.recv())["payload"]
        kind: str = payload["data"]["pipelineRunLogs"]["__typename"]
        return kind


def cookie_of(answer: Answer) -> tuple[str, str]:
    assert answer.status == 303
    return ("Cookie", answer.headers["set-cookie"].partition(";")[0])


def log_in(ui: Web, secret: str, *headers: tuple[str, str]) -> Answer:
    return ui.send("POST", "/offload/login", (FORM, *headers), urlencode({"secret": secret}))
