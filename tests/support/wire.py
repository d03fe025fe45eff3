"""A proxy between a client and Postgres, which loses confirmations."""

import contextlib
import select
import socket
import threading
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from dagster_offload.postgres.urls import libpq_url


class Wire:
    """A proxy between a client and Postgres. After `lose_next_answer` is set, it ends the connection right after a commit."""

    def __init__(self, url: str, folder: str) -> None:
        to = conninfo_to_dict(url)
        self._host, self._port = str(to["host"]), int(to.get("port") or 5432)
        # The client checks whose process listens at the socket; here it is this test.
        self.url = libpq_url({name: value for name, value in to.items() if name != "requirepeer"} | {"host": folder})
        self.lose_next_answer = False
        self.lost = 0
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(Path(folder) / f".s.PGSQL.{self._port}"))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(client, self._connected()), daemon=True).start()

    def _connected(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(Path(self._host) / f".s.PGSQL.{self._port}"))
        return server

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            while True:
                for sender in select.select([client, server], [], [])[0]:
                    data = sender.recv(1 << 16)
                    if not data:
                        return
                    (server if sender is client else client).sendall(data)
                    if sender is client and b"COMMIT\0" in data and self.lose_next_answer:
                        server.recv(1 << 16)  # Postgres has committed
                        self.lose_next_answer = False
                        self.lost += 1
                        return
