"""Ports of this machine that no other test's server can get."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager


def hold_port() -> socket.socket:
    """A socket that is bound to a free port and does not listen. Until it is closed, the system gives the port to no process.

    Only a server that asks for this number, with SO_REUSEADDR as web servers do, can listen on it. A client is refused until
    one does.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def port_of(holder: socket.socket) -> int:
    port: int = holder.getsockname()[1]
    return port


@contextmanager
def held_port() -> Iterator[int]:
    """A port that is held during the block."""
    with closing(hold_port()) as holder:
        yield port_of(holder)
