"""`scan` and `drain` as processes without a daemon: exit codes, the JSON object, and Ctrl-C."""

import contextlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

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
    home.write("letter.txt", TEXT)
    assert home.run("scan").returncode == 0
    router.set(mode="awake", hold=True)
    terminal, its_end = os.openpty()
    # Ctrl-C goes to all processes of the terminal of a session. `setsid --ctty` begins one with this terminal.
    drain = subprocess.Popen(
        ("setsid", "--ctty", sys.executable, *CLI, "drain"),
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        env=home.environment,
        cwd=home.folder,
        text=True,
    )
    home.started.append(drain)
    os.close(its_end)
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


def _read_to_end(terminal: int) -> str:
    shown = b""
    with contextlib.suppress(OSError):  # Linux reports the end of the other side as an error
        while part := os.read(terminal, 4096):
            shown += part
    return shown.decode()
