"""A server whose socket was removed is restarted: no process could connect to it any more."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest

from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.postgres import is_running, reason_to_restart, server_pid, stop_postgres
from dagster_offload.postgres.embedded.locks import wait_until
from dagster_offload.postgres.embedded.paths import Paths
from dagster_offload.postgres.embedded.sockets import socket_folder, socket_path
from dagster_offload.service.home import hold_up_lock
from dagster_offload.service.postgres_keeper import KeptPostgres, kept_alive
from dagster_offload.settings import load_settings
from tests.support.cli import call
from tests.support.patience import PATIENCE_SECONDS

Start = Callable[[Path], str]


@pytest.mark.parametrize("what", ["the socket", "its folder"])
@pytest.mark.parametrize("name", ["home", "long" * 25])
def test_the_next_command_restarts_a_server_whose_socket_was_removed_and_says_so(
    short_folder: Path, start: Start, caplog: pytest.LogCaptureFixture, name: str, what: str
) -> None:
    home = short_folder / name
    url, before = start(home), server_pid(home)
    assert reason_to_restart(home) is None
    if what == "the socket":
        socket_path(home / "postgres").unlink()
    else:
        shutil.rmtree(socket_folder(home / "postgres"))
    assert start(home) == url
    with psycopg.connect(url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert server_pid(home) not in (None, before)
    assert f"The socket of Postgres in {home} was removed: restarting Postgres." in caplog.text


def test_up_restarts_a_postgres_that_lost_its_socket_and_says_why(home: Path, start: Start) -> None:
    start(home)
    socket_path(home / "postgres").unlink()
    revived, messages = threading.Event(), list[str]()
    KeptPostgres(home, revived.set, messages.append).check()
    assert revived.wait(PATIENCE_SECONDS)
    assert messages == [
        f"Postgres lost its socket, which was removed; restarting it. Log: {home / 'postgres' / 'server.log'}"
    ]


def test_a_job_in_a_terminal_restarts_a_postgres_that_lost_its_socket(home: Path) -> None:
    with open_ledger(load_settings(home=home)) as ledger, kept_alive(home, ledger.revive):
        before = server_pid(home)
        socket_path(home / "postgres").unlink()
        assert wait_until(lambda: server_pid(home) not in (None, before), PATIENCE_SECONDS)


@pytest.mark.usefixtures("clean_environment")
def test_stop_ends_a_postgres_that_lost_its_socket_and_starts_none(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start(home)
    socket_path(home / "postgres").unlink()
    monkeypatch.setenv("OFFLOAD_HOME", str(home))
    caplog.clear()
    result = call("stop")
    assert (result.exit_code, result.stdout) == (0, "stopped: Postgres\n")
    assert result.stderr == (
        "cannot find the workers to stop (Postgres lost its socket, which was removed): if one still runs, stop it in its"
        " terminal, or run `dagster-offload stop` again\n"
    )
    assert caplog.messages == []
    assert not is_running(home)


@pytest.mark.usefixtures("clean_environment")
def test_a_command_says_nothing_of_its_restart_while_up_runs(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start(home)
    monkeypatch.setenv("OFFLOAD_HOME", str(home))
    lines = []
    for is_up_running in (False, True):
        assert stop_postgres(home)
        caplog.clear()
        with hold_up_lock(home) if is_up_running else nullcontext():
            call("status")
        assert is_running(home)
        lines.append([line for line in caplog.messages if "Postgres" in line])
    assert lines == [[f"Started Postgres in {home}. It keeps running; `dagster-offload stop` ends it."], []]


@pytest.mark.usefixtures("clean_environment")
def test_a_process_with_a_home_of_its_own_names_it_in_the_command_that_stops_postgres(
    home: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    start(home)  # as a component does: no variable names its home
    assert caplog.messages[-1] == (
        f"Started Postgres in {home}. It keeps running; `OFFLOAD_HOME={home} dagster-offload stop` ends it."
    )


def test_a_server_that_does_not_accept_connections_yet_has_lost_no_socket(home: Path, start: Start) -> None:
    start(home)
    socket_path(home / "postgres").unlink()
    pid_file = Paths(home).pid_file
    pid_file.write_text(pid_file.read_text().replace("ready   ", "starting"))
    assert reason_to_restart(home) is None


@pytest.mark.root
def test_a_socket_that_only_this_process_cannot_see_is_not_lost(home: Path, start: Start) -> None:
    start(home)
    sockets = socket_folder(home / "postgres")
    look = (
        "from pathlib import Path; from dagster_offload.postgres import reason_to_restart; "
        f"print(reason_to_restart(Path({str(home)!r})))"
    )
    hidden = 'mount -t tmpfs none "$1" && exec "$2" -c "$3"'
    shown = subprocess.run(
        ("unshare", "--mount", "sh", "-c", hidden, "sh", str(sockets), sys.executable, look),
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "None\n"
