"""`pause` and `resume`: what a person types, and what `status`, `drain` and `--json` show of it."""

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dagster_offload.cli.pause import end_of_pause
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.simulator import Router
from dagster_offload.testing import ChangeTiming
from tests.support.cli import Call

NOON = datetime(2026, 11, 27, 11, tzinfo=UTC)  # in Berlin


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as here:
        here.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("18:00", "2026-11-27T17:00"),
        ("11:59", "2026-11-28T10:59"),  # tomorrow
        ("12:00", "2026-11-28T11:00"),
        ("2026-12-01", "2026-11-30T23:00"),
        ("2026-12-01 18:00", "2026-12-01T17:00"),
        ("2027-07-01 18:00", "2027-07-01T16:00"),  # in summer
        ("2026-12-01T18:00+00:00", "2026-12-01T18:00"),
        ("30m", "2026-11-27T11:30"),
        ("2 h", "2026-11-27T13:00"),
        ("3d", "2026-11-30T11:00"),
    ],
)
@pytest.mark.usefixtures("in_berlin")
def test_the_end_of_a_pause_is_a_local_time_or_a_duration(text: str, end: str) -> None:
    assert end_of_pause(text, NOON) == datetime.fromisoformat(end).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "25:00", "12:60", "2026-11-26", "0h", "99999d", "", "2026-02-30"])
def test_a_time_that_makes_no_sense_is_refused(call: Call, with_ledger: str, text: str) -> None:
    refused = call("pause", "--until", text)
    assert refused.exit_code == 2
    assert "is no time in the future: write 18:00" in refused.output
    assert json.loads(call("status", "--json").stdout)["rests"] == []


def test_a_paused_slot_is_shown_and_used_again_after_resume(call: Call, scanned: Path, router: Router) -> None:
    paused = call("pause")
    assert (paused.exit_code, paused.output) == (0, "Every slot is paused. To use it again: dagster-offload resume\n")
    shown = call("status").output
    assert ": resting: paused since " in " ".join(shown.split())
    assert "until `dagster-offload resume deep`" in " ".join(shown.split())
    assert json.loads(call("status", "--json").stdout)["rests"][0]["kind"] == "paused"
    refused = call("drain", "--json")
    assert refused.exit_code == 75
    assert "paused since" in json.loads(refused.stdout)["reason"]
    assert router.completions() == []
    assert call("resume").output.startswith("No slot is paused now.\n")
    assert call("resume").output == "Nothing was paused.\n"
    assert json.loads(call("status", "--json").stdout)["rests"] == []
    assert call("drain").exit_code == 0


def test_one_slot_is_paused_until_a_time(call: Call, scanned: Path, router: Router) -> None:
    paused = json.loads(call("pause", "deep", "--until", "2h", "--json").stdout)
    assert paused["paused"] == ["deep"]
    assert datetime.fromisoformat(paused["until"]) > datetime.now(UTC)
    assert "deep is paused until " in call("pause", "deep", "--until", "2h").output
    assert ": resting until " in " ".join(call("status").output.split())
    assert json.loads(call("resume", "primary", "--json").stdout) == {"resumed": []}
    assert json.loads(call("resume", "deep", "--json").stdout) == {"resumed": ["deep"]}


def test_an_unknown_slot_is_refused(call: Call, with_ledger: str) -> None:
    assert call("pause", "big").exit_code == 2


def test_status_shows_hours_and_a_wake_that_fails(
    call: Call, scanned: Path, router: Router, change_timing: ChangeTiming
) -> None:
    from dagster_offload.engine.slot.launch import decide_drain
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.settings import load_settings

    change_timing(wake_shown=240.0)
    os.environ["OFFLOAD_DEEP_WAKE_COMMAND"] = "/bin/false"
    router.stop()
    with open_ledger(load_settings()) as ledger:
        assert "waking it failed: the program ended with exit code 1" in decide_drain(load_settings(), ledger).message
    shown = " ".join(call("status").output.split())
    assert "wake waking failed once, " in shown
    assert ": the program ended with exit code 1" in shown
    router.start()
    assert json.loads(call("status", "--json").stdout)["wakes"] is None  # it answers: nothing to explain
    local = datetime.now(UTC).astimezone()
    os.environ["OFFLOAD_DEEP_HOURS"] = f"{local + timedelta(hours=6):%H:%M}-{local + timedelta(hours=9):%H:%M}"
    assert f"outside its hours, {os.environ['OFFLOAD_DEEP_HOURS']} (OFFLOAD_DEEP_HOURS)" in " ".join(
        call("status").output.split()
    )


def test_beside_a_drain_that_has_a_call_open_status_says_that_the_others_wait_for_resume(
    call: Call, scanned: Path, router: Router, with_ledger: str
) -> None:
    router.set(mode="cold")
    call("pause")
    with Ledger(with_ledger) as ledger, Worker(ledger, "drain"):
        shown = call("status").stdout
    assert "until `dagster-offload resume deep`, and a drain waits for its open calls" in shown
    assert "continues when the slot is back" not in shown
