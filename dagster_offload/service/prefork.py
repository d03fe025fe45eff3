"""The prefork server: a copy of a process that has imported everything. New processes are forked from it.

Dagster starts a run's process with `multiprocessing`'s `spawn`: a new interpreter imports Dagster, its storages and our
definitions, which takes two seconds of processor time before the first step. `multiprocessing.set_executable` replaces
the interpreter by `prefork_client.py`. That program passes its arguments and open files to the prefork server and
stands in for the forked process until it ends. The server is forked before its parent starts a thread. Why it is built
this way: docs/decisions/0004-prefork.md.
"""

import contextlib
import fcntl
import json
import multiprocessing
import os
import select
import shlex
import signal
import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from dagster_offload.service import prefork_client

# The prefork server's own descriptors start here, above the numbers that a new process expects for its files.
FIRST_OWN_FD = 256
MOST_FILES = 64
LONGEST_REQUEST_BYTES = 65_536
RECEIVE_SECONDS = 5.0


def start_prefork_server(socket_file: Path) -> None:
    """Fork a prefork server from this process and make `multiprocessing` start new processes from it.

    Returns in the calling process. Does nothing if forking is not safe (this process has threads, or the platform is not
    Linux) or if the folder of `socket_file` does not allow programs (mounted `noexec`). The folder must be private to its
    owner: a process that connects to the socket can run any code as this user.
    """
    if not allows_prefork(socket_file.parent) or threading.active_count() > 1:
        return
    client = _write_client(socket_file)
    socket_file.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(socket_file))
    listener.listen(64)
    parent_pipe, our_end = os.pipe()
    multiprocessing.set_executable(str(client))  # also in the server: a run's process starts the process of its step
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or each copy would write what is left in it
    if os.fork() == 0:
        os.close(our_end)
        _PreforkServer(_moved(listener), _moved_fd(parent_pipe)).serve()
    listener.close()
    os.close(parent_pipe)


def allows_prefork(folder: Path) -> bool:
    """Whether a prefork server can run with its socket in this folder: on Linux, and not if it is mounted `noexec`."""
    return sys.platform == "linux" and not os.statvfs(folder).f_flag & os.ST_NOEXEC


def runs_socket(code_socket: Path) -> Path:
    """The socket of the prefork server that belongs to a code server."""
    return code_socket.with_name("runs.sock")


def prefork_command(socket_file: Path, program: str, *arguments: str) -> tuple[str, ...]:
    """The argument vector that forks a process which runs this Python program, with a mark and `arguments` in `sys.argv`.

    If no prefork server answers at `socket_file`, Python starts as usual and runs the program.
    """
    return (*_client_command(socket_file), "-c", program, prefork_client.ASKED, *arguments)


def _client_command(socket_file: Path) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", prefork_client.__file__, str(socket_file))


def _write_client(socket_file: Path) -> Path:
    """Write the program that `spawn` starts instead of Python. Returns its path."""
    client = socket_file.with_suffix(".sh")
    command = _client_command(socket_file)
    client.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    client.chmod(0o700)
    return client


@dataclass
class _PreforkServer:
    """Forks processes and reports how each one ended. It has no threads: forking a process with threads may hang."""

    listener: socket.socket
    parent_pipe: int  # reaches end-of-file when the parent process ends
    clients: dict[int, socket.socket] = field(default_factory=dict)  # by the id of the process forked for each

    def serve(self) -> NoReturn:
        """Fork processes until the parent process ends, and report their exits until the last of them has ended.

        In each forked process, ends in `SystemExit`.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler must exist, or nothing is written to the pipe below
        woken, wake = (_moved_fd(fd) for fd in os.pipe())
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        has_parent = True
        while has_parent or self.clients:
            from_parent = [self.listener, self.parent_pipe] if has_parent else []
            waited_for: list[Any] = [woken, *from_parent, *self.clients.values()]
            ready, _, _ = select.select(waited_for, [], [])
            self._kill_processes_without_client(ready)
            if woken in ready:
                os.read(woken, 4096)
                self._report_exits()
            if self.parent_pipe in ready:
                self.listener.close()  # the next code server's prefork server forks what starts from now on
                has_parent = False
            elif self.listener in ready:
                self._fork(_moved(self.listener.accept()[0]), woken, wake)
        os._exit(0)

    def _kill_processes_without_client(self, ready: list[Any]) -> None:
        """Kill each process whose client was killed: for `multiprocessing`, the client is the process."""
        for pid, client in self.clients.items():
            if client in ready:
                os.kill(pid, signal.SIGKILL)

    def _report_exits(self) -> None:
        while self.clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self.clients.pop(pid) as client, contextlib.suppress(OSError):
                client.sendall(str(os.waitstatus_to_exitcode(status)).encode())

    def _fork(self, client: socket.socket, woken: int, wake: int) -> None:
        try:
            request, files = _receive(client)
        except (OSError, ValueError):
            client.close()
            return
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            others = (client.fileno() for client in self.clients.values())
            for fd in (self.listener.fileno(), self.parent_pipe, woken, wake, *others):
                os.close(fd)
            # It keeps its end of `client` open, so the client sees it end even after the prefork server was killed.
            _become(request, files, _moved(client, max(FIRST_OWN_FD, *request["files"]) + 1))
        for fd in files:
            os.close(fd)
        self.clients[pid] = client


def _receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive a request: the program to run, and the open files it expects."""
    client.settimeout(RECEIVE_SECONDS)
    message, files, _, _ = socket.recv_fds(client, LONGEST_REQUEST_BYTES, MOST_FILES)
    request: dict[str, Any] = json.loads(message)
    client.settimeout(None)
    return request, files


def _become(request: dict[str, Any], files: list[int], client: socket.socket) -> NoReturn:
    """Turn this process into the requested one. Ends in `SystemExit`, as `python -c` does."""
    held = [_moved_fd(fd, client.fileno()) for fd in files]
    for fd, number in zip(held, request["files"], strict=True):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(request["folder"])
    sys.argv = ["-c", *request["arguments"]]
    exec(request["program"], {"__name__": "__main__"})  # noqa: S102 - the program that `spawn` passes to Python
    sys.exit()


def _moved(opened: socket.socket, least: int = FIRST_OWN_FD) -> socket.socket:
    return socket.socket(fileno=_moved_fd(opened.detach(), least))


def _moved_fd(fd: int, least: int = FIRST_OWN_FD) -> int:
    """Move an open file to a descriptor of at least `least`. Returns the new descriptor."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(fd)
    return moved
