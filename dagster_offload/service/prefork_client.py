"""Started by `multiprocessing` in Python's place: has the twin fork the process, and stands for it until that ends.

Runs with `-I -S`: the standard library only. Arguments: the twin's socket, then what Python was to be given.
"""

import contextlib
import json
import os
import signal
import socket
import sys

FORKED = "--multiprocessing-fork"  # how `spawn` marks what it starts
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    socket_file, *given = sys.argv[1:]
    # `multiprocessing` starts its resource tracker in the same way: a small process, which needs nothing imported.
    prefork_server = _call(socket_file, given) if FORKED in given else None
    if prefork_server is None:  # not for the twin, or it is gone: the ordinary way
        os.execv(sys.executable, [sys.executable, "-P", *given])  # noqa: S606 - what was to be started, without us
    # A stop of the whole group reaches the forked process, too; how it ends is told when it has.
    for signum in STOPS:
        signal.signal(signum, signal.SIG_IGN)
    _end_as(_ending(prefork_server))


def _call(socket_file: str, given: list[str]) -> socket.socket | None:
    """The connection to the twin, which has all it needs; None where there is no twin."""
    flag = given.index("-c")
    try:
        files = _open_files()
        asked = {"program": given[flag + 1], "arguments": given[flag + 2 :], "files": files, "folder": os.getcwd()}
        prefork_server = socket.socket(socket.AF_UNIX)
        prefork_server.connect(socket_file)
        socket.send_fds(prefork_server, [json.dumps(asked).encode()], files)
    except OSError:
        return None
    for fd in files:
        if fd > 2:
            os.close(fd)  # kept open here, an end of a pipe would be open when it is closed there
    return prefork_server


def _open_files() -> list[int]:
    """The numbers of what we were given, in order."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing itself was open while it was made
            os.fstat(int(name))
            found.append(int(name))
    return sorted(found)


def _ending(prefork_server: socket.socket) -> int:
    """How the forked process ended: its exit code, or minus the signal. 1 where the twin was killed and cannot tell."""
    said = b""
    with contextlib.suppress(OSError):
        while part := prefork_server.recv(64):
            said += part
    return int(said or b"1")


def _end_as(code: int) -> None:
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL cannot be ignored, and needs no more
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
