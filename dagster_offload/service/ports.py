"""The port of the UI: the requested one, or the next free one."""

import errno
import socket

from dagster_offload.errors import SettingsError

FIRST_PORT = 3000
PORTS_TRIED = 100


def choose_port(host: str, wanted: int | None) -> int:
    """The port to serve the UI on. Raises `SettingsError` if it is in use or no port is free."""
    if wanted is not None:
        if not _is_free(host, wanted):
            raise SettingsError(
                f"port {wanted} on {host} is in use: choose another with --port, or omit --port to use the next free one"
            )
        return wanted
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if _is_free(host, port):
            return port
    raise SettingsError(
        f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} is free on {host}: choose one with --port"
    )


def _is_free(host: str, port: int) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return False
        raise SettingsError(
            f"--host {host}: {error.strerror}; use 127.0.0.1 for this machine only, 0.0.0.0 for all its addresses"
        ) from error
    return True


def address_of(host: str, port: int) -> str:
    """The URL to open in a browser on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - not bound here
    return f"http://{shown}:{port}"
