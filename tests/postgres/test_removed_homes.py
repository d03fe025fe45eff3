"""A home that is removed, moved or replaced while its server runs harms no other home."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.opening import open_ledger, open_ledger_as_it_is
from dagster_offload.postgres import is_running, server_pid, stop_postgres
from dagster_offload.postgres.embedded.sockets import socket_folder
from dagster_offload.settings import load_settings
from tests.support.patience import PATIENCE_SECONDS
from tests.support.postgres import copy_home, remove_home

Start = Callable[[Path], str]


@pytest.fixture(params=["short path", "long path"])
def home(request: pytest.FixtureRequest, short_folder: Path) -> Path:
    """A home, also one whose socket is in a temporary folder."""
    return short_folder / ("home" if request.param == "short path" else "long" * 25)


@pytest.fixture
def remove(home: Path) -> Iterator[Callable[[], psutil.Process]]:
    """Removes the home while its server runs, and returns the server. It is ended after the test."""
    left: list[tuple[psutil.Process, Path]] = []

    def remove() -> psutil.Process:
        server = psutil.Process(server_pid(home))
        left.append((server, socket_folder(home / "postgres")))
        remove_home(home)
        return server

    yield remove
    for server, sockets in left:
        end(server)
        shutil.rmtree(sockets, ignore_errors=True)


def end(server: psutil.Process) -> None:
    """End a server whose data folder was removed as it ends itself within a minute: with an immediate shutdown."""
    if server.is_running():
        server.send_signal(signal.SIGQUIT)
    assert psutil.wait_procs([server], timeout=PATIENCE_SECONDS)[1] == []


def connects(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("select 1").fetchone() == (1,)


def test_a_new_home_is_usable_after_the_server_of_the_removed_one_ended(
    home: Path, start: Start, remove: Callable[[], psutil.Process]
) -> None:
    before = start(home)
    old = remove()
    url = start(home)
    end(old)
    assert connects(url)
    assert start(home) == url != before, "a process of the removed home does not write to the new one"


def test_a_home_restored_while_its_old_server_runs_is_usable_after_that_ended(
    home: Path, start: Start, remove: Callable[[], psutil.Process]
) -> None:
    start(home)
    stop_postgres(home)
    saved = copy_home(home, home.parent / "saved")
    start(home)
    old = remove()
    url = start(copy_home(saved, home))
    end(old)
    assert connects(url)


def test_a_new_home_at_the_path_of_a_moved_one_is_usable_after_the_other_stopped(home: Path, start: Start) -> None:
    start(home)
    moved = home.rename(home.parent / "moved")
    assert connects(start(moved)), "it still runs"
    url = start(home)
    assert stop_postgres(moved)
    assert connects(url)


def test_work_on_a_removed_home_does_not_make_it_again(
    home: Path, start: Start, remove: Callable[[], psutil.Process]
) -> None:
    start(home)
    with open_ledger(load_settings(home=home)) as ledger:
        end(remove())
        ledger.revive()
        assert not os.path.lexists(home)


def test_work_on_a_home_that_is_being_removed_makes_no_file_in_it(home: Path, start: Start) -> None:
    start(home)
    with open_ledger(load_settings(home=home)) as ledger:
        end(psutil.Process(server_pid(home)))
        (home / "postgres" / "data" / "PG_VERSION").unlink()
        (home / "postgres" / "lock").unlink()
        left = set(home.rglob("*"))
        ledger.revive()
        assert set(home.rglob("*")) == left


def test_a_look_at_a_home_without_its_data_starts_no_new_postgres(
    home: Path, start: Start, remove: Callable[[], psutil.Process]
) -> None:
    start(home)
    end(remove())
    (home / "postgres").mkdir(parents=True)
    with pytest.raises(SettingsError, match="there is no ledger in"), open_ledger_as_it_is(load_settings(home=home)):
        pass
    assert list((home / "postgres").iterdir()) == []


def test_work_on_a_removed_home_does_not_start_the_postgres_of_a_new_home_at_its_path(
    home: Path, start: Start, remove: Callable[[], psutil.Process]
) -> None:
    start(home)
    with open_ledger(load_settings(home=home)) as ledger:
        end(remove())
        start(home)
        stop_postgres(home)
        ledger.revive()
        assert not is_running(home)


def test_a_home_keeps_its_address_when_it_is_reached_through_a_link(home: Path, start: Start) -> None:
    url = start(home)
    stop_postgres(home)
    link = home.parent / "link"
    link.symlink_to(home)
    start(link)
    assert connects(url), "processes that know the home by its other path"
