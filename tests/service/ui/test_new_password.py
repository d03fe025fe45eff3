"""A new password or token of a running UI: in force at the next request, over real sockets."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from dagster_offload.service.processes import _answers
from dagster_offload.service.ui.access import Access
from dagster_offload.service.ui.passwords import hash_password, write_password_file
from dagster_offload.service.ui.sessions import SECRET_NAME, read_secret
from dagster_offload.testing import ChangeTiming
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ui_attacks import PAGE, PASSWORD, access, cookie_of, log_in
from tests.support.web import Web, an_instance, web_of

NEW = "another horse battery"


@pytest.fixture(scope="module")
def line() -> str:
    """The line of the password's file. A hash takes 0.2 s on purpose."""
    return hash_password(PASSWORD)


@pytest.fixture
def file(tmp_path: Path, line: str) -> Path:
    file = tmp_path / "password"
    write_password_file(file, line)
    return file


@pytest.fixture
def guarded(file: Path, tmp_path: Path) -> Access:
    return access(tmp_path / "home", ui_token="on", ui_password_file=str(file), ui_path_prefix="/offload")


@pytest.fixture(scope="module")
def instance() -> Iterator[WorkspaceProcessContext]:
    """An empty instance of Dagster, which these tests do not change."""
    with an_instance() as context:
        yield context


@pytest.fixture
def ui(guarded: Access, instance: WorkspaceProcessContext, change_timing: ChangeTiming) -> Iterator[Web]:
    change_timing(login_pause=0)
    with web_of(instance, guarded) as ui:
        yield ui


def opens(ui: Web, cookie: tuple[str, str]) -> bool:
    return ui.send("GET", "/offload/", (PAGE, cookie)).status == 200


def test_a_new_password_is_in_force_at_once_and_ends_all_sessions(ui: Web, file: Path, guarded: Access) -> None:
    by_password, by_token = cookie_of(log_in(ui, PASSWORD)), cookie_of(log_in(ui, guarded.token or ""))
    assert opens(ui, by_password)
    write_password_file(file, hash_password(NEW))
    assert not opens(ui, by_password)
    assert not opens(ui, by_token)
    assert log_in(ui, PASSWORD).status == 401
    assert opens(ui, cookie_of(log_in(ui, NEW)))


def test_a_file_that_is_edited_in_place_is_noticed(ui: Web, file: Path) -> None:
    cookie = cookie_of(log_in(ui, PASSWORD))
    file.write_text(hash_password(NEW) + "\n")
    assert not opens(ui, cookie)
    assert opens(ui, cookie_of(log_in(ui, NEW)))


def test_the_same_password_line_written_again_ends_no_session(ui: Web, file: Path) -> None:
    cookie = cookie_of(log_in(ui, PASSWORD))
    write_password_file(file, file.read_text().strip())
    assert opens(ui, cookie)


@pytest.mark.parametrize("fault", ["missing", "empty", "damaged", "of others"])
def test_a_file_that_cannot_be_used_lets_no_one_in_by_password(
    fault: str, ui: Web, file: Path, guarded: Access
) -> None:
    line, cookie = file.read_text(), cookie_of(log_in(ui, PASSWORD))
    if fault == "missing":
        file.unlink()
    elif fault == "of others":
        file.chmod(0o666)
    else:
        file.write_text("" if fault == "empty" else line[:-40])
    assert not opens(ui, cookie)
    assert log_in(ui, PASSWORD).status == 401
    assert log_in(ui, "unusable").status == 401
    assert ui.send("GET", "/offload/", (PAGE,)).status == 401
    assert opens(ui, cookie_of(log_in(ui, guarded.token or "")))
    file.unlink(missing_ok=True)
    write_password_file(file, line.strip())
    assert opens(ui, cookie_of(log_in(ui, PASSWORD)))


@pytest.mark.parametrize("change", ["deleted", "edited"])
def test_a_new_token_is_in_force_at_once_and_ends_all_sessions(change: str, ui: Web, guarded: Access) -> None:
    old = guarded.token or ""
    by_password, by_token = cookie_of(log_in(ui, PASSWORD)), cookie_of(log_in(ui, old))
    assert opens(ui, by_token)
    if change == "deleted":
        (guarded.home / SECRET_NAME).unlink()
    else:
        (guarded.home / SECRET_NAME).write_text("n" * 43 + "\n")
    assert not opens(ui, by_token)
    assert not opens(ui, by_password)
    assert log_in(ui, old).status == 401
    new = read_secret(guarded.home)
    assert new != old
    assert opens(ui, cookie_of(log_in(ui, new)))
    assert opens(ui, cookie_of(log_in(ui, PASSWORD)))


@pytest.mark.parametrize("fault", ["too short", "of others"])
def test_a_secret_that_cannot_be_used_lets_no_one_in_by_token_until_it_is_corrected(
    fault: str, ui: Web, guarded: Access
) -> None:
    token, file = guarded.token or "", guarded.home / SECRET_NAME
    cookie = cookie_of(log_in(ui, token))
    if fault == "too short":
        file.write_text("short\n")
    else:
        file.chmod(0o640)
    assert not opens(ui, cookie)
    for tried in (token, "short", ""):
        assert log_in(ui, tried).status == 401
    assert opens(ui, cookie_of(log_in(ui, PASSWORD)))
    file.write_text(token + "\n")
    file.chmod(0o600)
    assert opens(ui, cookie)


def test_an_open_websocket_gets_nothing_after_a_new_password(ui: Web, file: Path) -> None:
    cookie = cookie_of(log_in(ui, PASSWORD))
    with connect(
        f"ws://localhost:{ui.port}/offload/graphql",
        additional_headers={"Cookie": cookie[1]},
        subprotocols=[Subprotocol("graphql-ws")],
        proxy=None,
        open_timeout=PATIENCE_SECONDS,
    ) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket.recv())["type"] == "connection_ack"
        write_password_file(file, hash_password(NEW))
        socket.send(json.dumps({"type": "start", "id": "1", "payload": {"query": "subscription { x }"}}))
        with pytest.raises(ConnectionClosed, match="the password or the token of the UI has changed"):
            socket.recv(240)


def test_the_start_of_up_recognizes_its_ui_after_a_new_password(ui: Web, file: Path, guarded: Access) -> None:
    write_password_file(file, hash_password(NEW))
    assert _answers(f"http://127.0.0.1:{ui.port}/offload", guarded.sessions)
