"""`scan` and `drain` as processes without a daemon: exit codes and the JSON object."""

import json

from dagster_offload.simulator import Router
from tests.support.acceptance import CLI, Home

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
