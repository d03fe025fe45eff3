"""A worker whose terminal closes (SIGHUP) stops as by SIGTERM. An ignored SIGHUP stays ignored, as `nohup` requires.

Celery itself dies of SIGHUP on a terminal, with its step, and starts itself again elsewhere, with arguments that do not fit.
"""

import signal
from typing import Any

from celery import Celery, bootsteps, signals


class _StopOnHangup(bootsteps.StartStopStep):  # type: ignore[misc]
    """It starts after Celery has set its own handlers, and before the worker takes a step."""

    def start(self, _worker: Any) -> None:
        signal.signal(signal.SIGHUP, _stop)


class _IgnoreHangup(bootsteps.StartStopStep):  # type: ignore[misc]
    def start(self, _worker: Any) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def stop_on_hangup(app: Celery) -> None:
    """Let a worker of `app` stop politely when its terminal closes."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    app.steps["worker"].add(_IgnoreHangup if is_ignored else _StopOnHangup)
    signals.worker_process_init.connect(_leave_hangup_to_the_worker)


def _stop(*_: object) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the shell sends one, and its end another
    signal.raise_signal(signal.SIGTERM)


def _leave_hangup_to_the_worker(**_: Any) -> None:
    """The process that executes the steps. The worker ends it, after the time to finish."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
