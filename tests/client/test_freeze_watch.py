"""The freeze watch: it ends the calls to a frozen slot, and does not end slow calls."""

import asyncio
from collections.abc import Iterator

import pytest

from dagster_offload.client.freeze_watch import SILENT_PROBES, FreezeWatch
from dagster_offload.errors import SlotFrozen, is_deferrable_error
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.health import ProbeResult

SLOT = SlotConfig("deep", "http://127.0.0.1:1", "m")
GREEN = ProbeResult(True, "ok", answered=True)
RED = ProbeResult(False, "busy", answered=True)
SILENT = ProbeResult(False, "no answer", answered=False)


class Probes:
    """Returns the scripted results in order, then repeats the last; `spent` is set at the end of the script."""

    def __init__(self, *results: ProbeResult) -> None:
        self._results: Iterator[ProbeResult] = iter(results)
        self._last = results[-1]
        self.spent = asyncio.Event()

    async def __call__(self, _slot: SlotConfig) -> ProbeResult:
        result = next(self._results, None)
        if result is None:
            self.spent.set()
        return result or self._last


async def never_ends() -> str:
    await asyncio.Event().wait()
    return "unreachable"


@pytest.mark.rule("breaker-7")
async def test_three_silent_probes_in_a_row_end_an_open_call() -> None:
    async with FreezeWatch(SLOT, Probes(GREEN, SILENT, SILENT, SILENT), every_seconds=0.001) as freeze_watch:
        with pytest.raises(SlotFrozen) as caught:
            await freeze_watch.beside(never_ends())
    assert is_deferrable_error(caught.value)


async def test_a_slot_that_never_answered_a_probe_during_a_call_keeps_its_calls() -> None:
    """Some servers answer no probe while they generate."""
    probes = Probes(*[SILENT] * 8)
    async with FreezeWatch(SLOT, probes, every_seconds=0.001) as freeze_watch:

        async def until_spent() -> str:
            await probes.spent.wait()
            return "answer"

        assert await freeze_watch.beside(until_spent()) == "answer"


@pytest.mark.rule("breaker-7")
async def test_an_answer_after_the_call_says_nothing_about_probes_during_a_call() -> None:
    """Some servers answer a probe only when they have generated."""
    is_probed, has_ended, was_answered, is_silent = (asyncio.Event() for _ in range(4))
    probes = 0

    async def probe(_slot: SlotConfig) -> ProbeResult:
        nonlocal probes
        probes += 1
        if probes == 1:
            is_probed.set()
            await has_ended.wait()
            was_answered.set()
            return GREEN
        if probes > SILENT_PROBES + 2:
            is_silent.set()
        return SILENT

    async def until(event: asyncio.Event) -> str:
        await event.wait()
        return "answer"

    async with FreezeWatch(SLOT, probe, every_seconds=0.001) as freeze_watch:
        assert await freeze_watch.beside(until(is_probed)) == "answer"
        has_ended.set()
        await was_answered.wait()
        assert await freeze_watch.beside(until(is_silent)) == "answer"


@pytest.mark.rule("breaker-7")
async def test_calls_that_are_answered_between_silent_probes_are_not_ended() -> None:
    """One task makes them, and the next call is open when the third silent probe ends."""
    probing, next_is_open, probes = asyncio.Event(), asyncio.Event(), 0

    async def probe(_slot: SlotConfig) -> ProbeResult:
        nonlocal probes
        probes += 1
        if probes == 1:
            return GREEN
        next_is_open.clear()
        probing.set()
        await next_is_open.wait()
        return SILENT

    async def until_probed() -> str:
        next_is_open.set()
        await probing.wait()
        probing.clear()
        return "answer"

    async with FreezeWatch(SLOT, probe, every_seconds=0.001) as freeze_watch:
        while probes < 3 * SILENT_PROBES:
            assert await freeze_watch.beside(until_probed()) == "answer"


@pytest.mark.rule("breaker-7")
async def test_calls_of_which_one_is_always_open_are_kept_if_none_is_open_during_three_silent_probes() -> None:
    """A server that answers no probe while it generates: each call ends after two of them."""
    probes, changed, ends = 0, asyncio.Condition(), list[int]()

    async def probe(_slot: SlotConfig) -> ProbeResult:
        nonlocal probes
        async with changed:
            # However slow this machine is, a call ends before the next probe.
            await changed.wait_for(lambda: all(end > probes for end in ends))
            probes += 1
            changed.notify_all()
        return GREEN if probes == 1 else SILENT

    async def pass_probes(count: int) -> str:
        end = probes + count
        ends.append(end)
        async with changed:
            await changed.wait_for(lambda: probes >= end)
        return "answer"

    async def note_end() -> None:
        async with changed:
            ends.remove(min(ends))
            changed.notify_all()

    async with FreezeWatch(SLOT, probe, every_seconds=0.001) as freeze_watch:

        async def one_after_another(*, wait: int) -> None:
            await pass_probes(wait)
            await note_end()
            for _ in range(2 * SILENT_PROBES):
                assert await freeze_watch.beside(pass_probes(2)) == "answer"
                await note_end()

        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(one_after_another(wait=0))
            lanes.create_task(one_after_another(wait=1))


async def test_an_unhealthy_answer_counts_as_an_answer() -> None:
    probes = Probes(GREEN, SILENT, SILENT, RED, SILENT, SILENT, GREEN)
    async with FreezeWatch(SLOT, probes, every_seconds=0.001) as freeze_watch:

        async def until_spent() -> str:
            await probes.spent.wait()
            return "answer"

        assert await freeze_watch.beside(until_spent()) == "answer"


async def test_a_cancelled_call_is_not_a_slot_fault() -> None:
    async with FreezeWatch(SLOT, Probes(GREEN), every_seconds=0.001) as freeze_watch:
        call = asyncio.create_task(freeze_watch.beside(never_ends()))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_an_error_of_the_call_propagates_unchanged() -> None:
    async def fails() -> str:
        raise ValueError("its own")

    async with FreezeWatch(SLOT, Probes(GREEN), every_seconds=0.001) as freeze_watch:
        with pytest.raises(ValueError, match="its own"):
            await freeze_watch.beside(fails())


async def test_a_call_that_the_watch_and_its_caller_both_end_is_cancelled() -> None:
    async with FreezeWatch(SLOT, Probes(GREEN), every_seconds=60) as freeze_watch:
        call = asyncio.create_task(freeze_watch.beside(never_ends()))
        await asyncio.sleep(0)
        freeze_watch._ended.update(freeze_watch._open)  # as the watch does
        call.cancel()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_the_caller_of_a_call_that_the_watch_ended_is_not_cancelled() -> None:
    async with FreezeWatch(SLOT, Probes(GREEN, SILENT, SILENT, SILENT), every_seconds=0.001) as freeze_watch:
        with pytest.raises(SlotFrozen):
            await freeze_watch.beside(never_ends())
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        async with asyncio.timeout(60):  # it compares the number of cancellations
            assert await freeze_watch.beside(asyncio.sleep(0, "answer")) == "answer"
