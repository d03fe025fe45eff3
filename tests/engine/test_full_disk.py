"""A full disk: no work is started whose answer cannot be stored, and an answer in hand is kept until there is space."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from dagster_offload.engine.extraction import run
from dagster_offload.engine.extraction.pool import TextLanes
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.scan import scan
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.errors import NoRoom
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.rows import State
from dagster_offload.postgres import stop_postgres
from dagster_offload.postgres.room import room_of
from dagster_offload.settings import Settings, load_settings
from dagster_offload.simulator.server import Router
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from dagster_offload.testing import ChangeTiming
from tests.support.acceptance import wait_for
from tests.support.disks import Disk, fill_pages, small_disk
from tests.support.engine import Engine, an_engine
from tests.support.patience import PATIENCE_SECONDS

MORE_THAN_ANY_DISK = 2**60
KEYS = [f"{n}.txt" for n in range(6)]


@pytest.mark.rule("disk-1")
def test_a_drain_on_a_disk_with_too_little_space_makes_no_call_and_names_the_setting(engine: Engine) -> None:
    engine.texts(*KEYS)
    with pytest.raises(NoRoom, match=r"the disk of .* has .*iB free, .* OFFLOAD_MIN_FREE_DISK") as refused:
        engine.drain(min_free_disk=MORE_THAN_ANY_DISK)
    assert "free some space" in str(refused.value)
    assert engine.router.completions() == []
    assert engine.counts(CLASSIFY).pending == len(KEYS)


@pytest.mark.rule("disk-1")
def test_a_drain_names_a_disk_that_got_full_though_the_last_document_is_deferred_in_another_stage(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.texts("a.txt")
    engine.router.set(mode="cold")
    monkeypatch.setattr("dagster_offload.drain.shortage_of", lambda _settings: "the disk of /home is full")
    with pytest.raises(NoRoom, match=r"the disk of /home is full\. Documents: 0 done, 1 deferred, 0 left"):
        engine.drain()


@pytest.mark.rule("disk-1")
def test_the_sensor_launches_no_drain_and_makes_no_request_while_the_disk_is_full(engine: Engine) -> None:
    engine.texts(*KEYS)
    decision = decide_drain(engine.settings(min_free_disk=MORE_THAN_ANY_DISK), engine.ledger)
    assert not decision.launch
    assert "OFFLOAD_MIN_FREE_DISK" in decision.message
    assert "6 documents due" in decision.message
    assert engine.router.log()["requests"] == []


@pytest.mark.rule("disk-1")
def test_a_run_waits_for_space_and_does_not_fail(engine: Engine) -> None:
    engine.texts("a.txt")
    summary = engine.run("a.txt", min_free_disk=MORE_THAN_ANY_DISK)
    assert summary.failed == ()
    assert summary.wait_seconds == 60
    assert "OFFLOAD_MIN_FREE_DISK" in str(summary.wait_reason)
    assert engine.router.completions() == []
    assert engine.run("a.txt").wait_seconds is None


@pytest.mark.rule("disk-1")
def test_extraction_that_goes_on_after_a_shortage_reports_no_fault(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes: list[TextLanes] = []
    shortages: list[str] = []

    class WatchedLanes(TextLanes):
        def __enter__(self) -> Self:
            lanes.append(self)
            return super().__enter__()

    def shortage_once(_settings: Settings) -> str | None:
        if shortages or not lanes[-1].held:
            return None
        shortages.append("the disk is full")
        return shortages[-1]

    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(run, "TextLanes", WatchedLanes)
    monkeypatch.setattr(run, "shortage_of", shortage_once)
    for number in range(40):
        (engine.library / f"{number}.txt").write_text(f"Letter {number} to the landlord.")
    scan(engine.settings(), engine.ledger)
    counts = run_extraction(engine.settings(), engine.ledger)
    assert shortages
    assert (counts.done, counts.machine_fault) == (40, None)


@pytest.mark.rule("disk-1")
def test_extraction_claims_nothing_while_the_disk_is_full_and_fails_no_document(engine: Engine) -> None:
    (engine.library / "a.txt").write_text("A letter to the landlord about the heating.")
    engine.scan()
    engine.put("b.txt")
    engine.options["min_free_disk"] = MORE_THAN_ANY_DISK
    with pytest.raises(NoRoom):
        engine.scan()
    counts = run_extraction(engine.settings(), engine.ledger)
    assert "OFFLOAD_MIN_FREE_DISK" in str(counts.machine_fault)
    item = engine.item("b.txt", EXTRACT)
    assert (item["state"], item["attempts"]) == (State.PENDING, 0)


def test_the_disk_of_the_users_own_postgres_is_not_judged_by_the_homes(tmp_path: Path) -> None:
    assert room_of(load_settings(home=tmp_path, postgres_url="postgresql://h/d")) is None


@pytest.fixture
def disk() -> Iterator[Disk]:
    with small_disk(400) as disk:
        yield disk


@pytest.fixture
def on_disk(disk: Disk, router: Router) -> Iterator[Engine]:
    """An engine whose home, with its embedded Postgres, is on a small disk."""
    home = disk.folder / "home"
    home.mkdir(mode=0o711)
    settings = load_settings(home=home, min_free_disk=0)
    try:
        with (
            open_ledger(settings) as ledger,
            an_engine(ledger, router, home, min_free_disk=0, deep_concurrency=3) as engine,
        ):
            try:
                yield engine
            finally:
                disk.free()  # before the calls that are held are answered and stored
    finally:
        disk.free()
        stop_postgres(home)


@pytest.mark.root
@pytest.mark.rule("disk-2")
def test_answers_in_hand_on_a_full_disk_are_stored_when_there_is_space_and_no_call_is_repeated(
    on_disk: Engine, disk: Disk, change_timing: ChangeTiming, caplog: pytest.LogCaptureFixture
) -> None:
    change_timing(ledger_patience=0.0)
    engine = on_disk
    engine.texts(*KEYS)
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain)
    wait_for(lambda: engine.router.log()["open"] == 3, "3 open calls")
    disk.fill()
    # Large answers do not fit into the pages that Postgres has already allocated.
    fill_pages(engine.ledger.conninfo)
    engine.router.set(hold=False)
    wait_for(lambda: "free some space on the disk" in caplog.text or drain.done(), "the advice")
    assert not drain.done(), drain.exception()
    disk.free()
    summary = drain.result(PATIENCE_SECONDS)
    assert (summary.done, summary.failed, summary.left) == (6, 0, 0)
    assert set(Counter(engine.asked()).values()) == {1}
    assert len(engine.asked()) == 12
    assert engine.counts(CLASSIFY).done == engine.counts(SUMMARIZE).done == 6
