"""A twin of a process that has imported everything, forked before there was a thread; new processes are forked from it.

A run's process is made by `multiprocessing`'s `spawn`: a fresh interpreter, which imports Dagster, its storages and our
definitions, two seconds of processor time before its first step. `multiprocessing.set_executable` says what is started in
its place: `twin_call.py`, which hands arguments and open files to the twin and stands for what is forked there.
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

# The twin's own open files stand above the numbers under which a new process expects its own.
FIRST_OWN_FD = 256
MOST_FILES = 64
LONGEST_REQUEST_BYTES = 65_536
RECEIVE_SECONDS = 5.0


def start_prefork_server(socket_file: Path) -> None:
    """Fork the twin of this process, and have `multiprocessing` make new processes from it.

    Returns in the process that called, and does nothing where forking is not safe (threads, macOS) or where programs in
    `socket_file`'s folder cannot be started. Only the owner of that folder may get there: who does can run anything.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return
    caller = _write_caller(socket_file)
    if not os.access(caller, os.X_OK):  # a folder on a file system without programs
        return
    socket_file.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(socket_file))
    listener.listen(64)
    life, our_end = os.pipe()
    multiprocessing.set_executable(str(caller))  # in the twin, too: a run's process starts that of its step
    if os.fork() == 0:
        os.close(our_end)
        _PreforkServer(_moved(listener), _moved_fd(life)).serve()
    listener.close()
    os.close(life)


def _write_caller(socket_file: Path) -> Path:
    """The program `spawn` starts instead of Python."""
    caller = socket_file.with_suffix(".sh")
    words = (sys.executable, "-I", "-S", prefork_client.__file__, str(socket_file))
    caller.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
    caller.chmod(0o700)
    return caller


@dataclass
class _PreforkServer:
    """Forks, and tells how what it forked has ended. It has no thread: forking a process with threads may hang."""

    listener: socket.socket
    life: int  # a pipe that ends with the process this is the twin of
    callers: dict[int, socket.socket] = field(default_factory=dict)  # by the process forked for them

    def serve(self) -> NoReturn:
        """Does not return: raises `SystemExit` in each forked process at its end."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the pipe below is written to
        woken, wake = (_moved_fd(fd) for fd in os.pipe())
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        while True:
            waited_for: list[Any] = [self.listener, self.life, woken, *self.callers.values()]
            ready, _, _ = select.select(waited_for, [], [])
            if self.life in ready:
                os._exit(0)  # what was forked goes on, as a spawned process does
            self._end_those_without(ready)
            if woken in ready:
                os.read(woken, 4096)
                self._tell_ends()
            if self.listener in ready:
                self._fork(_moved(self.listener.accept()[0]), woken, wake)

    def _end_those_without(self, ready: list[Any]) -> None:
        """End what was forked for a caller that was killed: to `multiprocessing`, the caller was the process."""
        for pid, caller in self.callers.items():
            if caller in ready:
                os.kill(pid, signal.SIGKILL)

    def _tell_ends(self) -> None:
        while self.callers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self.callers.pop(pid) as caller, contextlib.suppress(OSError):
                caller.sendall(str(os.waitstatus_to_exitcode(status)).encode())

    def _fork(self, caller: socket.socket, woken: int, wake: int) -> None:
        try:
            asked, files = _receive(caller)
        except (OSError, ValueError):
            caller.close()
            return
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for fd in (self.listener.fileno(), self.life, woken, wake, *(c.fileno() for c in self.callers.values())):
                os.close(fd)
            # With its end of `caller` open, so that the caller sees the end of it even where the twin is gone.
            _become(asked, files, _moved(caller, max(FIRST_OWN_FD, *asked["files"]) + 1))
        for fd in files:
            os.close(fd)
        self.callers[pid] = caller


def _receive(caller: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What is to be run, and the open files that go with it."""
    caller.settimeout(RECEIVE_SECONDS)
    message, files, _, _ = socket.recv_fds(caller, LONGEST_REQUEST_BYTES, MOST_FILES)
    asked: dict[str, Any] = json.loads(message)
    caller.settimeout(None)
    return asked, files


def _become(asked: dict[str, Any], files: list[int], caller: socket.socket) -> NoReturn:
    """Go on as the process that was asked for; ends in `SystemExit`, as `python -c` does."""
    held = [_moved_fd(fd, caller.fileno()) for fd in files]
    for fd, number in zip(held, asked["files"], strict=True):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(asked["folder"])
    sys.argv = ["-c", *asked["arguments"]]
    exec(asked["program"], {"__name__": "__main__"})  # noqa: S102 - what Python would have been given
    sys.exit()


def _moved(opened: socket.socket, least: int = FIRST_OWN_FD) -> socket.socket:
    return socket.socket(fileno=_moved_fd(opened.detach(), least))


def _moved_fd(fd: int, least: int = FIRST_OWN_FD) -> int:
    """The same open file under a number of at least `least`."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(fd)
    return moved
