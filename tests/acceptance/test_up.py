"""`up` and `stop` as processes: killed children are restarted, and `stop` leaves no process behind."""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]
import pytest

from dagster_offload.postgres import DAGSTER_SCHEMA, server_pid, stop_postgres
from dagster_offload.postgres.embedded.sockets import socket_path
from dagster_offload.simulator import Router
from dagster_offload.stages.graph import EXTRACT
from tests.support.acceptance import (
    CLI,
    Home,
    a_home,
    command_line,
    is_running,
    wait_for,
    wait_for_open_calls,
)
from tests.support.browser import browser
from tests.support.dagsters_pages import check_attacks_fail, check_dagsters_pages
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ui import UI


def process_of(home: Home, text: str) -> psutil.Process:
    """The process whose command line contains `text`. Its forks have the same command line and are left out.

    Waits for it: just forked, it still has its parent's command line.
    """
    first: list[psutil.Process] = []

    def is_found() -> bool:
        found = {process.pid: process for process in home.processes() if text in command_line(process)}
        first[:] = [process for process in found.values() if process.info["ppid"] not in found]
        return len(first) == 1

    wait_for(is_found, text)
    return first[0]


@dataclass
class Running:
    """A home and its `up`. The tests share it and run in order: they use it, kill parts of it, kill it, and stop it."""

    home: Home
    up: subprocess.Popen[str]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with Router(mode="cold") as router, a_home(router) as home:
        yield Running(home, home.up())


def test_a_second_up_on_the_same_home_is_refused_with_the_address(running: Running) -> None:
    home = running.home
    second = home.run("up")
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert home.address in second.stderr
    assert "dagster-offload stop" in second.stderr


def test_the_scan_at_the_start_is_shown_as_launched_by_up(running: Running) -> None:
    home = running.home
    query = (
        "select value from offload_dagster.runs r join offload_dagster.run_tags t using (run_id) "
        "where r.pipeline_name = 'scan' and t.key = 'launched_by' order by r.id limit 1"
    )
    wait_for(lambda: home.ledger(query) != [], "the scan")
    assert home.ledger(query) == [{"value": "up"}]


@pytest.mark.chromium
def test_without_a_token_dagsters_pages_work_in_a_browser(running: Running, router: Router) -> None:
    with browser() as tab:
        check_dagsters_pages(tab, running.home)
        check_attacks_fail(tab, f"{router.url}/health", running.home)
    assert "Every user of this machine can open it" in running.home.said


def start_run_at_a_frozen_code_server(home: Home) -> tuple[str, psutil.Process]:
    """Launch a run and let the daemon wait for the code server to start it. Returns the run's id and the code server."""
    daemon, server = process_of(home, "dagster-daemon"), process_of(home, "api grpc")
    daemon.suspend()
    run_id = UI(home).launch("scan")
    server.suspend()
    daemon.resume()
    wait_for(lambda: UI(home).status(run_id) == "STARTING", "the start of the run")
    return run_id, server


def test_a_run_survives_an_up_that_is_killed_while_it_starts_the_run(running: Running) -> None:
    home = running.home
    run_id, _ = start_run_at_a_frozen_code_server(home)
    running.up.kill()
    running.up.wait()
    home.wait_until_only_postgres_runs()
    running.up = home.up()
    assert f"run {run_id[:8]} (scan) was about to start: it is back in the queue" in " ".join(home.said.split())
    assert UI(home).end_of(run_id) == "SUCCESS"


def test_a_run_survives_a_code_server_that_is_killed_while_it_starts_the_run(running: Running) -> None:
    home = running.home
    run_id, server = start_run_at_a_frozen_code_server(home)
    server.kill()
    assert UI(home).end_of(run_id) == "SUCCESS"


def restarts(home: Home) -> int:
    """How often `up` has said that it restarts a killed child. It wraps its lines."""
    return " ".join(home.said.split()).count("killed by SIGKILL); restarting it")


@pytest.mark.parametrize("child", ["dagster-webserver", "dagster-daemon", "api grpc"])
def test_a_killed_child_is_restarted(running: Running, child: str) -> None:
    home = running.home
    before, earlier = process_of(home, child), restarts(home)
    before.kill()
    wait_for(lambda: not is_running(before), "the end of the killed child")
    wait_for(lambda: restarts(home) > earlier, "the line about its restart")
    assert process_of(home, child) != before


def test_killed_postgres_is_restarted(running: Running) -> None:
    home = running.home
    before = server_pid(home.home)
    assert before is not None
    psutil.Process(before).kill()
    wait_for(lambda: server_pid(home.home) not in (None, before), "its return")  # by `up` or by a run
    home.ledger("select 1")  # waits until it answers


def test_postgres_whose_socket_was_removed_is_restarted(running: Running) -> None:
    home = running.home
    before = server_pid(home.home)
    socket_path(home.home / "postgres").unlink()
    wait_for(lambda: server_pid(home.home) not in (None, before), "its return")  # by `up` or by a run
    home.ledger.close()
    home.ledger("select 1")  # a new connection


def test_kill_9_of_up_leaves_only_postgres_and_up_can_start_again(running: Running) -> None:
    home, up = running.home, running.up
    up.kill()
    up.wait()
    home.wait_until_only_postgres_runs()
    running.up = home.up()


def test_ctrl_c_ends_up_its_children_and_postgres(running: Running) -> None:
    running.up.send_signal(signal.SIGINT)
    assert running.up.wait(timeout=PATIENCE_SECONDS) == 0
    running.home.wait_until_nothing_runs()


def test_ctrl_c_while_up_prepares_dagster_is_a_stop_and_no_error(home: Home) -> None:
    home.ledger("select pg_advisory_lock(hashtext(%s))", DAGSTER_SCHEMA)  # the preparation waits for it
    up = home.start_python("up", "--port", str(home.reserve_port()))
    wait_for(lambda: any("service.sweep" in command_line(process) for process in home.processes()), "the preparation")
    os.killpg(up.pid, signal.SIGINT)  # a terminal sends it to the whole process group
    assert up.wait(timeout=PATIENCE_SECONDS) == 0, home.said
    assert "Stopped. Nothing is lost" in home.said
    home.wait_until_nothing_runs()


def test_stop_ends_up_a_drain_with_an_open_call_and_postgres(home: Home, router: Router) -> None:
    home.write("letter.txt", "Dear landlord, the heating has been cold since Monday. Yours, Ada Lovelace.")
    scanned = home.run("scan")
    assert scanned.returncode == 0, scanned.stderr
    router.set(mode="awake", hold=True)
    drain = home.start("drain")
    wait_for_open_calls(router, 1, drain, home)
    home.up()
    stopped = home.run("stop")
    assert stopped.returncode == 0
    assert stopped.stdout.startswith("stopped: up")
    assert drain.wait() != 0
    home.wait_until_nothing_runs()


# A scan whose extraction is over and that reports to Dagster forever.
REPORTING = """
import threading
from pathlib import Path
from dagster_offload.cli import main
from dagster_offload.defs.events import EventReporter

def report_all(reporter):
    Path("reporting").touch()
    threading.Event().wait()

EventReporter.report_all = report_all
main()
"""


def test_stop_ends_a_job_that_only_reports_to_dagster_so_that_postgres_stays_stopped(home: Home) -> None:
    scan = home.start_python("scan", python=("-c", REPORTING))
    wait_for((home.folder / "reporting").exists, "the end of its extraction")
    stopped = home.run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped: 1 worker, Postgres\n")
    scan.wait(timeout=PATIENCE_SECONDS)  # a running scan would restart its Postgres
    home.wait_until_nothing_runs()


def test_a_command_says_that_the_postgres_it_started_keeps_running_and_up_does_not(home: Home) -> None:
    first = home.run("status")
    assert first.stderr == f"Started Postgres in {home.home}. It keeps running; `dagster-offload stop` ends it.\n"
    assert home.run("status").stderr == "", "it runs"
    assert home.run("stop").stdout == "stopped: Postgres\n"
    assert home.run("status", "--quiet").stderr == ""
    assert home.run("stop").stdout == "stopped: Postgres\n"
    home.up()
    assert home.run("stop").returncode == 0
    assert "Started Postgres" not in home.said


def test_up_ends_when_its_home_is_moved_or_removed_and_does_not_make_it_again(home: Home) -> None:
    up = home.up()
    moved = home.home.rename(home.folder / "moved")
    try:
        assert up.wait(timeout=PATIENCE_SECONDS) == 2
        assert f"OFFLOAD_HOME {home.home} was removed or moved while `up` ran, so `up` ends" in home.said
        assert not (home.home / "postgres").exists()
    finally:
        stop_postgres(moved)


def test_up_ends_with_one_line_when_its_home_is_removed_and_nothing_makes_a_file_in_it_again(home: Home) -> None:
    up = home.up()
    server = psutil.Process(server_pid(home.home))
    removal = ["rm", "-rf", str(home.home)]
    subprocess.run(
        removal, check=False, stderr=subprocess.DEVNULL
    )  # a file that a process writes meanwhile may stop it
    assert up.wait(timeout=PATIENCE_SECONDS) == 2
    assert home.said.count("removed or moved while `up` ran") == 1
    assert "restarting it" not in home.said
    subprocess.run(removal, check=True)
    assert psutil.wait_procs([server], timeout=PATIENCE_SECONDS)[1] == []
    assert "there is no ledger in" in home.run("status").stderr
    assert not home.home.exists()


def test_stop_succeeds_if_nothing_runs(new_home: Home) -> None:
    stopped = new_home.run("stop")
    assert stopped.returncode == 0
    assert "nothing was running" in stopped.stdout
    assert not new_home.home.exists()


def test_up_imports_nothing_from_the_working_folder(home: Home) -> None:
    ran = home.folder / "ran"
    for module in ("click", "dagster", "psycopg", "selectolax", "pydantic", "dagster_postgres", "sqlalchemy"):
        (home.folder / f"{module}.py").write_text(
            f"open({str(ran)!r}, 'a').write('{module} of ' + repr(__name__) + '\\n')"
        )
    home.environment["PYTHONPATH"] = ":"  # common in shells: an empty entry is the working folder
    home.write("letter.txt", "Dear landlord, the heating has been cold since Monday. Yours, Ada Lovelace.")
    # Like the installed command, whose own path excludes the working folder. Only PYTHONPATH adds it.
    home.up(python=("-I", "-m", "dagster_offload.cli"))
    del home.environment["PYTHONPATH"]
    home.environment["PYTHONSAFEPATH"] = "1"  # for the commands that the test runs
    wait_for(lambda: home.ledger.count("done", EXTRACT) == 1, "the scan at start")
    assert "letter.txt" in home.run_python(*CLI, "explain", "letter.txt").stdout
    assert not ran.exists(), ran.read_text()
