"""A server of another user at our socket's path is refused before anything is sent to it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres.embedded.sockets import socket_folder

Start = Callable[[Path], str]

FAKE_SERVER = """
import os, pwd, socket, sys
attacker = pwd.getpwnam("daemon")
os.setgroups([]); os.setgid(attacker.pw_gid); os.setuid(attacker.pw_uid)
os.mkdir(sys.argv[1], 0o755)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + "/.s.PGSQL.5432")
os.chmod(sys.argv[1] + "/.s.PGSQL.5432", 0o777)
listener.listen()
print("listening", flush=True)
while True:
    print(listener.accept()[0].recv(4096), flush=True)
"""


@pytest.fixture
def impostor(short_folder: Path, start: Start) -> Iterator[tuple[Path, str, "subprocess.Popen[str]"]]:
    """A home whose socket is in /tmp, and a server of another user that has taken the socket's path."""
    if os.geteuid() != 0:
        pytest.skip("needs root to act as another user")
    home = short_folder / ("long" * 25)
    url = start(home)
    sockets = socket_folder(home / "postgres")
    assert not sockets.is_relative_to(home)
    aside = sockets.rename(sockets.with_name(f"{sockets.name}-aside"))  # as programs do that clean up /tmp
    fake = subprocess.Popen([sys.executable, "-c", FAKE_SERVER, str(sockets)], stdout=subprocess.PIPE, text=True)
    try:
        with fake:
            assert fake.stdout is not None
            assert fake.stdout.readline() == "listening\n"
            yield home, url, fake
            fake.kill()
    finally:
        fake.kill()
        shutil.rmtree(sockets, ignore_errors=True)
        aside.rename(sockets)


def test_nothing_is_sent_to_a_server_of_another_user_at_our_socket(
    impostor: tuple[Path, str, "subprocess.Popen[str]"], start: Start
) -> None:
    home, url, fake = impostor
    with pytest.raises(LedgerUnavailable, match=r'not the Postgres of OFFLOAD_HOME .* user name is "daemon"'):
        start(home)
    assert fake.stdout is not None
    assert fake.stdout.readline() == "b''\n"
    with pytest.raises(psycopg.OperationalError, match="requirepeer"):
        psycopg.connect(url)
