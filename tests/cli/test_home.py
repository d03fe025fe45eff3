"""One `up` per home, its port, and homes that cannot be used."""

import errno
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.service.home import RunningUp, hold_up_lock, running_up
from dagster_offload.service.ports import address_of, listen_for_ui, port_of
from tests.support.cli import Call


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_second_up_is_refused_and_shows_the_address_of_the_first(call: Call, library: Path) -> None:
    home = Path(os.environ["OFFLOAD_HOME"])
    with hold_up_lock(home) as lock:
        lock.write(RunningUp(os.getpid(), "http://127.0.0.1:3000"))
        assert running_up(home) == RunningUp(os.getpid(), "http://127.0.0.1:3000")
        result = call("up")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "already runs" in result.stderr
    assert "http://127.0.0.1:3000" in result.stderr
    assert running_up(home) is None


def test_the_lock_shows_whether_the_home_is_still_the_same_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with hold_up_lock(home) as lock:
        lock.refuse_lost_home()
        moved = home.rename(tmp_path / "moved")
        with pytest.raises(SettingsError, match=rf"OFFLOAD_HOME {home} was removed or moved while `up` ran"):
            lock.refuse_lost_home()
        with hold_up_lock(home) as another:
            assert another.has_home
            assert not lock.has_home, "the home of another `up`"
        shutil.rmtree(home)
        moved.rename(home)
        assert lock.has_home


def test_a_home_whose_lock_file_was_replaced_is_still_the_same_folder(tmp_path: Path) -> None:
    with hold_up_lock(tmp_path) as lock:
        (tmp_path / "up.lock").rename(tmp_path / "saved")
        (tmp_path / "saved").rename(tmp_path / "up.lock")
        (tmp_path / "up.lock").unlink()
        assert lock.has_home


@pytest.mark.parametrize(("number", "has_home"), [(errno.ESTALE, True), (errno.EIO, True), (errno.ENOTDIR, False)])
def test_a_home_that_cannot_be_looked_at_is_not_taken_for_a_lost_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, has_home: bool
) -> None:
    def refuse(_path: object) -> None:
        raise OSError(number, os.strerror(number))

    with hold_up_lock(tmp_path) as lock:
        monkeypatch.setattr(os, "stat", refuse)
        found = lock.has_home
        monkeypatch.undo()
    assert found is has_home


def test_a_home_that_is_a_file_is_named(call: Call, library: Path) -> None:
    Path(os.environ["OFFLOAD_HOME"]).touch()
    result = call("up")
    assert result.exit_code == 2
    assert "OFFLOAD_HOME" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_requested_port_in_use_is_refused(call: Call, library: Path, taken_port: int) -> None:
    result = call("up", "--port", str(taken_port))
    assert result.exit_code == 2
    assert f"port {taken_port} on 127.0.0.1 is in use" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_a_port_the_next_free_one_is_taken(monkeypatch: pytest.MonkeyPatch, taken_port: int) -> None:
    monkeypatch.setattr("dagster_offload.service.ports.FIRST_PORT", taken_port)
    with listen_for_ui("127.0.0.1", None) as listener:
        assert taken_port < port_of(listener) < taken_port + 100


def test_two_ups_that_start_at_the_same_time_get_two_ports(monkeypatch: pytest.MonkeyPatch, taken_port: int) -> None:
    monkeypatch.setattr("dagster_offload.service.ports.FIRST_PORT", taken_port)
    starting = threading.Barrier(8)

    def start(_: int) -> socket.socket:
        starting.wait()
        return listen_for_ui("127.0.0.1", None)

    with ThreadPoolExecutor(8) as threads, ExitStack() as open_until_the_end:
        listeners = [open_until_the_end.enter_context(listener) for listener in threads.map(start, range(8))]
        assert len({port_of(listener) for listener in listeners}) == 8


def test_no_free_port_is_reported(monkeypatch: pytest.MonkeyPatch, taken_port: int) -> None:
    monkeypatch.setattr("dagster_offload.service.ports.FIRST_PORT", taken_port)
    monkeypatch.setattr("dagster_offload.service.ports.PORTS_TRIED", 1)
    with pytest.raises(SettingsError, match="--port"):
        listen_for_ui("127.0.0.1", None)


def test_a_host_of_another_machine_is_refused() -> None:
    with pytest.raises(SettingsError, match="--host 192"):
        listen_for_ui("192.0.2.1", 3000)


def test_a_browser_can_open_the_address() -> None:
    assert address_of("0.0.0.0", 3000) == "http://127.0.0.1:3000"
    assert address_of("::1", 3000) == "http://[::1]:3000"
