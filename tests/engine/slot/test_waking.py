"""A machine that is off is woken while work is due, a bounded number of times, and a wake that fails blames no document."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.engine.slot.waking import wake
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.slots import permits, rests
from dagster_offload.slot.config import DEEP
from dagster_offload.slot.waking import WakeConfig, magic_packet
from dagster_offload.stages.graph import CLASSIFY
from dagster_offload.testing import ChangeTiming
from tests.support.acceptance import is_running, wait_for
from tests.support.engine import Engine
from tests.support.patience import PATIENCE_SECONDS

MAC = "a4:83:e7:01:23:45"


@pytest.fixture
def network() -> Iterator[socket.socket]:
    """A UDP socket of this machine, which gets the packets."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(PATIENCE_SECONDS)
        yield receiver


@pytest.fixture
def beginning_of_day(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Twelve hours ago, and the day does not end: shortly after midnight, the wakes of some minutes ago are of yesterday."""
    beginning = datetime.now(UTC) - timedelta(hours=12)
    monkeypatch.setattr(rests, "beginning_of_day", lambda _now: beginning)
    return beginning


@pytest.fixture
def asleep(
    engine: Engine, network: socket.socket, change_timing: ChangeTiming, beginning_of_day: datetime
) -> Iterator[Engine]:
    """An engine with work, whose slot's machine is off and can be woken. A tick waits for the end of a wake."""
    change_timing(wake_shown=240.0)
    engine.texts("a.txt", "b.txt")
    engine.options |= {
        "deep_wake_mac": MAC,
        "deep_wake_address": "127.0.0.1",
        "deep_wake_port": str(network.getsockname()[1]),
    }
    engine.router.stop()
    yield engine
    engine.router.stop()
    engine.router.start()  # the fixtures below talk to it


def tick(engine: Engine) -> str:
    decision = decide_drain(engine.settings(), engine.ledger)
    assert not decision.launch
    return decision.message


def made(engine: Engine) -> int:
    return len(engine.sql("select 1 from wakes"))


@pytest.mark.rule("wake-1")
def test_a_machine_that_is_off_gets_a_magic_packet_and_then_the_work(asleep: Engine, network: socket.socket) -> None:
    assert "it was woken; 2 documents due" in tick(asleep)
    assert network.recv(1000) == magic_packet(MAC)
    asleep.router.start()
    assert decide_drain(asleep.settings(), asleep.ledger).launch
    assert asleep.drain().done == 2


@pytest.mark.rule("wake-2")
def test_ticks_one_after_another_wake_a_machine_once(asleep: Engine) -> None:
    for _ in range(4):
        tick(asleep)
    assert made(asleep) == 1


@pytest.mark.rule("wake-2")
def test_the_limit_of_a_day_is_kept_across_restarts(asleep: Engine, beginning_of_day: datetime) -> None:
    asleep.options["deep_wake_times_a_day"] = "1"
    tick(asleep)
    asleep.sql("update wakes set at = %s", beginning_of_day)  # the pause is over, the day is not
    with Ledger(asleep.ledger.conninfo) as restarted:
        assert "woken" not in decide_drain(asleep.settings(), restarted).message
    asleep.sql("update wakes set at = at - interval '1 second'")
    assert "it was woken" in tick(asleep)


@pytest.mark.rule("wake-1")
def test_a_machine_is_not_woken_without_work_in_a_rest_or_while_it_answers(asleep: Engine) -> None:
    asleep.ledger.run(rests.pause, DEEP, None)
    tick(asleep)
    asleep.ledger.run(rests.resume, DEEP)
    asleep.router.start()
    asleep.router.set(mode="warming")
    assert "warming" in tick(asleep)
    asleep.router.stop()
    worker = asleep.worker("run")
    assert asleep.ledger.run(permits.acquire, DEEP, worker, is_person=True)  # its server is busy with our call
    tick(asleep)
    asleep.ledger.run(permits.release, DEEP, worker)
    asleep.sql("update work_items set state = 'done' where state = 'pending'")
    tick(asleep)
    assert made(asleep) == 0


@pytest.mark.rule("wake-3")
def test_a_command_that_fails_for_a_week_is_bounded_named_and_blames_no_document(asleep: Engine) -> None:
    del asleep.options["deep_wake_mac"]
    asleep.options["deep_wake_command"] = "/bin/false --password secret"
    for _ in range(7):
        for _ in range(5):
            tick(asleep)
        asleep.sql("update wakes set at = at - interval '1 day'")
    assert made(asleep) == 7
    said = str(asleep.ledger.run(rests.describe_week, DEEP))
    assert said.startswith("waking failed 6 times since")  # the first is older than the week that is shown
    assert said.endswith(": the program ended with exit code 1")
    assert "secret" not in said
    assert asleep.slot().breaker is BreakerState.CLOSED
    assert asleep.counts(CLASSIFY).pending == 2
    assert asleep.sql("select 1 from work_items where attempts + deferrals > 0") == []


@pytest.mark.rule("wake-3")
def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "child"
    script = f"sleep 600 & echo $! > {note}; wait"
    timeout = 0.5
    while not note.exists() or not note.read_text():  # a busy machine may not start the child in this time
        timeout *= 2
        problem = wake(WakeConfig(command=("/bin/sh", "-c", script), timeout=timeout))
        assert problem == f"the program did not end within {timeout:g} s: correct it, or raise wake.timeout"
    with contextlib.suppress(psutil.NoSuchProcess):
        child = psutil.Process(int(note.read_text()))
        assert child.status() == psutil.STATUS_ZOMBIE or child.wait(PATIENCE_SECONDS) is None


@pytest.mark.rule("wake-3")
def test_a_program_that_runs_long_holds_up_no_tick(asleep: Engine, change_timing: ChangeTiming, tmp_path: Path) -> None:
    change_timing(wake_shown=0.0)
    os.mkfifo(tmp_path / "end")
    del asleep.options["deep_wake_mac"]
    asleep.options["deep_wake_command"] = f"/bin/sh -c 'read code < {tmp_path}/end; exit $code'"
    assert "a wake is under way; 2 documents due" in tick(asleep)
    assert "a wake is under way; 2 documents due" in tick(asleep)
    assert made(asleep) == 1
    (tmp_path / "end").write_text("3\n")
    asleep.wait_until("select 1 from wakes where problem like '%%exit code 3'")
    assert "waking it failed: the program ended with exit code 3; 2 documents due" in tick(asleep)


OWNER = """
import sys, time
from dagster_offload.engine.slot.waking import wake
from dagster_offload.slot.waking import WakeConfig
wake(WakeConfig(command=("/bin/sh", "-c", f"trap '' TERM; sleep 600 & echo $$ $! > {sys.argv[1]}; wait"), timeout=600))
"""


@pytest.mark.rule("wake-3")
def test_a_program_ends_with_its_owner_even_after_kill_9(tmp_path: Path) -> None:
    note = tmp_path / "note"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(note)])
    try:
        wait_for(lambda: note.exists() and note.read_text().endswith("\n"), "the program")
        started = [psutil.Process(int(pid)) for pid in note.read_text().split()]
        family = psutil.Process(owner.pid)
        wait_for(lambda: any("watchdog.py" in " ".join(each.cmdline()) for each in family.children()), "its watchdog")
    finally:
        owner.kill()
        owner.wait()
    wait_for(lambda: not any(map(is_running, started)), "the end of the program")


@pytest.mark.rule("wake-3")
def test_a_wake_whose_process_is_killed_counts(asleep: Engine) -> None:
    deep = asleep.settings().slots.deep
    assert deep is not None
    assert asleep.ledger.run(rests.begin_wake, deep) is not None
    assert "a wake is under way" in tick(asleep)
    asleep.sql("update wakes set at = at - interval '1 minute'")
    assert "waking it failed: it did not end" in tick(asleep)
    assert "it did not end" in str(asleep.ledger.run(rests.describe_week, DEEP))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (WakeConfig(command=("/no/such/program",)), "cannot be started: No such file or directory: check wake.command"),
        (WakeConfig(command=("/bin/sh", "-c", "kill -9 $$")), "was ended by signal 9"),
        (WakeConfig(mac=MAC, address="no host"), "cannot be sent to no host"),
    ],
)
def test_a_wake_that_fails_names_the_cause_and_the_setting(config: WakeConfig, said: str) -> None:
    assert said in str(wake(config))


def test_a_program_in_the_home_folder_of_its_owner_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    program = tmp_path / "wake"
    program.write_text('#!/bin/sh\necho woken > "$HOME/$1"\n')
    program.chmod(0o755)
    assert wake(WakeConfig(command=("~/wake", "note"))) is None
    assert (tmp_path / "note").read_text() == "woken\n"
