"""The processes `up` and `demo` run: Postgres, code server, webserver, daemon, and one scan at start."""

import contextlib
import http.client
import json
import os
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

from dagster_offload.errors import LedgerUnavailable, SlotLost
from dagster_offload.host.python_process import python_command, python_environment
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.workers import WorkerRow, host_name, live_workers
from dagster_offload.ledger.slots import slots as ledger_slots
from dagster_offload.service.home import RunningUp, UpLock, log_folder
from dagster_offload.service.ports import address_of
from dagster_offload.service.postgres_keeper import KeptPostgres
from dagster_offload.service.supervisor import Child, StopRequest, Supervisor, ending
from dagster_offload.settings import Settings

OTHER_WORKERS_SECONDS = 10.0
START_SECONDS = 120.0  # a first start on a slow disk; after that the logs have the reason
MAX_SOCKET_PATH = 100
LOCATION = "dagster-offload"  # the name of the code location, as in workspace.yaml

Say = Callable[[str], None]


@dataclass
class Services:
    """What runs, for the block of `running_services`."""

    address: str
    ledger: Ledger
    supervisor: Supervisor
    say: Say
    postgres: KeptPostgres | None  # None: it is the owner's own
    first_scan: subprocess.Popen[bytes] | None = None
    scan_log: Path = field(default_factory=Path)

    def watch(self, stop: StopRequest) -> None:
        """Look after the processes until a stop is asked for."""
        while not stop.wait(0.2):
            self.look()

    def look(self) -> None:
        self.supervisor.look()
        if self.postgres is not None:
            self.postgres.look()
        if self.first_scan is not None and (code := self.first_scan.poll()) is not None:
            self.first_scan = None
            if code != 0:
                self.say(f"The scan at start ended with {ending(code)}: {_last_line(self.scan_log)}")


@contextlib.contextmanager
def running_services(
    settings: Settings, host: str, port: int, lock: UpLock, stop: StopRequest, say: Say
) -> Iterator[Services]:
    """Everything up for the block: entering returns when the UI answers or a stop was asked for, leaving ends it all.

    Leaving waits at most 10 s for other workers to let go before it stops an embedded Postgres.
    """
    logs = log_folder(settings.home)
    address = address_of(host, port)
    postgres = None
    try:
        with open_ledger(settings) as ledger, _code_socket(settings.home) as socket_file:
            postgres = KeptPostgres(settings.home, ledger.revive, say) if settings.postgres_url is None else None
            _register_slots(settings, ledger, say)
            with Supervisor(say) as supervisor:
                services = Services(address, ledger, supervisor, say, postgres, scan_log=logs / "scan.log")
                _start(services, host, port, logs, socket_file, stop)
                lock.tell(RunningUp(os.getpid(), address))
                yield services
                supervisor.stop(is_impatient=lambda: stop.is_impatient)
            if postgres is not None:
                _wait_for_others(ledger, stop, say)
    finally:
        if postgres is not None:
            postgres.stop()


def _start(services: Services, host: str, port: int, logs: Path, socket_file: Path, stop: StopRequest) -> None:
    """Code server, sweep and webserver start side by side; the daemon comes when the sweep is through.

    Before that it could have a run starting that looks like a dead one.
    """
    start = services.supervisor.start
    server = python_command("-m", "dagster_offload.service.code_server", "api", "grpc", "--socket", str(socket_file))
    # Without the working folder, which Dagster otherwise puts on the path while it imports the module.
    module = ("--module-name", "dagster_offload.definitions", "--empty-working-directory")
    labels = ("--location-name", LOCATION, "--log-level", "warning")
    start(Child("code server", (*server, *module, *labels), logs / "code_server.log"))
    with _sweep(services.say) as home:
        workspace = str(_write_workspace(home, socket_file))
        webserver = ("dagster-webserver", "--workspace", workspace, "--host", host, "--port", str(port))
        start(_dagster("webserver", (*webserver, "--dagster-log-level", "warning"), logs, home))
    # Before the daemon, so that its library sensor sees a scan at work and launches none.
    scan = python_command("-m", "dagster_offload.cli", "scan")
    services.first_scan = services.supervisor.run_once(Child("scan", scan, services.scan_log))
    start(_dagster("daemon", ("dagster-daemon", "run", "--workspace", workspace, "--log-level", "warning"), logs, home))
    _await(services, stop, socket_file.exists, logs / "code_server.log")
    _await(services, stop, lambda: _answers(services.address), logs / "webserver.log")


def _dagster(name: str, argv: tuple[str, ...], logs: Path, dagster_home: Path | None = None) -> Child:
    """One of Dagster's own commands, from the environment this Python belongs to."""
    script = Path(sysconfig.get_path("scripts")) / argv[0]
    environment = {} if dagster_home is None else {"DAGSTER_HOME": str(dagster_home)}
    return Child(name, (str(script), *argv[1:]), logs / f"{name.replace(' ', '_')}.log", environment)


@contextlib.contextmanager
def _sweep(say: Say) -> Iterator[Path]:
    """Make Dagster's instance ready and end runs that died with their process; leaving waits until that is done.

    Yields the folder for DAGSTER_HOME. In a process of its own: it needs Dagster, and this one runs for weeks without.
    """
    argv = python_command("-m", "dagster_offload.service.sweep")
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(  # noqa: S603 - ours
            argv, stdout=subprocess.PIPE, stderr=complaints, text=True, env=python_environment()
        ) as sweeping,
    ):
        output = sweeping.stdout
        if output is not None and (home := output.readline().strip()):
            yield Path(home)
            for line in output:
                say(f"Found dead: {line.strip()}")
        if sweeping.wait() != 0:
            complaints.seek(0)
            raise LedgerUnavailable(f"Dagster's instance could not be made ready: {_last_words(complaints.read())}")


def _write_workspace(dagster_home: Path, socket_file: Path) -> Path:
    """Where webserver and daemon find the code server (JSON is YAML)."""
    workspace = dagster_home / "workspace.yaml"
    server = {"socket": str(socket_file), "location_name": LOCATION}
    workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}), encoding="utf-8")
    return workspace


@contextlib.contextmanager
def _code_socket(home: Path) -> Iterator[Path]:
    """Where the code server listens: only this user gets there. A socket's path has about 100 bytes."""
    in_home = home / "dagster" / "code.sock"
    if len(os.fsencode(in_home)) <= MAX_SOCKET_PATH:
        in_home.parent.mkdir(mode=0o700, exist_ok=True)
        in_home.unlink(missing_ok=True)
        yield in_home
    else:
        with tempfile.TemporaryDirectory(prefix="offload-") as folder:
            yield Path(folder) / "code.sock"


def _await(services: Services, stop: StopRequest, condition: Callable[[], bool], log: Path) -> None:
    """Look after the processes until `condition` or a stop. Raises `LedgerUnavailable` after two minutes."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if stop.wait(0.1):
            return
        services.look()
        if time.monotonic() > deadline:
            raise LedgerUnavailable(f"it did not start within {START_SECONDS:.0f} s: the reason is at the end of {log}")


def _answers(address: str) -> bool:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", "/server_info")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _register_slots(settings: Settings, ledger: Ledger, say: Say) -> None:
    slots = settings.slots
    for slot in slots:
        ledger.run(ledger_slots.register, slot)
    try:
        ledger.run(ledger_slots.refuse_lost_slot, slots)
    except SlotLost as lost:
        say(str(lost))


def _wait_for_others(ledger: Ledger, stop: StopRequest, say: Say) -> None:
    """Give drains and scans of other terminals at most 10 s to let go of Postgres before it stops."""
    deadline = time.monotonic() + OTHER_WORKERS_SECONDS
    told = False
    while (others := _live_workers(ledger)) and time.monotonic() < deadline and not stop.is_impatient:
        if not told:
            say("Waiting for " + ", ".join(f"{worker.kind} (process {worker.pid})" for worker in others))
            told = True
        time.sleep(0.2)


def _live_workers(ledger: Ledger) -> list[WorkerRow]:
    """Those that can still let go, one of each process: a command's drain says more than the command.

    Our own run workers were ended a moment ago and count until they are reclaimed.
    """
    newest = {(worker.host, worker.pid): worker for worker in ledger.run(live_workers, ledger.schema)}
    return [worker for (host, pid), worker in newest.items() if host != host_name() or psutil.pid_exists(pid)]


def _last_line(log: Path) -> str:
    return _last_words(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else "no word"


def _last_words(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no word"
