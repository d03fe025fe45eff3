"""The processes that `up` and `demo` run: Postgres, code server, webserver, daemon, and one scan at the start."""

import contextlib
import hmac
import http.client
import json
import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from dagster_offload.defs.location import LOCATION
from dagster_offload.errors import LedgerUnavailable, SlotLost
from dagster_offload.host.private_folders import PrivateFolder, remove_leftovers
from dagster_offload.host.python_process import python_command
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.workers import live_workers
from dagster_offload.ledger.slots import slots as ledger_slots
from dagster_offload.ledger.work.documents import has_documents
from dagster_offload.postgres import is_running, stop_postgres
from dagster_offload.postgres.embedded.paths import Paths
from dagster_offload.service.backups import ScheduledBackups
from dagster_offload.service.driver_log import without_start_lines
from dagster_offload.service.errand import Errand
from dagster_offload.service.home import RunningUp, UpLock, log_folder
from dagster_offload.service.library_watch import LibraryWatch
from dagster_offload.service.other_workers import wait_for_others
from dagster_offload.service.pipeline import RunningPipeline, refuse_mistyped_library
from dagster_offload.service.ports import address_of, port_of
from dagster_offload.service.postgres_keeper import KeptPostgres
from dagster_offload.service.postgres_wait import PostgresWait
from dagster_offload.service.prefork import allows_prefork, prefork_command, runs_socket
from dagster_offload.service.prepare import preparing
from dagster_offload.service.repeated_sweep import RepeatedSweep
from dagster_offload.service.say import Say
from dagster_offload.service.senders import RunningSenders
from dagster_offload.service.supervisor import Child, StopRequest, Supervisor, ending
from dagster_offload.service.ui.access import HEALTH_PATH, Access, decide_access
from dagster_offload.service.ui.sessions import Sessions
from dagster_offload.settings import Loaded, Settings
from dagster_offload.text.lines import last_line

ERRAND_SECONDS = 0.5  # for the errand to end at a stop; it takes longer only while Postgres is unavailable
START_SECONDS = 120.0  # enough for a first start on a slow disk
MAX_SOCKET_PATH = 100
CODE_SERVER = "code server"
AWAITED = ("scan", "extract", "drain", "run")  # the kinds of workers that changed definitions wait for
UI_PROGRAM = "dagster-webserver"  # ours, with the access control (service/ui/server.py)
# As text, because `up` itself does not import Dagster.
DAGSTER_PROGRAM = "from dagster_offload.service.dagster_process import main; main()"
SCAN_PROGRAM = "from dagster_offload.cli import main; main(['scan'], prog_name='dagster-offload')"
SWEEP_PROGRAM = "from dagster_offload.service.sweep import sweep_again; sweep_again()"
# Variables of glibc's malloc: without them, each of a dozen threads keeps free memory of its own.
MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}


@dataclass(kw_only=True)
class Services:
    """The processes that run during a `running_services` block."""

    address: str
    ledger: Ledger
    supervisor: Supervisor
    pipeline: RunningPipeline
    say: Say
    postgres: KeptPostgres | None  # None: the user's own Postgres
    backups: ScheduledBackups
    senders: RunningSenders
    lock: UpLock
    running: RunningUp  # what the lock file says
    first_scan: subprocess.Popen[bytes] | None = None
    repeated_sweep: RepeatedSweep | None = None  # None: `up` starts
    scan_log: Path
    definitions: object  # those that the code server has loaded; see RunningPipeline

    def __post_init__(self) -> None:
        self.errand = Errand(self._use_ledger)
        self.library = LibraryWatch(self.say, self.ledger)

    def watch(self, stop: StopRequest) -> None:
        """Check and restart the processes until a stop is requested."""
        while not stop.wait(0.2):
            self.check()

    def check(self) -> None:
        """Check every process once; restart what has ended. Does not wait, not even while Postgres is unavailable. Raises
        `SettingsError` if the home was removed or moved."""
        self.lock.refuse_lost_home()
        self.supervisor.check()
        if self.postgres is not None:
            self.postgres.check()
        if self.repeated_sweep is not None:
            self.repeated_sweep.check()
        self.backups.check(self.pipeline.settings)
        self.library.check(self.pipeline.settings.library)
        if (kinds := self.errand.check()) is not None:
            self._reload_definitions(kinds)
        elif self.running.reload_waits_for and self.pipeline.definitions == self.definitions:  # the edit was taken back
            self._show_awaited("")
        if self.first_scan is not None and (code := self.first_scan.poll()) is not None:
            self.first_scan = None
            if code != 0:
                self.say(f"The first scan failed ({ending(code)}): {_last_line(self.scan_log)}")

    def _use_ledger(self) -> list[str] | None:
        """Take over edits of the settings. Returns the kinds of workers that changed definitions wait for; None: no change."""
        self.pipeline.check()
        self.senders.check(self.pipeline.settings)
        if self.pipeline.definitions == self.definitions:
            return None
        try:
            return [kind for kind in AWAITED if self.ledger.run(live_workers, self.ledger.schema, kind)]
        except LedgerUnavailable:  # the next look tries again
            return None

    def _reload_definitions(self, kinds: list[str]) -> None:
        """Restart the code server, because its stages are no longer those in force. Work that is running ends first.

        A drain with other recipes ends at its next document. Others may run for days, so `status` shows what is awaited.
        """
        self._show_awaited(", ".join(kinds))
        if not kinds:
            self.say("Dagster's definitions changed: reloading them.")
            self.supervisor.restart(CODE_SERVER)
            self.definitions = self.pipeline.definitions

    def _show_awaited(self, kinds: str) -> None:
        if kinds == self.running.reload_waits_for:
            return
        if kinds:
            self.say(f"Dagster's definitions changed. Its UI shows them when the running work has ended: {kinds}")
        self.running = replace(self.running, reload_waits_for=kinds)
        self.lock.write(self.running)


@contextlib.contextmanager
def running_services(
    loaded: Loaded,
    host: str,
    listener: socket.socket,
    lock: UpLock,
    stop: StopRequest,
    say: Say,
    *,
    keep: Callable[[Loaded], Loaded] = lambda loaded: loaded,
) -> Iterator[Services]:
    """Run all processes during the block. Entering returns when the UI answers or a stop is requested.

    `listener` listens on `host` for the UI. `keep` may write the pipeline file of a new home: it is called when the ledger
    has answered. Leaving ends all processes. It waits at most 10 s for other workers to disconnect before it stops an
    embedded Postgres. Raises `StoppedWaiting` if a stop is requested before the ledger is ready.
    """
    settings = loaded.settings
    logs = log_folder(settings.home)
    address = address_of(host, port_of(listener), settings.ui.path_prefix)
    access = decide_access(settings.ui, settings.home, host)
    postgres, wait = None, PostgresWait(settings, stop, say)
    ran_before = is_running(settings.home)
    try:
        open_socket = _code_socket(settings.home)
        with without_start_lines(), wait.entered(open_ledger(settings)) as ledger, open_socket as socket_file:
            if settings.postgres_url is None:
                postgres = KeptPostgres(settings.home, ledger.revive, say)
                lock.expect(Paths(settings.home).always_there)
            refuse_mistyped_library(settings, lambda: wait.run(ledger.run, has_documents))
            with (
                wait.entered(RunningPipeline(ledger, keep(loaded), say, has_home=lambda: lock.has_home)) as pipeline,
                Supervisor(say) as supervisor,
                contextlib.ExitStack() as stops,
            ):
                wait.run(_register_slots, settings, ledger, say)
                backups, senders = ScheduledBackups(ledger, say), RunningSenders(ledger, say)
                # Also after an error: the last one is called first.
                stops.callback(supervisor.stop, is_impatient=lambda: stop.is_impatient)
                stops.callback(senders.stop)
                stops.callback(backups.stop)
                services = Services(
                    address=address,
                    ledger=ledger,
                    supervisor=supervisor,
                    pipeline=pipeline,
                    say=say,
                    postgres=postgres,
                    backups=backups,
                    senders=senders,
                    lock=lock,
                    running=RunningUp.of_this_process(),
                    scan_log=logs / "scan.log",
                    definitions=pipeline.definitions,
                )
                stops.callback(services.errand.wait, ERRAND_SECONDS)  # it may be writing a copy of an edited file
                _start(services, access, host, listener, logs, socket_file, stop)
                services.running = replace(services.running, address=address, uses_token=settings.ui.is_token_on)
                lock.write(services.running)
                yield services
            if postgres is not None and is_running(settings.home):
                wait_for_others(ledger, stop, say)
    finally:
        if not lock.has_home:  # the Postgres of a new home at this path belongs to another `up`
            if postgres is not None:
                postgres.end_if_removed()
        elif postgres is not None:
            postgres.stop()
        elif settings.postgres_url is None and not ran_before:  # the ledger could not be opened
            stop_postgres(settings.home)


def _start(
    services: Services,
    access: Access,
    host: str,
    listener: socket.socket,
    logs: Path,
    socket_file: Path,
    stop: StopRequest,
) -> None:
    """Start the code server, then the sweep and the webserver, and the scan and the daemon after the sweep.

    If the code server has a prefork server, all of them are copies of it. An earlier daemon could start a run that the
    sweep takes for a dead one. Starts nothing more once a stop is requested.
    """
    start = services.supervisor.start
    server = python_command("-m", "dagster_offload.service.code_server", "api", "grpc", "--socket", str(socket_file))
    # Dagster would add the working folder to the module path during the import.
    module = ("--module-name", "dagster_offload.definitions", "--empty-working-directory")
    labels = ("--location-name", LOCATION, "--log-level", "warning")
    start(Child(CODE_SERVER, (*server, *module, *labels), logs / "code_server.log", MEMORY))
    forks = runs_socket(socket_file)
    if services.pipeline.settings.prefork == "auto" and allows_prefork(socket_file.parent):
        # The code server starts none if it finds its settings wrong.
        _await(services, stop, lambda: forks.exists() or socket_file.exists(), logs / "code_server.log")
    if stop:
        return
    with preparing(forks, services.say) as preparation:
        home = preparation.dagster_home(stop)
        if home is None:
            return
        workspace = str(_write_workspace(home, socket_file))
        settings = services.pipeline.settings
        ui = ("--home", str(settings.home), "--ui", settings.ui.model_dump_json(), "--host", host)
        webserver = (UI_PROGRAM, "--workspace", workspace, *ui, "--listener", str(listener.fileno()))
        start(replace(_dagster("webserver", socket_file, webserver, logs, home), listener=listener))
        if not preparation.has_ended(stop):
            return
    sweep = Child("sweep", prefork_command(forks, SWEEP_PROGRAM), logs / "sweep.log")
    services.repeated_sweep = RepeatedSweep(lambda: services.supervisor.run_once(sweep))
    # Before the daemon, so its library sensor sees a running scan and launches no other.
    scan = prefork_command(forks, SCAN_PROGRAM)
    services.first_scan = services.supervisor.run_once(Child("scan", scan, services.scan_log))
    daemon = ("dagster-daemon", "run", "--workspace", workspace, "--log-level", "warning")
    start(_dagster("daemon", socket_file, daemon, logs, home))
    _await(services, stop, socket_file.exists, logs / "code_server.log")
    _await(services, stop, lambda: _answers(services.address, access.sessions), logs / "webserver.log")


def _dagster(name: str, socket_file: Path, argv: tuple[str, ...], logs: Path, dagster_home: Path) -> Child:
    """One of Dagster's own commands, which uses the code server behind this socket."""
    command = prefork_command(runs_socket(socket_file), DAGSTER_PROGRAM, str(socket_file), str(dagster_home), *argv)
    return Child(name, command, logs / f"{name}.log", MEMORY)


def _write_workspace(dagster_home: Path, socket_file: Path) -> Path:
    """Write the file that points webserver and daemon to the code server (JSON is valid YAML). Returns its path."""
    workspace = dagster_home / "workspace.yaml"
    server = {"socket": str(socket_file), "location_name": LOCATION}
    workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}), encoding="utf-8")
    return workspace


@contextlib.contextmanager
def _code_socket(home: Path) -> Iterator[Path]:
    """The socket path of the code server, in a folder private to this user. A socket path has at most about 100 bytes."""
    in_home = home / "dagster" / "code.sock"
    if len(os.fsencode(in_home)) <= MAX_SOCKET_PATH:
        in_home.parent.mkdir(mode=0o700, exist_ok=True)
        for left in (in_home, runs_socket(in_home)):
            left.unlink(missing_ok=True)
        yield in_home
    else:
        parent = Path(tempfile.gettempdir())
        remove_leftovers(parent)  # also of an `up` that was killed
        with PrivateFolder(parent) as folder:
            yield Path(folder) / "code.sock"


def _await(services: Services, stop: StopRequest, condition: Callable[[], bool], log: Path) -> None:
    """Check the processes until `condition` holds or a stop is requested. Raises `LedgerUnavailable` after two minutes."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if stop.wait(0.1):
            return
        services.check()
        if time.monotonic() > deadline:
            raise LedgerUnavailable(
                f"the UI did not start within {START_SECONDS:.0f} s: see the end of {log} for the reason"
            )


def _answers(address: str, sessions: Sessions) -> bool:
    """Whether our own UI answers, and not another server that got the port first."""
    parts, challenge = urlsplit(address), secrets.token_hex(16)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", f"{parts.path}{HEALTH_PATH}?{challenge}")
        return hmac.compare_digest(connection.getresponse().read(1000), sessions.prove(challenge).encode())
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


def _last_line(log: Path) -> str:
    try:
        return last_line(log.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        return f"its log cannot be read: {error.strerror}"
