"""A slot that falls asleep during an answer is noticed long before the read timeout. One more call does its document later.

Probes during the call notice a frozen process, and TCP notices a vanished host. The intervals are scaled down here;
`tests/faults/full_scale.py` runs the same with the real ones.
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
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def scaled(monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming) -> None:
    """A 30th of the freeze watch's intervals, an 8th of TCP's (whole seconds only)."""
    change_timing(watch_every=0.5)
    change_timing(probe_limit=0.5)
    for name, seconds in (("IDLE", 2), ("INTERVAL", 1), ("PROBES", 2)):
        monkeypatch.setattr(transport, f"KEEPALIVE_{name}{'' if name == 'PROBES' else '_SECONDS'}", seconds)
    monkeypatch.setattr(transport, "UNACKNOWLEDGED_SECONDS", 4)


@pytest.fixture
def other_host() -> Iterator[OtherHost]:
    if (reason := cannot_make_hosts()) is not None:
        skip_or_fail(reason)
    with OtherHost() as host:
        yield host


def test_a_frozen_process_is_noticed_and_one_more_call_does_its_document_later(
    empty_ledger: Ledger, tmp_path: Path, change_timing: ChangeTiming
) -> None:
    with simulator() as (process, router):
        asleep = Asleep(empty_ledger, router, tmp_path)
        drain = asleep.start_drain_and_wait_for_a_probe()
        process.send_signal(signal.SIGSTOP)
        try:
            summary = drain.result()  # the freeze watch ends it: the read timeout is longer than a test may take
        finally:
            process.send_signal(signal.SIGCONT)
        assert summary.is_slot_unavailable
        assert "frozen: no answer to 3 probes" in str(summary.reason)
        change_timing(probe_limit=PATIENCE_SECONDS)
        asleep.assert_done_later_with_one_more_call()


async def test_the_first_probe_during_a_call_is_early_so_that_an_early_freeze_is_noticed(
    change_timing: ChangeTiming,
) -> None:
    change_timing(watch_first=0.001)
    probed = asyncio.Event()

    async def ask(_slot: SlotConfig) -> ProbeResult:
        probed.set()
        return ProbeResult(True, "ok", answered=True)

    async with FreezeWatch(SlotConfig("deep", "http://127.0.0.1:1", "m"), ask, every_seconds=3600) as watching:
        await watching.beside(asyncio.wait_for(probed.wait(), PATIENCE_SECONDS))


def test_a_slow_slot_that_answers_probes_keeps_its_call(
    empty_ledger: Ledger, tmp_path: Path, change_timing: ChangeTiming
) -> None:
    change_timing(probe_limit=PATIENCE_SECONDS)
    with simulator() as (_, router):
        asleep = Asleep(empty_ledger, router, tmp_path)
        drain = asleep.start_drain_and_wait_for_a_probe(probes=5)
        router.set(hold=False)
        assert drain.result().done == 1
        assert len(router.completions()) == 1


def test_a_vanished_host_is_noticed_and_one_more_call_does_its_document_later(
    empty_ledger: Ledger, other_host: OtherHost, tmp_path: Path, change_timing: ChangeTiming
) -> None:
    with simulator(other_host) as (_, router):
        asleep = Asleep(empty_ledger, router, tmp_path)
        drain = asleep.start_drain_and_wait_for_a_probe()
        other_host.vanish()
        summary = drain.result()
        assert summary.is_slot_unavailable
        other_host.come_back()
        change_timing(probe_limit=PATIENCE_SECONDS)
        asleep.assert_done_later_with_one_more_call()
