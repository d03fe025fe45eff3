"""Debian's Chromium, without a window, controlled over its debugging protocol (CDP)."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.support.acceptance import wait_for
from tests.support.needs import chromium
from tests.support.patience import PATIENCE_SECONDS


class Browser:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last_id = 0
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_SECONDS))
            if message.get("id") == self._last_id:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def open(self, address: str) -> None:
        """Open a page. Returns before it has loaded."""
        self.call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; promises are awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self) -> str:
        """The visible text of the page."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def wait_for_text(self, text: str) -> None:
        wait_for(lambda: text in self.text(), f"{text!r} in the page")


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium with a profile of its own; it ends with the block."""
    program = chromium()
    assert program is not None
    profile = tempfile.mkdtemp(prefix="offload-browser-")
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    process = subprocess.Popen(
        (program, *flags, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = Path(profile, "DevToolsActivePort")
        wait_for(lambda: found.exists() and found.read_text().count("\n") >= 1, "Chromium's debugging port")
        port = found.read_text().splitlines()[0]
        [page] = [
            page
            for page in httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False, timeout=PATIENCE_SECONDS).json()
            if page["type"] == "page"
        ]
        with connect(
            page["webSocketDebuggerUrl"], max_size=None, proxy=None, ping_interval=None, open_timeout=PATIENCE_SECONDS
        ) as socket:
            yield Browser(socket)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(profile, ignore_errors=True)
