"""A disk that fills up during a drain of the command line: ledger, Dagster's tables and logs are all on it."""

from collections import Counter
from collections.abc import Iterator

import pytest

from dagster_offload.postgres import ensure_postgres
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from dagster_offload.stages.graph import SUMMARIZE
from tests.support.acceptance import Home, wait_for, wait_for_open_calls
from tests.support.disks import Disk, fill_pages, small_disk


@pytest.fixture
def disk() -> Iterator[Disk]:
    with small_disk(600) as disk:
        yield disk


@pytest.fixture
def home(disk: Disk, router: Router) -> Iterator[Home]:
    router.set(mode="awake")
    home = Home(disk.folder, router)
    home.environment |= {"OFFLOAD_MIN_FREE_DISK": "0", "OFFLOAD_DEEP_CONCURRENCY": "3"}
    try:
        yield home
    finally:
        disk.free()
        router.set(hold=False)
        home.end()


def documents_asked(router: Router) -> Counter[tuple[str, str]]:
    return Counter((entry["document"], entry["stage"]) for entry in router.completions() if entry["document"])


@pytest.mark.root
@pytest.mark.rule("disk-2")
def test_a_disk_that_is_full_during_a_drain_costs_no_answer_and_repeats_no_call(
    home: Home, disk: Disk, router: Router
) -> None:
    for n in range(6):
        home.write(f"{n}.txt", f"Letter {n} to the landlord about the heating. " * 20)
    assert home.run("scan").returncode == 0
    router.set(hold=True)
    drain = home.start("drain")
    wait_for_open_calls(router, 3, drain, home)
    url = ensure_postgres(load_settings(home=home.home))
    disk.fill()
    fill_pages(url)
    router.set(hold=False)
    wait_for(lambda: drain.poll() is not None or router.log()["open"] == 0, "answers")
    # The three answers are on their way into the ledger, and nothing else may be asked.
    status = home.run("status")
    assert drain.poll() is None, home.said
    assert len(documents_asked(router)) == 3, status.stdout
    disk.free()
    drain.wait()
    assert home.run("drain").returncode == 0
    assert set(documents_asked(router).values()) == {1}
    assert len(documents_asked(router)) == 12
    stages = home.status()["stages"]
    assert {name: (stage["done"], stage["failed"]) for name, stage in stages.items()} == {
        "extract": (6, 0),
        "classify": (6, 0),
        "summarize": (6, 0),
    }


@pytest.mark.root
@pytest.mark.rule("disk-1")
def test_every_command_names_a_disk_with_too_little_space_and_starts_nothing(
    home: Home, disk: Disk, router: Router
) -> None:
    home.write("a.txt", "A letter to the landlord about the heating. " * 20)
    assert home.run("scan").returncode == 0
    home.environment["OFFLOAD_MIN_FREE_DISK"] = "300MB"
    disk.fill(leave=100_000_000)
    for command in ("drain", "scan"):
        refused = home.run(command)
        assert refused.returncode == 2
        assert "OFFLOAD_MIN_FREE_DISK" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert "OFFLOAD_MIN_FREE_DISK" in home.run("status").stdout
    assert "OFFLOAD_MIN_FREE_DISK" in home.run("doctor").stdout
    assert not documents_asked(router)
    disk.free()
    assert home.run("drain").returncode == 0


@pytest.mark.root
def test_up_recovers_from_a_full_disk_without_a_restart(home: Home, disk: Disk, router: Router) -> None:
    home.environment["OFFLOAD_SCAN_INTERVAL"] = "1"
    home.write("before.txt", "A letter to the landlord about the heating. " * 20)
    home.up()
    wait_for(lambda: home.ledger.count("done", SUMMARIZE) == 1, "the first document")
    disk.fill()
    fill_pages(ensure_postgres(load_settings(home=home.home)))
    log = home.home / "postgres" / "server.log"
    wait_for(lambda: "No space left on device" in log.read_text(), "an error of Postgres")
    disk.free()
    home.write("after.txt", "A letter to the tenant about the roof. " * 20)
    wait_for(lambda: home.ledger.count("done", SUMMARIZE) == 2, "the second document")
    assert set(documents_asked(router).values()) == {1}
