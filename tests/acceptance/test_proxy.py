"""A real Caddy with the snippet of docs/remote-ui.md in front of a real `up`."""

import base64
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from dagster_offload.simulator import Router
from tests.support.acceptance import Home, a_home, wait_for
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.caddy

PAGE = Path(__file__).parents[2] / "docs" / "remote-ui.md"
USER = ("ada", "correct horse")
BASIC = {"Authorization": f"Basic {base64.b64encode(':'.join(USER).encode()).decode()}"}


@contextmanager
def caddy(folder: Path, port: int, home: Home) -> Iterator[None]:
    """Run Caddy with the documented snippet; only the ports, the password and the name of the site are replaced."""
    [snippet] = re.findall(r"```caddyfile\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    hashed = subprocess.run(
        ["caddy", "hash-password", "--plaintext", USER[1]], capture_output=True, text=True, check=True
    ).stdout.strip()
    snippet = snippet.replace("offload.example.org {", f"http://offload.localhost:{port} {{", 1)
    snippet = re.sub(r"ada \S+", lambda _: f"ada {hashed}", snippet)
    snippet = snippet.replace("127.0.0.1:3000", home.address.removeprefix("http://").removesuffix("/offload"))
    file = folder / "Caddyfile"
    file.write_text(f"{{\n\tadmin off\n}}\n{snippet}")
    environment = {
        **home.environment,
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    with subprocess.Popen(
        ["caddy", "run", "--config", str(file)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for(lambda: process.poll() is not None or _listens(port), "Caddy")
            assert process.poll() is None
            yield
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def home(router: Router) -> Iterator[Home]:
    with a_home(router) as home:
        home.environment["OFFLOAD_UI_PATH_PREFIX"] = "/offload"
        yield home


def test_the_documented_proxy_asks_for_a_password_and_passes_pages_queries_and_websockets(
    home: Home, tmp_path: Path
) -> None:
    port = home.reserve_port()
    site = f"http://offload.localhost:{port}"
    name = {"Host": f"offload.localhost:{port}"}
    home.up("--behind-proxy", site)
    wait_for(lambda: f"{site}/offload" in home.said, "the proxy's address in the welcome")
    with (
        caddy(tmp_path, port, home),
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=name, trust_env=False, timeout=PATIENCE_SECONDS
        ) as client,
    ):
        assert client.get("/offload/runs").status_code == 401
        assert client.get("/offload/runs", auth=("ada", "wrong")).status_code == 401
        assert client.get("/", auth=USER).headers["location"] == "/offload/"
        page = client.get("/offload/", auth=USER, headers={"Accept": "text/html"})
        assert page.status_code == 200
        [script] = re.findall(r'src="(/offload/[^"]+\.js)"', page.text)[:1]
        assert client.get(script, auth=USER).status_code == 200
        query = {"query": "{ version }"}
        own, other = {"Origin": site}, {"Origin": "http://evil"}
        assert client.post("/offload/graphql", auth=USER, json=query, headers=own).json()["data"]["version"]
        assert client.post("/offload/graphql", auth=USER, json=query, headers=other).status_code == 403

        def open_websocket(headers: dict[str, str], origin: str) -> str | None:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                uri = f"ws://offload.localhost:{port}/offload/graphql"
                with connect(
                    uri,
                    sock=connection,
                    origin=Origin(origin),
                    additional_headers=headers,
                    subprotocols=[Subprotocol("graphql-ws")],
                    open_timeout=PATIENCE_SECONDS,
                ) as opened:
                    return opened.subprotocol

        assert open_websocket(BASIC, site) == "graphql-ws"
        for headers, origin, status in [({}, site, 401), (BASIC, "http://evil", 403)]:
            with pytest.raises(InvalidStatus) as refused:
                open_websocket(headers, origin)
            assert refused.value.response.status_code == status
