"""The port of the UI: the requested one, or the next free one."""

import errno
import socket

from dagster_offload.errors import SettingsError

FIRST_PORT = 3000
PORTS_TRIED = 100


def listen_for_ui(host: str, wanted: int | None) -> socket.socket:
    """A socket that listens on the port of the UI, so no other process can take it. Close it in the end.

    Raises `SettingsError` if `wanted` is in use or no port is free.
    """
    if wanted is not None:
        if (listener := _listen(host, wanted)) is None:
            raise SettingsError(
                f"port {wanted} on {host} is in use: choose another with --port, or omit --port to use the next free one"
            )
        return listener
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if (listener := _listen(host, port)) is not None:
            return listener
    raise SettingsError(
        f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} is free on {host}: choose one with --port"
    )


def is_free(host: str, port: int) -> bool:
    """Whether this process could listen on the port. Raises `SettingsError` if `host` is no address of this machine."""
    if (listener := _listen(host, port)) is None:
        return False
    listener.close()
    return True


def port_of(listener: socket.socket) -> int:
    """The port that the socket listens on."""
    port: int = listener.getsockname()[1]
    return port


def _listen(host: str, port: int) -> socket.socket | None:
    """None if the port is in use. Two processes may bind the same port at once, but only one of them can listen on it."""
    listener = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name may have both kinds of address. `localhost` must be the 127.0.0.1 that a proxy in front uses.
        family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        if listener is not None:
            listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise SettingsError(
            f"--host {host}: {error.strerror}; use 127.0.0.1 for this machine only, 0.0.0.0 for all its addresses"
        ) from error
    return listener


def address_of(host: str, port: int, prefix: str = "") -> str:
    """The URL to open in a browser on this machine. `prefix` is empty or starts with a slash."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here
    return f"http://{_in_url(shown)}:{port}{prefix}"


def network_address_of(host: str, port: int, prefix: str = "") -> str | None:
    """The URL to open on another machine of the network, if `host` stands for all addresses of this one.

    Returns None if it does not, or if this machine is in no network.
    """
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - not bound here
        return None
    # The address of the interface that leads to other networks. Connecting a UDP socket sends nothing; the targets are
    # reserved for documentation (RFC 5737, RFC 3849).
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        if family == socket.AF_INET6 and host != "::":
            continue
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as unconnected:
                unconnected.connect((target, 9))
                return f"http://{_in_url(unconnected.getsockname()[0])}:{port}{prefix}"
        except OSError:  # no route
            continue
    return None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
