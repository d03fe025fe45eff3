"""Calls in a daemon thread. Unlike an executor's, it holds up neither the end of an event loop nor that of the process."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def start_in_daemon_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Call it in a thread of its own. A caller that waits no longer leaves the thread to itself."""
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # if the waiting task is cancelled, the thread can still set its result

    def run() -> None:
        try:
            result.set_result(call(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            result.set_exception(error)

    threading.Thread(target=run, name=getattr(call, "__name__", "call"), daemon=True).start()
    return result
