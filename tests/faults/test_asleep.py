"""A slot that falls asleep in mid-answer is noticed long before the read timeout, and its document is done later with one
more call: a process that is frozen (by probes beside the call), and a host that vanishes (by TCP).

The product's intervals are scaled down here; `tests/faults/full_scale.py` runs the same with the real ones.
"""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.client import transport
from dagster_offload.client.freeze_watch import FreezeWatch
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.health import ProbeResult
from dagster_offload.testing import ChangeTiming
from tests.faults.full_scale import Asleep, OtherHost, cannot_make_hosts, simulator
from tests.support.needs import skip_or_fail


@pytest.fixture(autouse=True)
def scaled(monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming) -> None:
    """A 30th of the vigil's intervals, an 8th of TCP's (whole seconds only)."""
    change_timing(watch_every=0.5)
    change_timing(probe_limit=0.5)
    for name, seconds in (("IDLE", 2), ("INTERVAL", 1), ("PROBES", 2)):
        monkeypatch.setattr(transport, f"KEEPALIVE_{name}{'' if name == 'PROBES' else '_SECONDS'}", seconds)
    monkeypatch.setattr(transport, "UNACKNOWLEDGED_SECONDS", 4)


@pytest.fixture
def other_host() -> Iterator[OtherHost]:
    if (words := cannot_make_hosts()) is not None:
        skip_or_fail(words)
    with OtherHost() as host:
        yield host


def test_a_frozen_process_is_noticed_and_its_document_done_later_with_one_more_call(
    empty_ledger: Ledger, tmp_path: Path
) -> None:
    with simulator() as (process, router):
        asleep = Asleep(empty_ledger, router, tmp_path)
        drain = asleep.start_drain_and_wait_for_a_probe()
        process.send_signal(signal.SIGSTOP)
        try:
            summary = drain.result()  # ends by the watch: the read timeout is longer than a test may take
        finally:
            process.send_signal(signal.SIGCONT)
        assert summary.is_slot_unavailable
        assert "frozen: no answer to 3 probes" in str(summary.reason)
        asleep.assert_done_later_with_one_more_call()


async def test_the_first_look_beside_a_call_is_soon_so_that_a_slot_that_freezes_early_is_noticed_too(
    change_timing: ChangeTiming,
) -> None:
    change_timing(watch_first=0.001)
    looked = asyncio.Event()

    async def ask(_slot: SlotConfig) -> ProbeResult:
        looked.set()
        return ProbeResult(True, "ok", answered=True)

    async with FreezeWatch(SlotConfig("deep", "http://127.0.0.1:1", "m"), ask, every_seconds=3600) as watching:
        await watching.beside(asyncio.wait_for(looked.wait(), 10))


def test_a_slot_that_is_slow_and_answers_probes_is_left_alone(empty_ledger: Ledger, tmp_path: Path) -> None:
    with simulator() as (_, router):
        asleep = Asleep(empty_ledger, router, tmp_path)
        drain = asleep.start_drain_and_wait_for_a_probe(probes=5)
        router.set(hold=False)
        assert drain.result().done == 1
        assert len(router.completions()) == 1


def test_a_host_that_vanishes_is_noticed_and_its_document_done_later_with_one_more_call(
    empty_ledger: Ledger, other_host: OtherHost, tmp_path: Path
) -> None:
    with simulator(other_host) as (_, router):
        asleep = Asleep(empty_ledger, router, tmp_path)
        drain = asleep.start_drain_and_wait_for_a_probe()
        other_host.vanish()
        summary = drain.result()
        assert summary.is_slot_unavailable
        other_host.come_back()
        asleep.assert_done_later_with_one_more_call()
