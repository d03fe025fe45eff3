"""What a person sees of Dagster's UI in a browser, and what the pages of others cannot do there."""

import json
from urllib.parse import quote

import httpx

from tests.support.acceptance import Home, wait_for
from tests.support.browser import Browser
from tests.support.patience import PATIENCE_SECONDS
from tests.support.web import mutation

# What a page of another site can do without asking: send a form, load an image, open a WebSocket.
ATTACKS = """
Promise.all([
  fetch(TARGET, {method: "POST", mode: "no-cors", credentials: "include", body: ""}).catch(() => "no answer"),
  new Promise(resolve => {
    const image = new Image();
    image.onload = image.onerror = resolve;
    image.src = TARGET;
  }),
]).then(() => new Promise(resolve => {
  const socket = new WebSocket(ADDRESS.replace("http", "ws") + "/graphql", "graphql-ws");
  socket.onopen = () => resolve("opened");
  socket.onerror = () => resolve("refused");
}))
"""


def check_dagsters_pages(tab: Browser, home: Home) -> None:
    """The pages load their files, their queries are answered, and their WebSocket opens."""
    for path, shown in [("/assets", "extracted_text"), ("/runs", "scan"), ("/deployment/daemons", "Run queue")]:
        tab.open(f"{home.address}{path}")
        tab.wait_for_text(shown)
    ready = tab.run(
        "new Promise((resolve, reject) => { const socket = new WebSocket("
        f"{json.dumps(home.address.replace('http', 'ws') + '/graphql')}, 'graphql-ws');"
        "socket.onopen = () => socket.send(JSON.stringify({type: 'connection_init'}));"
        "socket.onmessage = event => resolve(JSON.parse(event.data).type); socket.onerror = reject; })"
    )
    assert ready == "connection_ack"


def check_attacks_fail(tab: Browser, page: str, home: Home, **headers: str) -> None:
    """Run `ATTACKS` in this page and check that they changed nothing. `headers` are for our own query."""
    tab.open(page)
    wait_for(lambda: tab.run("location.href") == page and tab.run("document.readyState") == "complete", page)
    target = f"{home.address}/graphql?query={quote(mutation('attack'))}"
    script = ATTACKS.replace("TARGET", json.dumps(target)).replace("ADDRESS", json.dumps(home.address))
    assert tab.run(script) == "refused"
    query = "{ assetsOrError { ... on AssetConnection { nodes { key { path } } } } }"
    found = httpx.post(
        f"{home.address}/graphql", json={"query": query}, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False
    )
    assets = [node["key"]["path"] for node in found.json()["data"]["assetsOrError"]["nodes"]]
    assert ["extracted_text"] in assets
    assert ["attack"] not in assets
