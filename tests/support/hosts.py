"""Several hosts on one machine: network namespaces on a bridge, each with an address, a name and, if wanted, a clock of its own.

Beside them, on the bridge's own address: one Postgres over TCP, and one Redis.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from dagster_offload.defs.instance import open_instance
from dagster_offload.engine.scan import scan
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.postgres import stop_postgres
from dagster_offload.postgres.embedded.postmaster import is_running, server_pid
from dagster_offload.postgres.embedded.server import ensure_embedded
from dagster_offload.postgres.urls import libpq_url
from dagster_offload.settings import Settings, load_settings
from tests.support.acceptance import wait_for
from tests.support.database import WITHOUT_FSYNC
from tests.support.held_texts import TextGate, documents_locked
from tests.support.patience import PATIENCE_SECONDS
from tests.support.redis_server import RedisServer

POSTGRES_PORT = 5432  # on an address that only this test has
# Celery hands the step of a dead worker to another one after this time, instead of an hour.
REDELIVERY_SECONDS = 20
# What `dagster-offload worker` starts, with that change, and without time to finish when it is stopped.
CELERY_WORKER = f"""
from dagster_offload.defs.execution import celery
celery.REDELIVERY_SECONDS = {REDELIVERY_SECONDS}
celery.SOFT_SHUTDOWN_SECONDS = 0.1
from dagster_offload.defs.execution.celery_app import app
app.worker_main(list(celery.worker_command()[4:]))
"""
# What was committed is in the kernel's hands, so it survives a kill.
KEPT_WHEN_KILLED = {"synchronous_commit": "on", "full_page_writes": "on"}
CLI = ("-m", "dagster_offload.cli")
_numbers = itertools.count()


class Host:
    """One host: its namespace, and the folder with its home and its own name for the shared library."""

    def __init__(self, site: "Site", name: str, number: int, clock: Sequence[str], zone: str) -> None:
        self.site, self.name, self.address = site, f"{name}-{number}", f"{site.subnet}.{1 + number}"
        self._clock = tuple(clock)
        # A number, because the system removes a namespace's link some time after the namespace.
        self._namespace = f"offload-{os.getpid()}-{self.name}-{next(_numbers)}"
        self._link = f"of{os.getpid()}n{next(_numbers)}"
        self.folder = site.folder / self.name
        self.folder.mkdir()
        self.library = self.folder / "mounted"
        self.library.symlink_to(site.library)
        self.environment = {**site.environment, "OFFLOAD_HOME": str(self.folder / "home")}
        self.environment |= {"OFFLOAD_LIBRARY": str(self.library), "REMAP_SIGTERM": "SIGQUIT", "TZ": zone}

    def connect(self) -> None:
        _ip("netns", "add", self._namespace)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._namespace)
        _ip("link", "set", self._link, "master", self.site.bridge, "up")
        _ip("-n", self._namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self._namespace, "link", "set", "lo", "up")
        self.plug_in()

    def unplug(self) -> None:
        """Cut this host off. Its connections stay open and get no answer."""
        _ip("link", "set", self._link, "nomaster")

    def plug_in(self) -> None:
        _ip("-n", self._namespace, "link", "set", "eth0", "up")
        _ip("link", "set", self._link, "master", self.site.bridge)

    def command(self, *arguments: str) -> list[str]:
        """The command that runs Python with `arguments` on this host."""
        rename = f'hostname {self.name}; exec "$@"'
        inside = ["ip", "netns", "exec", self._namespace, "unshare", "--uts", "sh", "-c", rename, "sh", *self._clock]
        return [*inside, sys.executable, *arguments]

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command of dagster-offload to its end. `settings` are environment variables."""
        return subprocess.run(
            self.command(*CLI, *arguments),
            env=self.environment | settings,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start Python on this host. Its output goes to the file `said`."""
        with (self.folder / "said").open("ab") as said:
            process = subprocess.Popen(
                self.command(*arguments), env=self.environment, cwd=self.folder, stdout=said, stderr=said
            )
        self.site.started.append(process)
        return process

    def start_worker(self) -> "subprocess.Popen[bytes]":
        return self.start("-c", CELERY_WORKER)

    def start_worker_in_a_terminal(self) -> int:
        """Start a worker in a session of its own. Returns the other side of its terminal, which the caller closes."""
        terminal, its_end = os.openpty()
        worker = ("env", "--default-signal=HUP", "setsid", "--ctty", *self.command("-c", CELERY_WORKER))
        process = subprocess.Popen(worker, env=self.environment, stdin=its_end, stdout=its_end, stderr=its_end)
        self.site.started.append(process)
        os.close(its_end)
        return terminal

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text(errors="replace")

    def pids(self) -> list[int]:
        return [int(pid) for pid in _output("ip", "netns", "pids", self._namespace).split()]

    def command_lines(self) -> list[str]:
        """Those of the processes that run on this host."""
        found = []
        for pid in self.pids():
            with suppress(OSError):  # it has ended
                found.append(Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " "))
        return found

    def kill(self) -> None:
        """Kill -9 every process of this host at once, as a power cut does."""
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.site.reap()

    def remove(self) -> None:
        self.kill()
        _ip("link", "delete", self._link)
        _ip("netns", "delete", self._namespace)


class Site:
    """A bridge with Postgres, Redis and hosts; a library that all of them mount; and one ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = folder / "library"
        self.library.mkdir()
        self.bridge = f"ob{os.getpid()}n{next(_numbers)}"
        self.subnet = f"10.{100 + os.getpid() // 250 % 100}.{os.getpid() % 250}"
        self.address = f"{self.subnet}.1"
        self.hosts: list[Host] = []
        # No address is used twice, because the bridge would look for the host that had it.
        self._host_numbers = itertools.count(1)
        self.started: list[subprocess.Popen[bytes]] = []
        self.environment: dict[str, str] = {}
        self.documents = 0
        self._url = ""
        self._gate = TextGate()
        self.redis = RedisServer(self.address, folder)

    def open(self) -> None:
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("addr", "add", f"{self.address}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        self.start_postgres()
        self.redis.start()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")}
        self.environment = inherited | {
            "OFFLOAD_HOME": str(self.folder / "home"),
            "OFFLOAD_LIBRARY": str(self.library),
            "OFFLOAD_POSTGRES_URL": self._url,
            "OFFLOAD_CELERY_BROKER": self.redis.url,
            "OFFLOAD_OCR": "off",
        }

    def close(self) -> None:
        self.remove_hosts()
        self.redis.stop()
        stop_postgres(self.server)
        _ip("link", "delete", self.bridge)

    def remove_hosts(self) -> None:
        """Kill every process that was started, and remove the hosts."""
        self._gate.open()
        for process in self.started:
            process.kill()
        for host in self.hosts:
            host.remove()
        for process in self.started:
            process.wait()
        self.started.clear()
        self.hosts.clear()

    def host(self, name: str, *, clock: Sequence[str] = (), zone: str = "UTC0") -> Host:
        """A new host, whose name ends in its number. `clock`: a command that runs another with a clock of its own. `zone`: its
        time zone, as POSIX has it."""
        host = Host(self, name, next(self._host_numbers), clock, zone)
        host.connect()
        self.hosts.append(host)
        return host

    @property
    def settings(self) -> Settings:
        environment = {name.removeprefix("OFFLOAD_").lower(): value for name, value in self.environment.items()}
        names = ("home", "library", "postgres_url", "ocr")
        return load_settings(**{name: environment[name] for name in names})

    @property
    def server(self) -> Path:
        return self.folder / "server"

    def start_postgres(self) -> None:
        """Start Postgres with what it had when it ended."""
        rules = self.folder / "pg_hba.conf"
        rules.write_text(f"local all all trust\nhost all all {self.subnet}.0/24 trust\n")
        listening = {"listen_addresses": self.address, "port": str(POSTGRES_PORT), "hba_file": str(rules)}
        url = ensure_embedded(self.server, options={**WITHOUT_FSYNC, **KEPT_WHEN_KILLED, **listening})
        there = conninfo_to_dict(url)
        user, database = there["user"], there["dbname"]
        self._url = libpq_url({"host": self.address, "port": POSTGRES_PORT, "user": user, "dbname": database})

    def end_postgres(self, how: signal.Signals) -> None:
        """SIGINT stops Postgres as an administrator does, SIGKILL ends all its processes as the kernel does."""
        server = psutil.Process(server_pid(self.server))
        for process in (server, *server.children()) if how is signal.SIGKILL else (server,):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(how)
        wait_for(lambda: not is_running(self.server), "the end of Postgres")

    def reap(self) -> None:
        """Let the processes that were killed go."""
        for process in self.started:
            process.poll()

    def add_documents(self, prefix: str, count: int) -> None:
        """Write documents, and scan them without reading their texts."""
        for number in range(count):
            (self.library / f"{prefix}-{number:04}.txt").write_text(
                f"{prefix} {number}: the rent is {number} EUR.\n" * 20
            )
        with open_ledger(self.settings) as ledger:
            assert scan(self.settings, ledger).added == count
        self.documents += count

    def launch(self, steps: int) -> "subprocess.Popen[bytes]":
        """Start a run of the job `extract` beside Postgres and Redis. Its output goes to the file `run`."""
        with open_instance(self.settings):
            pass  # writes dagster.yaml
        config = self.folder / "run.yaml"
        config.write_text(f"ops: {{begin_extraction: {{config: {{steps: {steps}}}}}}}\n")
        job = ["-m", "dagster", "job", "execute", "-m", "dagster_offload.definitions", "-j", "extract"]
        environment = self.environment | {"DAGSTER_HOME": str(self.folder / "home" / "dagster")}
        with (self.folder / "run").open("ab") as said:
            run = subprocess.Popen(
                [sys.executable, *job, "-c", str(config)], env=environment, cwd=self.folder, stdout=said, stderr=said
            )
        self.started.append(run)
        return run

    def sql(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            connection.execute("set search_path to offload")
            return connection.execute(query.encode(), parameters).fetchall()

    def hold_texts(self) -> None:
        """Let no host store a text until `frozen` has found the documents that one holds. So no host is too quick for a test."""
        self._gate.close(self._url)

    @contextmanager
    def frozen(self, host: Host) -> Iterator[int]:
        """Let no step on this host store its next texts during the block. Yields how many documents it holds, at least one."""
        with documents_locked(self._url, host.name, self._gate) as held:
            yield held

    def is_anyone_deregistering(self) -> bool:
        """Whether a worker waits for a row while it gives back what it holds."""
        waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like %s"
        return bool(self.sql(waiting, "update work_items set state = 'pending', reason%"))

    def done(self) -> int:
        [row] = self.sql("select count(*) as n from work_items where stage = 'extract' and state = 'done'")
        return int(row["n"])

    def done_by_host(self) -> dict[str, int]:
        rows = self.sql(
            "select w.host, count(*) as n from transitions t join workers w using (worker_id) "
            "where t.to_state = 'done' and t.stage = 'extract' group by w.host order by w.host"
        )
        return {row["host"]: row["n"] for row in rows}

    def count_live(self, host: Host) -> int:
        """How many workers of this host are registered."""
        [row] = self.sql("select count(*) as n from workers where host = %s and ended_at is null", host.name)
        return int(row["n"])

    def wait_until_done(self) -> None:
        wait_for(lambda: self.done() == self.documents, f"{self.documents} documents done")

    def wait_for_run(self, run: "subprocess.Popen[bytes]") -> None:
        wait_for(lambda: run.poll() is not None, "the end of the run")
        assert run.returncode == 0, (self.folder / "run").read_text(errors="replace")[-6000:]

    def assert_each_done_once(self) -> None:
        """Every document has its text, was recorded once, and was reported to Dagster once."""
        count = self.documents
        [row] = self.sql(
            "select count(*) filter (where state = 'done') as done, count(*) as items, "
            "(select count(*) from transitions where stage = 'extract' and to_state = 'done') as recorded, "
            "(select count(*) from outbox where told_at is null) as pending, "
            "(select max(attempts) from work_items) as attempts from work_items where stage = 'extract'"
        )
        assert row == {"done": count, "items": count, "recorded": count, "pending": 0, "attempts": 0}
        [reported] = self.sql(
            "select count(*) as events, count(distinct partition) as documents from offload_dagster.event_logs "
            "where dagster_event_type = 'ASSET_MATERIALIZATION' and asset_key like '%%extracted_text%%'"
        )
        assert reported == {"events": count, "documents": count}


@contextmanager
def a_site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="offload-hosts-", dir="/tmp")).resolve()
    folder.chmod(0o711)  # Postgres runs as another user
    site = Site(folder)
    try:
        site.open()
        yield site
    finally:
        site.close()
        shutil.rmtree(folder)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
