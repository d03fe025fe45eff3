"""The account the server runs as, access to its data, and the folders that are changed."""

import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres import server_pid, stop_postgres
from dagster_offload.postgres.embedded import binaries
from dagster_offload.postgres.embedded.accounts import Account
from dagster_offload.postgres.embedded.sockets import socket_folder
from tests.support.postgres import AS_OTHER_USER, IS_ROOT, RunProcess

Start = Callable[[Path], str]


def reachable_binaries(folder: Path) -> str:
    """Return a prelude that lets any user run the wheel's binaries, wherever the tests' environment is."""
    daemon = pwd.getpwnam("daemon")
    package = binaries._package()
    if binaries._can_run(
        package / "pginstall18" / "bin", Account("daemon", daemon.pw_uid, daemon.pw_gid, is_other=True)
    ):
        return ""
    return f"binaries._package = lambda: Path({str(binaries._copied(package, folder / 'binaries-open'))!r})\n"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.root
def test_roots_server_runs_as_an_unprivileged_user_that_owns_only_its_data_and_socket(home: Path, start: Start) -> None:
    account = pwd.getpwnam("nobody")
    start(home)

    server = psutil.Process(server_pid(home))
    assert server.uids() == (account.pw_uid,) * 3
    assert server.gids() == (account.pw_gid,) * 3
    status = Path(f"/proc/{server.pid}/status").read_text()
    assert next(line.split()[1:] for line in status.splitlines() if line.startswith("Groups:")) == []
    postgres = home / "postgres"
    assert (home.stat().st_uid, mode(home)) == (0, 0o711)
    assert (postgres.stat().st_uid, mode(postgres)) == (0, 0o711)
    for folder in (postgres / "data", socket_folder(postgres)):
        assert (folder.stat().st_uid, mode(folder)) == (account.pw_uid, 0o700)


# A library may do this, as gRPC does in Dagster's code server: what it runs in a forked child can crash there.
CRASHING_FORKS = """
import ctypes
libc = ctypes.CDLL(None)
libc.__register_atfork(None, None, libc.abort, None)
print(ensure(), flush=True)
"""


@pytest.mark.root
def test_the_server_starts_from_a_process_whose_forks_crash(home: Path, run_process: RunProcess) -> None:
    process = run_process(home, CRASHING_FORKS)
    output, _ = process.communicate()
    assert process.returncode == 0
    assert output.startswith("postgresql://")


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "refusal"), [("nobody", "Peer authentication failed"), ("daemon", "Permission denied")]
)
def test_no_other_user_can_connect_including_the_servers_own_account(
    home: Path, run_process: RunProcess, name: str, refusal: str
) -> None:
    prelude = AS_OTHER_USER.replace("daemon", name)
    body = """
try:
    psycopg.connect(url).close()
except psycopg.OperationalError as error:
    print(error)
"""

    output, _ = run_process(home, body, prelude="url = ensure()\n" + prelude).communicate()

    assert refusal in output


@pytest.mark.root
def test_a_user_without_root_rights_runs_their_own_server(short_folder: Path, run_process: RunProcess) -> None:
    short_folder.chmod(0o777)
    home = short_folder / "theirs"
    body = """
with psycopg.connect(ensure()) as conn:
    print(conn.execute("select current_user").fetchone()[0])
print([oct(path.stat().st_mode & 0o777) for path in (home, home / "postgres", home / "postgres" / "data")])
print(psutil.Process(embedded_pid()).username())
print(stop_postgres(home), is_running(home))
"""
    prelude = reachable_binaries(short_folder) + AS_OTHER_USER
    prelude += "from dagster_offload.postgres import server_pid\nembedded_pid = lambda: server_pid(home)\n"

    output, _ = run_process(home, body, prelude=prelude).communicate()

    assert output.splitlines() == ["offload", "['0o700', '0o700', '0o700']", "daemon", "True False"]


if not IS_ROOT:  # root's case is above; a definition under this condition counts as no skipped test

    def test_a_users_own_server_keeps_all_folders_private(home: Path, start: Start) -> None:
        start(home)

        assert psutil.Process(server_pid(home)).uids().real == os.getuid()
        assert [mode(folder) for folder in (home, home / "postgres", home / "postgres" / "data")] == [0o700] * 3


@pytest.mark.root
def test_a_home_of_another_user_is_refused_and_the_error_names_both_users(short_folder: Path, start: Start) -> None:
    home = short_folder / "home"
    home.mkdir()
    os.chown(home, pwd.getpwnam("daemon").pw_uid, -1)

    with pytest.raises(LedgerUnavailable, match=r"OFFLOAD_HOME .* belongs to daemon and you are root"):
        start(home)
    assert list(home.iterdir()) == []


@pytest.mark.root
def test_a_closed_folder_above_the_home_is_named_and_its_mode_is_kept(short_folder: Path, start: Start) -> None:
    closed = short_folder / "closed"
    closed.mkdir(mode=0o700)

    with pytest.raises(
        LedgerUnavailable, match=rf"runs as nobody and cannot traverse the folder {closed} above OFFLOAD_HOME"
    ) as caught:
        start(closed / "home")

    assert "\n" not in str(caught.value)
    assert mode(closed) == 0o700


def test_folders_above_the_home_and_their_files_keep_their_permissions(short_folder: Path, start: Start) -> None:
    above = short_folder / "above"
    above.mkdir()
    neighbour = above / "neighbour"
    neighbour.touch()
    for path, wanted in ((above, 0o751), (neighbour, 0o640)):
        path.chmod(wanted)
    before = {path: path.stat().st_mode for path in (Path("/"), Path("/tmp"), short_folder, above, neighbour)}

    start(above / "home")
    stop_postgres(above / "home")

    assert {path: path.stat().st_mode for path in before} == before


def test_a_home_with_contents_keeps_its_mode(short_folder: Path, start: Start) -> None:
    home = short_folder / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "dagster.yaml").touch()

    start(home)
    stop_postgres(home)

    assert mode(home) == 0o755


def test_an_empty_home_is_closed_to_other_users(short_folder: Path, start: Start) -> None:
    home = short_folder / "home"
    home.mkdir()
    home.chmod(0o777)

    start(home)
    stop_postgres(home)

    assert mode(home) == (0o711 if IS_ROOT else 0o700)


def test_a_world_writable_home_is_refused(short_folder: Path, start: Start) -> None:
    short_folder.chmod(0o1777)
    (short_folder / "theirs").touch()

    with pytest.raises(LedgerUnavailable, match="can be written by everybody"):
        start(short_folder)
    assert mode(short_folder) == 0o1777


def test_a_strict_umask_does_not_stop_the_server_from_reaching_its_data(
    short_folder: Path, run_process: RunProcess
) -> None:
    home = short_folder / "made" / "on" / "the" / "way" / "home"

    output, _ = run_process(home, "os.umask(0o077); print(ensure()); stop_postgres(home)").communicate()

    assert output.startswith("postgresql://")


@pytest.mark.root
def test_binaries_that_the_servers_user_cannot_read_are_copied_into_the_home(
    home: Path, short_folder: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = short_folder / "venv"
    closed.mkdir(mode=0o700)
    package = binaries._package()
    for part in (package, package.parent / f"{package.name}.libs"):
        if part.exists():
            (closed / part.name).symlink_to(part)
    monkeypatch.setattr(binaries, "_package", lambda: closed / package.name)

    start(home)

    assert psutil.Process(server_pid(home)).exe().startswith(f"{home}/postgres/binaries-")
    assert mode(closed) == 0o700
    stop_postgres(home)
    start(home)  # reuses the copy
    assert len(list((home / "postgres").glob("binaries-*"))) == 1


def test_the_error_for_a_user_id_without_a_name_says_what_to_do(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_user: object) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)

    with pytest.raises(
        LedgerUnavailable, match=r"cannot run: .*; run as a user listed in /etc/passwd, or set OFFLOAD_P"
    ):
        start(home)
