"""Unusual homes: paths too long for a socket, odd names, read-only or full disks, and files instead of folders."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres import ensure_postgres, stop_postgres
from dagster_offload.postgres.embedded import cluster
from dagster_offload.postgres.embedded.accounts import explained, server_account
from dagster_offload.postgres.embedded.sockets import SOCKET_NAME, socket_folder
from dagster_offload.settings import load_settings
from tests.support.postgres import RunProcess

Start = Callable[[Path], str]


@pytest.fixture
def long_home(short_folder: Path) -> Path:
    return short_folder / ("l" * 100) / "home"


def is_up(url: str) -> bool:
    with psycopg.connect(url) as conn:
        return conn.execute("select 1").fetchone() == (1,)


def test_a_home_with_a_path_too_long_for_a_socket_gets_a_private_temporary_folder(
    long_home: Path, start: Start
) -> None:
    assert is_up(start(long_home))

    folder = socket_folder(long_home / "postgres")
    assert not folder.is_relative_to(long_home)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == server_account().uid


def test_a_process_with_another_tmpdir_finds_the_temporary_socket_folder(
    long_home: Path, short_folder: Path, start: Start, run_process: RunProcess
) -> None:
    url = start(long_home)
    other = short_folder / "tmp"
    other.mkdir()

    output, _ = run_process(long_home, "print(ensure())", env={"TMPDIR": str(other)}).communicate()

    assert output.strip() == url
    assert list(other.iterdir()) == []


def test_a_temporary_socket_folder_is_reused_after_a_stop(long_home: Path, start: Start) -> None:
    url = start(long_home)
    stop_postgres(long_home)

    assert start(long_home) == url


def test_a_stop_leaves_no_temporary_socket_folder(long_home: Path, start: Start) -> None:
    start(long_home)
    folder = socket_folder(long_home / "postgres")
    stop_postgres(long_home)
    assert not folder.exists()


@pytest.mark.parametrize("is_long", [True, False])
def test_a_socket_folder_that_was_removed_is_made_again_under_its_name(
    home: Path, long_home: Path, start: Start, is_long: bool
) -> None:
    used = long_home if is_long else home
    url = start(used)
    stop_postgres(used)
    shutil.rmtree(socket_folder(used / "postgres"), ignore_errors=True)  # a stop removes a temporary one

    assert start(used) == url
    assert stat.S_IMODE(socket_folder(used / "postgres").stat().st_mode) == 0o700


def test_a_temporary_socket_folder_in_a_folder_that_is_gone_is_replaced(
    long_home: Path, start: Start, monkeypatch: pytest.MonkeyPatch, short_folder: Path
) -> None:
    (short_folder / "tmp").mkdir(mode=0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(short_folder / "tmp"))
    start(long_home)
    stop_postgres(long_home)
    assert socket_folder(long_home / "postgres").parent == short_folder / "tmp"
    shutil.rmtree(short_folder / "tmp")

    assert is_up(start(long_home))


@pytest.mark.parametrize("what", ["opened to others", "a link"])
def test_a_temporary_socket_folder_that_is_no_longer_private_is_not_reused(
    long_home: Path, start: Start, what: str
) -> None:
    start(long_home)
    stop_postgres(long_home)
    folder = socket_folder(long_home / "postgres")
    if what == "opened to others":
        folder.mkdir()
        folder.chmod(0o755)
    else:
        folder.symlink_to("/")
    try:
        assert is_up(start(long_home))
        assert socket_folder(long_home / "postgres") != folder
    finally:
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder, ignore_errors=True)


def test_a_home_moved_to_a_shorter_path_has_its_socket_inside(
    long_home: Path, short_folder: Path, start: Start
) -> None:
    start(long_home)
    stop_postgres(long_home)
    moved = long_home.rename(short_folder / "moved")

    assert is_up(start(moved))
    assert socket_folder(moved / "postgres").parent == moved / "postgres"


@pytest.mark.parametrize("name", ["with space", "quote'\"s", "$(touch x)`;", "a,b=c%d", "한글", "back\\slash"])
def test_a_home_may_have_any_name(short_folder: Path, start: Start, name: str) -> None:
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    from dagster_offload.postgres import dagster_url

    url = start(short_folder / name)

    assert is_up(url)
    with create_engine(dagster_url(url), poolclass=NullPool).connect() as conn:
        assert conn.execute(text("select current_database()")).scalar() == "offload"
    assert stop_postgres(short_folder / name) is True
    assert list(Path().glob("x")) == []


def test_the_error_for_a_home_that_is_a_file_names_the_setting(short_folder: Path) -> None:
    home = short_folder / "home"
    home.touch()

    for path in (home, home / "below"):
        with pytest.raises(LedgerUnavailable, match=r"^OFFLOAD_HOME /.* is a file, or is below one: choose a folder"):
            ensure_postgres(load_settings(home=path))


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        ("ENOSPC", "has no space left on its disk: free some space"),
        ("EROFS", "is on a read-only file system: choose a writable folder"),
        ("EACCES", "is not readable and writable for you: choose a folder of your own"),
        ("EIO", "cannot be used"),
    ],
)
def test_the_error_for_each_file_system_failure_is_one_line_that_names_the_setting(number: str, advice: str) -> None:
    import errno

    with (
        pytest.raises(LedgerUnavailable, match=rf"^OFFLOAD_HOME /srv/home {advice}") as caught,
        explained(Path("/srv/home")),
    ):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)), "/srv/home/postgres/lock")
    assert "\n" not in str(caught.value)


@pytest.fixture
def mounted(short_folder: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small separate file system. Needs root and the right to mount."""
    disk = short_folder / "disk"
    disk.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")
        return disk

    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", disk], capture_output=True, check=False)


@pytest.mark.root
def test_a_full_disk_is_reported_and_leaves_no_partial_data(mounted: Callable[[str], Path], start: Start) -> None:
    home = mounted("size=10m") / "home"

    with pytest.raises(LedgerUnavailable, match=r"OFFLOAD_HOME .* has no space left on its disk"):
        start(home)
    assert not (home / "postgres" / "data").exists()
    assert list((home / "postgres").glob("data-new-*")) == []


@pytest.mark.root
def test_a_disk_that_filled_up_after_the_first_start_is_reported(mounted: Callable[[str], Path], start: Start) -> None:
    home = mounted("size=90m") / "home"
    start(home)
    stop_postgres(home)
    ballast = home / "ballast"
    with ballast.open("wb", buffering=0) as file:
        file.write(bytes(shutil.disk_usage(home).free))
    assert shutil.disk_usage(home).free == 0

    with pytest.raises(LedgerUnavailable, match=r"OFFLOAD_HOME .*no space left"):
        start(home)

    ballast.unlink()
    assert is_up(start(home))
    stop_postgres(home)


@pytest.mark.root
def test_a_read_only_disk_is_reported(mounted: Callable[[str], Path]) -> None:
    home = mounted("ro") / "home"

    with pytest.raises(LedgerUnavailable, match=r"OFFLOAD_HOME .* read-only file system: choose a writable folder"):
        ensure_postgres(load_settings(home=home))


def test_the_error_for_a_failed_initdb_holds_its_message(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "NAME", "pg_reserved")  # initdb refuses such a role

    with pytest.raises(LedgerUnavailable, match=r'OFFLOAD_HOME .*superuser name "pg_reserved" is disallowed') as caught:
        start(home)
    assert "\n" not in str(caught.value)
    assert SOCKET_NAME not in str(caught.value)
