"""A signal ends the engine's event loop in any state and is raised after that."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvloop

from dagster_offload.engine.session import run_stoppable


class Interrupted(BaseException):
    """Like the exception of Dagster's handler: not a `KeyboardInterrupt`, so a loop treats it as a callback's error."""


@contextmanager
def handled_by(handler: Any, signum: int = signal.SIGTERM) -> Iterator[None]:
    before = signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, before)


def interrupt(_signum: int, _frame: object) -> None:
    raise Interrupted


async def interrupted_in_a_callback(ended: list[str]) -> str:
    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
    try:
        return await wait_for_ever()
    finally:
        await asyncio.sleep(0)
        ended.append("gave back")


async def wait_for_ever() -> str:
    await asyncio.get_running_loop().create_future()
    return "never"


def test_a_signal_in_a_callback_ends_the_work_and_is_raised_after_its_cleanup() -> None:
    ended: list[str] = []
    with handled_by(interrupt), pytest.raises(Interrupted):
        run_stoppable(interrupted_in_a_callback(ended))
    assert ended == ["gave back"]


def test_a_signal_whose_handler_raises_nothing_still_ends_the_work() -> None:
    with handled_by(lambda *_: None), pytest.raises(KeyboardInterrupt):
        run_stoppable(interrupted_in_a_callback([]))


def test_ctrl_c_raises_keyboard_interrupt() -> None:
    async def pressed() -> str:
        signal.raise_signal(signal.SIGINT)
        return await wait_for_ever()

    with handled_by(signal.default_int_handler, signal.SIGINT), pytest.raises(KeyboardInterrupt):
        run_stoppable(pressed())


def test_a_signal_from_outside_ends_a_loop_that_only_waits() -> None:
    started = threading.Event()

    def send() -> None:
        started.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    async def waiting() -> str:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        asyncio.get_running_loop().call_soon(started.set)
        return await wait_for_ever()

    sender = threading.Thread(target=send)
    sender.start()
    with handled_by(interrupt), pytest.raises(Interrupted):
        run_stoppable(waiting())
    sender.join()


def test_an_ignored_signal_stays_ignored() -> None:
    async def ignored() -> str:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        return "done"

    with handled_by(signal.SIG_IGN, signal.SIGINT):
        assert run_stoppable(ignored()) == "done"


@pytest.mark.parametrize("end", [lambda: "done", lambda: 1 / 0])
def test_the_handlers_are_restored(end: Callable[[], Any]) -> None:
    async def work() -> Any:
        return end()

    with handled_by(interrupt):
        with suppress(ZeroDivisionError):
            run_stoppable(work())
        assert signal.getsignal(signal.SIGTERM) is interrupt
