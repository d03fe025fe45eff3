"""The start of `up` while its Postgres does not answer: it says what it waits for, and ends when a stop is requested."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen, run

import psycopg
import pytest

from dagster_offload.errors import StoppedWaiting
from dagster_offload.service import postgres_wait
from dagster_offload.service.home import hold_up_lock
from dagster_offload.service.ports import listen_for_ui
from dagster_offload.service.processes import running_services
from dagster_offload.service.supervisor import StopRequest
from dagster_offload.settings import read_settings
from dagster_offload.slot.config import DEEP
from tests.support.ports import port_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a library and a slot, for the settings in the environment."""
    home, library = tmp_path / "home", tmp_path / "library"
    home.mkdir(mode=0o700)
    library.mkdir()
    monkeypatch.setenv("OFFLOAD_HOME", str(home))
    monkeypatch.setenv("OFFLOAD_LIBRARY", str(library))
    monkeypatch.setenv("OFFLOAD_DEEP_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "qwen-macbook")
    return home


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a Postgres that takes connections and answers nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"postgresql://ada:refused@127.0.0.1:{port_of(listening)}/offload"


def start_until_it_says_what_it_waits_for(home: Path) -> list[str]:
    stop, said = StopRequest(), list[str]()

    def say(line: str) -> None:
        said.append(line)
        stop()

    with (
        hold_up_lock(home) as lock,
        listen_for_ui("127.0.0.1", None) as listener,
        pytest.raises(StoppedWaiting, match=r"Stopped before the ledger at \S+ was ready\."),
        running_services(read_settings(), "127.0.0.1", listener, lock, stop, say),
    ):
        raise AssertionError("it started")
    return said


def test_a_start_names_a_silent_postgres_without_the_password_and_ends_at_a_stop(
    home: Path, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_wait, "QUIET_SECONDS", 0.0)
    monkeypatch.setenv("OFFLOAD_POSTGRES_URL", silent)
    [line] = start_until_it_says_what_it_waits_for(home)
    assert line.startswith(f"Waiting for Postgres at {silent.partition('@')[2]} (OFFLOAD_POSTGRES_URL): ")


def test_a_start_whose_postgres_stops_answering_later_ends_at_a_stop(
    home: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFLOAD_POSTGRES_URL", ledger_url)
    with psycopg.connect(ledger_url) as other:
        other.execute("lock table offload.slots in access exclusive mode")  # the slots are registered last
        [line] = start_until_it_says_what_it_waits_for(home)
        assert "it does not answer, or is still working" in line
        assert other.execute("select count(*) from offload.slots where name = %s", [DEEP]).fetchone() == (0,)


@pytest.mark.parametrize("way", ["Ctrl-C", "stop"])
def test_ctrl_c_and_stop_end_up_while_it_waits_for_postgres_with_a_line_and_exit_code_0(
    home: Path, silent: str, way: str
) -> None:
    program = [sys.executable, "-m", "dagster_offload.cli"]
    environment = {**os.environ, "OFFLOAD_POSTGRES_URL": silent}
    with Popen([*program, "up"], env=environment, stdout=PIPE, stderr=STDOUT, text=True) as up:
        assert up.stdout is not None
        said = []
        for line in up.stdout:
            said.append(line)
            if "Waiting for Postgres" in line:
                if way == "stop":
                    run([*program, "stop"], env=environment, check=True)
                else:
                    up.send_signal(signal.SIGINT)
        assert up.wait(240) == 0, said
    assert "Stopped before the ledger at " in " ".join("".join(said).split())
    assert "refused" not in "".join(said)
