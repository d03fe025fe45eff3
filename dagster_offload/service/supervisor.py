"""Supervision of child processes: each in a group of its own, started again when it ends, none left behind.

A child is an argument vector; what it does is no concern of this file. A stop ends the groups, run workers that a
child started included. `kill -9` of the supervisor is covered by the watchdog (`watchdog.py`).
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dagster_offload.host.python_process import python_environment
from dagster_offload.service import watchdog

MAX_BACKOFF_SECONDS = 30.0
STABLE_AFTER_SECONDS = 30.0  # a child that lived this long starts again without a longer wait
CHECK_EVERY_SECONDS = 0.2
CHECK_LOGS_EVERY_SECONDS = 60.0
MAX_LOG_BYTES = 20_000_000
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Child:
    """A process to keep running. Its output is appended to `log`."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)  # added to ours


class StopRequest:
    """Set by a signal or by a thread, looked at by the loops. A plain flag: an Event's lock can deadlock in a handler."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def is_impatient(self) -> bool:
        """Asked a second time: end the children without grace."""
        return self.count > 1

    def wait(self, seconds: float) -> bool:
        """Return True as soon as a stop is asked for, False after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, CHECK_EVERY_SECONDS))
        return bool(self)


@contextlib.contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP ask for a stop.

    SIGINT also where the shell handed it down ignored (a script's `&` does that); an ignored SIGHUP stays ignored,
    which is what `nohup` is for.
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
    start_again_at: float | None = None  # set while it is down


class Supervisor:
    """Keeps children running until `stop`. `say` is told, in one line, whatever a person should know.

    Use it as a context manager: leaving it ends everything it started.
    """

    def __init__(self, say: Callable[[str], None], *, grace_seconds: float = 4.0) -> None:
        self._say = say
        self._grace_seconds = grace_seconds
        self._running: dict[str, _Running] = {}
        self._groups: set[int] = set()
        self._unreaped: list[subprocess.Popen[bytes]] = []
        self._watchdog = _start_watchdog(self._groups)
        self._logs_looked_at = time.monotonic()

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, child: Child) -> None:
        self._running[child.name] = _Running(child, self._spawn(child), time.monotonic())

    def run_once(self, child: Child) -> subprocess.Popen[bytes]:
        """Start a process that is to end by itself. It is not started again, but ended with the others."""
        return self._spawn(child)

    def pid(self, name: str) -> int:
        return self._running[name].process.pid

    def look(self) -> None:
        """One round: start again what has ended, forget groups that are empty, keep the logs small."""
        now = time.monotonic()
        for running in self._running.values():
            self._look_at(running, now)
        self._watch_the_watchdog()
        self._reap()
        if now - self._logs_looked_at >= CHECK_LOGS_EVERY_SECONDS:
            self._logs_looked_at = now
            for running in self._running.values():
                _keep_small(running.child.log)

    def watch(self, stop: StopRequest) -> None:
        """Look after the children until a stop is asked for."""
        while not stop.wait(CHECK_EVERY_SECONDS):
            self.look()

    def stop(self, is_impatient: Callable[[], bool] = lambda: False) -> None:
        """End every group: SIGTERM, at most `grace_seconds`, SIGKILL. Safe to call twice."""
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

    def _look_at(self, running: _Running, now: float) -> None:
        if running.start_again_at is None:
            code = running.process.poll()
            if code is None:
                return
            if now - running.started_at >= STABLE_AFTER_SECONDS:
                running.failures_in_a_row = 0
            self._put_off(running, now, f"ended ({ending(code)})")
        elif now >= running.start_again_at:
            try:
                running.process = self._spawn(running.child)
            except OSError as error:  # no process, descriptor, memory or disk to be had: that passes
                self._put_off(running, now, f"could not be started ({error.strerror or error})")
                return
            running.started_at = now
            running.start_again_at = None

    def _put_off(self, running: _Running, now: float, why: str) -> None:
        running.failures_in_a_row += 1
        # Bounded twice: after a night of failures the power alone would be too large for a float.
        wait = min(2.0 ** min(running.failures_in_a_row - 1, 10), MAX_BACKOFF_SECONDS)
        running.start_again_at = now + wait
        self._say(f"{running.child.name} {why}; starting it again in {wait:.0f} s. Log: {running.child.log}")

    def _spawn(self, child: Child) -> subprocess.Popen[bytes]:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(child.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own argument vectors, no shell
                child.argv,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                env={**python_environment(), **child.env},
                process_group=0,
            )
        finally:
            os.close(descriptor)
        self._unreaped.append(process)
        self._groups.add(process.pid)
        self._tell_watchdog("+", process.pid)
        return process

    def _reap(self) -> bool:
        """Collect what has ended and forget groups that are empty; whether any group is left."""
        self._unreaped = [process for process in self._unreaped if process.poll() is None]
        for group in [group for group in self._groups if not watchdog.is_alive(group)]:
            self._groups.discard(group)
            self._tell_watchdog("-", group)
        return bool(self._groups)

    def _signal(self, signum: signal.Signals) -> None:
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signum)

    def _tell_watchdog(self, sign: str, group: int) -> None:
        if self._watchdog.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):  # it was killed; `look` starts another and tells it everything
            self._watchdog.stdin.write(f"{sign}{group}\n".encode())
            self._watchdog.stdin.flush()

    def _watch_the_watchdog(self) -> None:
        if self._watchdog.poll() is None:
            return
        dead = self._watchdog
        with contextlib.suppress(OSError):  # nothing to start it with for now; the next look tries again
            self._watchdog = _start_watchdog(self._groups)
            if dead.stdin is not None:
                dead.stdin.close()


def _start_watchdog(groups: Iterable[int]) -> subprocess.Popen[bytes]:
    # It knows them from its first moment on: told afterwards, those of a supervisor that dies meanwhile would live on.
    return subprocess.Popen(  # noqa: S603 - our own file
        (sys.executable, "-I", "-S", watchdog.__file__, *map(str, groups)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def ending(returncode: int) -> str:
    """How a process ended, in words: `exit code 1`, `killed by SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def _keep_small(log: Path) -> None:
    """Move a log that has grown too large aside. The child goes on appending to the same file, now empty."""
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        with contextlib.suppress(OSError):  # the copy is a courtesy; a full disk needs the room all the more
            shutil.copyfile(log, log.with_suffix(log.suffix + ".1"))
        with contextlib.suppress(OSError):  # not even a disk that takes no change at all ends the children
            os.truncate(log, 0)
