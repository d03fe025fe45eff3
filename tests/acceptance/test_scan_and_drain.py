"""`scan` and `drain` as processes without a daemon: exit codes, the JSON object, Ctrl-C, and a closed terminal."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from dagster_offload.service.processes import SWEEP_PROGRAM
from dagster_offload.simulator import Router
from tests.support.acceptance import CLI, Home, wait_for, wait_for_open_calls

TEXT = "Dear landlord, the heating has been cold since Monday. Yours, Ada Lovelace."


def test_scan_then_drain_without_a_daemon(home: Home, router: Router) -> None:
    home.write("letter.txt", TEXT)
    scanned = home.run_python(*CLI, "scan", "--json")
    assert scanned.returncode == 0
    assert json.loads(scanned.stdout)["extracted"] == 1

    unavailable = home.run_python(*CLI, "drain", "--json")
    assert unavailable.returncode == 75
    assert json.loads(unavailable.stdout)["reason"].startswith("deep is unavailable: upstream_cold")

    router.set(mode="awake")
    home.run("slot", "set", "deep", "--try-again")
    drained = home.run_python(*CLI, "drain", "--json")
    assert drained.returncode == 0
    found = json.loads(drained.stdout)
    assert {name: found[name] for name in ("done", "failed", "deferred", "left", "held_elsewhere")} == {
        "done": 1,
        "failed": 0,
        "deferred": 0,
        "left": 0,
        "held_elsewhere": 0,
    }
    assert home.status()["events_pending"] == 0


def test_ctrl_c_in_a_terminal_shows_one_line_and_ends_every_process(home: Home, router: Router) -> None:
    drain, terminal = _drain_in_a_terminal(home, router)
    with ThreadPoolExecutor(1) as reading:
        all_shown = reading.submit(_read_to_end, terminal)
        wait_for_open_calls(router, 1, drain, home)
        os.write(terminal, b"\x03")
        shown = all_shown.result()
    os.close(terminal)
    assert drain.wait() == 130
    assert "Traceback" not in shown
    assert shown.rstrip().endswith("dagster-offload: interrupted; nothing is lost")
    wait_for(lambda: not [p for p in home.processes() if p.info["name"] != "postgres"], "every process has ended")


def test_a_terminal_that_is_closed_stops_a_drain_as_ctrl_c_does(home: Home, router: Router) -> None:
    drain, terminal = _drain_in_a_terminal(home, router)
    wait_for_open_calls(router, 1, drain, home)
    os.close(terminal)  # the kernel sends SIGHUP, as after a dropped ssh
    assert drain.wait() == 130
    assert home.status()["in_work"] == [], "it gives back what it holds, so no document seems to have ended it"
    assert not (home.home / "logs" / "errors.log").exists()


def test_the_run_of_a_drain_that_was_killed_is_ended_by_the_sweep_beside_up(home: Home, router: Router) -> None:
    home.write("letter.txt", TEXT)
    assert home.run("scan").returncode == 0
    router.set(mode="awake", hold=True)
    drain = home.start_python("drain")
    wait_for_open_calls(router, 1, drain, home)
    drain.kill()
    drain.wait()
    assert home.run_python("-c", SWEEP_PROGRAM).stdout == "", "its worker may live in a container with this host's name"
    home.ledger("update workers set ended_at = clock_timestamp() where ended_at is null returning worker_id")
    assert home.run_python("-c", SWEEP_PROGRAM).stdout == "", "a run that changed lately may be a re-execution"
    home.ledger("update offload_dagster.runs set update_timestamp = update_timestamp - interval '1 hour' returning id")
    swept = home.run_python("-c", SWEEP_PROGRAM)
    assert swept.stdout.startswith("Ended a dead run: run "), swept.stderr
    assert swept.stdout.endswith(" (drain) was STARTED: its process ended unexpectedly\n")
    assert home.run_python("-c", SWEEP_PROGRAM).stdout == ""


def test_a_drain_under_nohup_goes_on_when_the_terminal_is_closed(home: Home, router: Router) -> None:
    home.write("letter.txt", TEXT)
    assert home.run("scan").returncode == 0
    router.set(mode="awake", hold=True)
    ignored_before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a child inherits it
    try:
        drain = home.start_python("drain")
    finally:
        signal.signal(signal.SIGHUP, ignored_before)
    wait_for_open_calls(router, 1, drain, home)
    drain.send_signal(signal.SIGHUP)
    router.set(hold=False)
    assert drain.wait() == 0, home.said


def _drain_in_a_terminal(home: Home, router: Router) -> tuple["subprocess.Popen[str]", int]:
    """A drain with one call that stays open, and the other side of its terminal."""
    home.write("letter.txt", TEXT)
    assert home.run("scan").returncode == 0
    router.set(mode="awake", hold=True)
    terminal, its_end = os.openpty()
    # Signals go to all processes of the terminal of a session. `setsid --ctty` begins one with this terminal, and the
    # tests may run under nohup, which passes SIGHUP on as ignored.
    drain = subprocess.Popen(
        ("env", "--default-signal=HUP", "setsid", "--ctty", sys.executable, *CLI, "drain"),
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        env=home.environment,
        cwd=home.folder,
        text=True,
    )
    home.started.append(drain)
    os.close(its_end)
    return drain, terminal


def _read_to_end(terminal: int) -> str:
    shown = b""
    with contextlib.suppress(OSError):  # Linux reports the end of the other side as an error
        while part := os.read(terminal, 4096):
            shown += part
    return shown.decode()
