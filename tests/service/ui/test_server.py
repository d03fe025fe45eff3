"""The process of the UI's web server."""

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dagster_offload.service.ui.sessions import load_secret
from dagster_offload.settings.sections.ui import UISection


@contextmanager
def web_server(folder: Path, ui: UISection, **variables: str) -> Iterator[int]:
    """The web server as `up` starts it, with these variables in its environment. Yields its port."""
    home = folder / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    workspace = folder / "workspace.yaml"
    workspace.write_text("load_from: []")
    (folder / "dagster").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "dagster_offload.service.ui.server", "--workspace", str(workspace)]
        command += ["--home", str(home), "--ui", ui.model_dump_json()]
        command += ["--host", "127.0.0.1", "--listener", str(listener.fileno())]
        environment = {**os.environ, "DAGSTER_HOME": str(folder / "dagster"), **variables}
        with subprocess.Popen(command, pass_fds=[listener.fileno()], cwd=folder, env=environment) as process:
            try:
                yield listener.getsockname()[1]
            finally:
                process.kill()


def status_of(port: int, path: str) -> int:
    """The status of the answer. The socket listens before the server does, so no request is refused."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=240)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "dotenv", ["OFFLOAD_UI_TOKEN=off\nOFFLOAD_UI_PATH_PREFIX=/elsewhere\n", "OFFLOAD_NONSENSE=1\n"]
)
def test_it_keeps_the_settings_that_up_started_with_after_an_edit(tmp_path: Path, dotenv: str) -> None:
    dotenv_file = tmp_path / ".env"
    dotenv_file.write_text(dotenv)
    dotenv_file.chmod(0o600)
    with web_server(tmp_path, UISection(token="on"), OFFLOAD_HOME=str(tmp_path / "home")) as port:
        assert status_of(port, "/server_info") == 401
        assert status_of(port, f"/login?token={load_secret(tmp_path / 'home')}") == 303
