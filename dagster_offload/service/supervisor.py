"""Supervises child processes: each has its own process group and is restarted when it ends. None outlives a stop.

A child with a listening socket may end while it is unused: the next connection starts it again. A child is an argument
vector; this file does not depend on what it does. A stop ends whole groups, including run workers that a child started.
After `kill -9` of the supervisor, the watchdog (`host/watchdog.py`) ends the groups.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dagster_offload.host import watchdog
from dagster_offload.host.python_process import python_environment
from dagster_offload.service.home import keep_log_small
from dagster_offload.service.say import Say

MAX_BACKOFF_SECONDS = 30.0
STABLE_AFTER_SECONDS = 30.0  # the back-off starts over for a child that ran this long
CHECK_EVERY_SECONDS = 0.2
CHECK_LOGS_EVERY_SECONDS = 60.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Child:
    """A process to keep running. Its output is appended to `log`.

    It inherits `listener`, under the same number. If it has one and ends with exit code 0, it starts again at the next
    connection, which waits in the socket meanwhile.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)  # added to this process's environment
    listener: socket.socket | None = None


class StopRequest:
    """Set by a signal or a thread, polled by the loops. A plain counter: an Event's lock can deadlock in a handler."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def is_impatient(self) -> bool:
        """Whether a second stop was requested: end the children without a grace period."""
        return self.count > 1

    def wait(self, seconds: float) -> bool:
        """Return True as soon as a stop is requested, False after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, CHECK_EVERY_SECONDS))
        return bool(self)


@contextlib.contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP request a stop during the block.

    SIGINT does so even if the shell passed it on as ignored (`&` in a script does that). An ignored SIGHUP stays
    ignored, as `nohup` requires.
    """
    before = {}
    for signum in STOP_SIGNALS:
        if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
            continue
        before[signum] = signal.signal(signum, stop)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@dataclass
class _Running:
    child: Child
    process: subprocess.Popen[bytes]
    started_at: float
    failures_in_a_row: int = 0
    restart_at: float | None = None  # set while the child is down
    kill_at: float | None = None  # set by `restart`, for a child that does not end
    is_unused: bool = False  # it ended because it was not used


class Supervisor:
    """Keeps children running until `stop`. `say` receives one-line messages for people.

    Use it as a context manager: leaving it ends everything it started.
    """

    def __init__(self, say: Say, *, grace_seconds: float = 4.0) -> None:
        self._say = say
        self._grace_seconds = grace_seconds
        self._running: dict[str, _Running] = {}
        self._groups: set[int] = set()
        self._unreaped: list[subprocess.Popen[bytes]] = []
        self._watchdog = watchdog.start(self._groups)
        self._logs: set[Path] = set()
        self._logs_checked_at = time.monotonic()

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, child: Child) -> None:
        """Start a child and keep it running. Raises `OSError` if it cannot be started."""
        self._running[child.name] = _Running(child, self._spawn(child), time.monotonic())

    def run_once(self, child: Child) -> subprocess.Popen[bytes]:
        """Start a process that ends by itself. It is not restarted. A stop ends it with the others."""
        return self._spawn(child)

    def restart(self, name: str) -> None:
        """End a child, with SIGKILL after the grace period, and start it again at the next check.

        Its group is left alone: processes that it started may live on.
        """
        running = self._running[name]
        running.process.terminate()
        running.restart_at = time.monotonic()
        running.kill_at = running.restart_at + self._grace_seconds

    def check(self) -> None:
        """Check once: restart children that have ended, forget empty groups, truncate large logs."""
        now = time.monotonic()
        for running in self._running.values():
            self._check(running, now)
        self._check_watchdog()
        self._reap()
        if now - self._logs_checked_at >= CHECK_LOGS_EVERY_SECONDS:
            self._logs_checked_at = now
            for log in self._logs:
                keep_log_small(log)

    def stop(self, is_impatient: Callable[[], bool] = lambda: False) -> None:
        """End every group: SIGTERM, then SIGKILL after at most `grace_seconds`. Safe to call twice."""
        deadline = time.monotonic() + self._grace_seconds
        self._signal(signal.SIGTERM)
        while self._reap() and time.monotonic() < deadline and not is_impatient():
            time.sleep(0.05)
        self._signal(signal.SIGKILL)
        for process in self._unreaped:
            process.wait()
        self._running.clear()
        self._unreaped.clear()
        self._groups.clear()
        if self._watchdog.stdin is not None and not self._watchdog.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._watchdog.stdin.close()
            self._watchdog.wait()

    def _check(self, running: _Running, now: float) -> None:
        if running.is_unused:
            if not _has_connection(running.child):
                return
            running.is_unused, running.restart_at = False, now
        if running.restart_at is None:
            code = running.process.poll()
            if code is None:
                return
            if code == 0 and running.child.listener is not None:
                running.is_unused, running.failures_in_a_row = True, 0
                return
            if now - running.started_at >= STABLE_AFTER_SECONDS:
                running.failures_in_a_row = 0
            self._schedule_restart(running, now, f"ended ({ending(code)})")
        elif running.process.poll() is None:
            if running.kill_at is not None and now >= running.kill_at:
                running.process.kill()
                running.kill_at = None
                self._say(f"{running.child.name} did not end at SIGTERM: killed. Log: {running.child.log}")
        elif now >= running.restart_at:
            try:
                running.process = self._spawn(running.child)
            except OSError as error:  # out of processes, descriptors, memory or disk: usually temporary
                self._schedule_restart(running, now, f"cannot be started ({error.strerror or error})")
                return
            running.started_at = now
            running.restart_at = running.kill_at = None

    def _schedule_restart(self, running: _Running, now: float, why: str) -> None:
        running.failures_in_a_row += 1
        # The exponent has a limit too: after a night of failures, the power would overflow a float.
        wait = min(2.0 ** min(running.failures_in_a_row - 1, 10), MAX_BACKOFF_SECONDS)
        running.restart_at = now + wait
        self._say(f"{running.child.name} {why}; restarting it in {wait:.0f} s. Log: {running.child.log}")

    def _spawn(self, child: Child) -> subprocess.Popen[bytes]:
        child.log.parent.mkdir(exist_ok=True)  # without its parents: the home may have been removed
        descriptor = os.open(child.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own argument vectors, no shell
                watchdog.reporting(child.argv),
                stdin=self._watchdog.stdin,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                env={**python_environment(), **child.env},
                process_group=0,
                pass_fds=() if child.listener is None else (child.listener.fileno(),),
            )
        finally:
            os.close(descriptor)
        self._logs.add(child.log)
        self._unreaped.append(process)
        self._groups.add(process.pid)
        return process

    def _reap(self) -> bool:
        """Reap ended processes and forget empty groups. Returns whether any group is left."""
        self._unreaped = [process for process in self._unreaped if process.poll() is None]
        for group in [group for group in self._groups if not watchdog.is_alive(group)]:
            self._groups.discard(group)
            self._report_end(group)
        return bool(self._groups)

    def _signal(self, signum: signal.Signals) -> None:
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signum)

    def _report_end(self, group: int) -> None:
        if self._watchdog.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):  # it was killed; `check` starts another with all groups
            self._watchdog.stdin.write(f"-{group}\n".encode())
            self._watchdog.stdin.flush()

    def _check_watchdog(self) -> None:
        if self._watchdog.poll() is None:
            return
        dead = self._watchdog
        with contextlib.suppress(OSError):  # out of processes or memory; the next check tries again
            self._watchdog = watchdog.start(self._groups)
            if dead.stdin is not None:
                dead.stdin.close()


def _has_connection(child: Child) -> bool:
    """Whether a connection waits to be accepted."""
    if child.listener is None:
        return False
    readable, _, _ = select.select([child.listener], [], [], 0)
    return bool(readable)


def ending(returncode: int) -> str:
    """Describe how a process ended: `exit code 1`, `killed by SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
