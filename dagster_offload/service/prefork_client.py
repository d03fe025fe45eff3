"""The program `multiprocessing` starts instead of Python. It stands in for the forked process until that ends.

It requests the process from the prefork server (`prefork.py`). It runs with `-I -S` and uses only the standard library.
Arguments: the server's socket, then the arguments meant for Python.
"""

import contextlib
import json
import os
import signal
import socket
import sys

FORKED = "--multiprocessing-fork"  # how `spawn` marks the processes it starts
ASKED = "--from-the-prefork-server"  # how `prefork_command` marks them
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    socket_file, *arguments = sys.argv[1:]
    # `multiprocessing` starts its resource tracker the same way. That process is small and needs none of the imports.
    is_for_server = FORKED in arguments or ASKED in arguments
    prefork_server = _request_process(socket_file, arguments) if is_for_server else None
    if prefork_server is None:  # not a process of `spawn`, or the server has ended: start Python as usual
        os.execv(sys.executable, [sys.executable, "-P", *arguments])  # noqa: S606 - the command of `spawn` itself
    # A signal to the group also reaches the forked process. This program reports its exit and must outlive it.
    for signum in STOPS:
        signal.signal(signum, signal.SIG_IGN)
    _end_as(_exit_code(prefork_server))


def _request_process(socket_file: str, arguments: list[str]) -> socket.socket | None:
    """Send the request to the prefork server. Returns the connection, or None if no server answers."""
    flag = arguments.index("-c")
    try:
        files = _open_files()
        program, rest = arguments[flag + 1], arguments[flag + 2 :]
        request = {"program": program, "arguments": rest, "files": files, "folder": os.getcwd()}
        prefork_server = socket.socket(socket.AF_UNIX)
        prefork_server.connect(socket_file)
        socket.send_fds(prefork_server, [json.dumps(request).encode()], files)
    except OSError:
        return None
    for fd in files:
        if fd > 2:
            os.close(fd)  # a pipe's end left open here would hide that the forked process closed it
    return prefork_server


def _open_files() -> list[int]:
    """The descriptors this process inherited, in ascending order."""
    descriptors = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed by now
            os.fstat(int(name))
            descriptors.append(int(name))
    return sorted(descriptors)


def _exit_code(prefork_server: socket.socket) -> int:
    """The forked process's exit code, or minus its signal. 1 if the prefork server was killed and did not report it."""
    answer = b""
    with contextlib.suppress(OSError):
        while part := prefork_server.recv(64):
            answer += part
    return int(answer or b"1")


def _end_as(code: int) -> None:
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
