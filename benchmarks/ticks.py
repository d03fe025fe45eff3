"""What ticks leave behind in the code server: its own memory before and after 100 of each sensor, requested as the daemon does.

Each tick of the library sensor here reports the overview, so it opens Dagster's instance. In `up`, this happens at most
every 15 minutes, and the end of each run opens the instance too.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rows import Benchmark, Row, at_most
from benchmarks.slot import slot
from benchmarks.workspace import Home, Workspace
from dagster_offload.host.python_process import python_command, python_environment
from dagster_offload.ledger.core.database import Cursor, Ledger

WARM_TICKS, TICKS = 40, 100
START_SECONDS = 60.0


def code_server(workspace: Workspace) -> Iterator[Row]:
    with slot(0.05, 1, is_asleep=True) as router, workspace.home(router) as (home, ledger):
        assert home.settings.library is not None
        (home.settings.library / "letter.txt").write_text("A letter that waits for a slot.\n")
        home.run("scan", "--json")
        with _ticking(home) as (pid, tick):
            for _ in range(WARM_TICKS):
                _both(ledger, tick)
            before = _anonymous_mb(pid)
            for _ in range(TICKS):
                _both(ledger, tick)
            after = _anonymous_mb(pid)
    workspace.report(f"{before:.1f} MB, after {TICKS} ticks of each sensor {after:.1f} MB")
    raw = {"before_mb": before, "after_mb": after, "ticks_of_each_sensor": TICKS}
    what = f"growth of the code server in {TICKS} ticks of each sensor"
    yield Row(what, at_most(4, "MB"), after - before, raw)


def _both(ledger: Ledger, tick: Callable[[str], str]) -> None:
    ledger.run(_forget_reports)
    for sensor in ("library_sensor", "drain_sensor"):
        answer = tick(sensor)
        assert "skip_message" in answer, answer


def _forget_reports(cur: Cursor) -> None:
    cur.execute("delete from told")


@contextmanager
def _ticking(home: Home) -> Iterator[tuple[int, Callable[[str], str]]]:
    """Start a code server as `up` does. Yields its process id, and a function that evaluates a sensor of it."""
    from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin
    from dagster._grpc.client import DagsterGrpcClient
    from dagster._grpc.types import ListRepositoriesResponse, SensorExecutionArgs
    from dagster._serdes import deserialize_value

    from dagster_offload.defs.instance import open_instance
    from dagster_offload.defs.location import LOCATION
    from dagster_offload.service.processes import MEMORY

    with open_instance(home.settings) as instance:
        socket_file, reference = home.folder / "code.sock", instance.get_ref()
        process = subprocess.Popen(
            python_command(
                *("-m", "dagster_offload.service.code_server", "api", "grpc", "--socket", str(socket_file)),
                *("--module-name", "dagster_offload.definitions", "--empty-working-directory"),
                *("--location-name", LOCATION, "--log-level", "warning"),
            ),
            env={**python_environment(home.environment), **MEMORY, "DAGSTER_HOME": instance.root_directory},
        )
        try:
            _await_file(socket_file)
            client = DagsterGrpcClient(socket=str(socket_file))
            [listed] = deserialize_value(client.list_repositories(), ListRepositoriesResponse).repository_symbols
            origin = RemoteRepositoryOrigin(
                GrpcServerCodeLocationOrigin(host="localhost", socket=str(socket_file), location_name=LOCATION),
                listed.repository_name,
            )
            yield (
                process.pid,
                lambda sensor: client.external_sensor_execution(
                    SensorExecutionArgs(origin, reference, sensor, timeout=60)
                ),
            )
        finally:
            process.terminate()
            process.wait()


def _await_file(file: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the code server did not start within {START_SECONDS:.0f} s")
        time.sleep(0.1)


def _anonymous_mb(pid: int) -> float:
    """Memory that is no part of a file. Pages that a copy of the process shares count too, so the copy does not change it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not count anonymous memory")


BENCHMARKS = (Benchmark("ticks", code_server),)
