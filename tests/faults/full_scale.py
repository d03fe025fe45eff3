"""A slot that falls asleep during an answer: a simulator in its own process, on this host or on one that can vanish.

`python -m tests.faults.full_scale` runs both cases with the product's real intervals and prints how long they took. It
takes about four minutes.
"""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from dagster_offload.drain import DrainSummary, run_drain
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.slots import slots
from dagster_offload.settings import load_settings
from dagster_offload.simulator.server import Router
from dagster_offload.stages.graph import BUILT_IN, CLASSIFY
from tests.support.acceptance import wait_for
from tests.support.ledger import Bench
from tests.support.patience import PATIENCE_SECONDS

_hosts = itertools.count(1)


def cannot_make_hosts() -> str | None:
    """Why the test cannot create a network namespace on this machine; None if it can."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    return None if shutil.which("ip") else "needs the command ip (package iproute2)"


class OtherHost:
    """A host for the test: a network namespace whose link can be taken down."""

    def __init__(self) -> None:
        number = next(_hosts)
        self._name, self._near, self._far = (f"{kind}{os.getpid()}{number}" for kind in ("offload", "on", "of"))
        subnet = f"10.{200 + number % 50}.{os.getpid() % 250}"
        self._near_address, self.address = f"{subnet}.1", f"{subnet}.2"

    def __enter__(self) -> Self:
        _ip("netns", "add", self._name)
        _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self._name)
        _ip("addr", "add", f"{self._near_address}/30", "dev", self._near)
        _ip("link", "set", self._near, "up")
        _ip("-n", self._name, "addr", "add", f"{self.address}/30", "dev", self._far)
        self.come_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _ip("netns", "delete", self._name)

    def command(self, *arguments: str) -> list[str]:
        """The command that runs `arguments` on this host."""
        return ["ip", "netns", "exec", self._name, *arguments]

    def vanish(self) -> None:
        _ip("-n", self._name, "link", "set", self._far, "down")

    def come_back(self) -> None:
        _ip("-n", self._name, "link", "set", self._far, "up")
        _ip("neigh", "flush", "dev", self._near)  # forget that the host did not answer while it was gone


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextmanager
def simulator(host: OtherHost | None = None) -> Iterator[tuple["subprocess.Popen[str]", Router]]:
    """A stand-in router in its own process, and the client that controls it. It holds every answer until `hold` is off."""
    address = "127.0.0.1" if host is None else host.address
    program = [sys.executable, "-m", "dagster_offload.cli", "simulate-router", "--port", "0", "--host", address]
    command = [*program, "--latency", "0"]
    process = subprocess.Popen(command if host is None else host.command(*command), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        router = Router(port=int(line.partition(" (")[0].rpartition(":")[2]))
        router.host = address
        router.set(hold=True)
        yield process, router
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


class Asleep:
    """A library of one document, a drain with an open call, and a slot that will fall asleep."""

    def __init__(self, ledger: Ledger, router: Router, home: Path) -> None:
        self.bench, self.router = Bench(ledger), router
        self.settings = load_settings(home=home, deep_url=router.url, deep_model="qwen-macbook")
        deep = self.settings.slots.deep
        assert deep is not None
        ledger.run(slots.register, deep)
        self.bench.extracted("a.txt")

    def start_drain_and_wait_for_a_probe(self, probes: int = 1) -> "Future[DrainSummary]":
        """Start a drain and wait until its call is open and so many probes were answered. The read timeout is 15 minutes."""
        pool = ThreadPoolExecutor(1)
        drain = pool.submit(run_drain, self.settings, self.bench.ledger, CLASSIFY)
        pool.shutdown(wait=False)
        self.router.wait(open=1, timeout=PATIENCE_SECONDS)
        wait_for(lambda: self._answered_probes() >= probes, "probes")
        return drain

    def _answered_probes(self) -> int:
        return sum(entry["path"] == "/health" and entry["status"] == 200 for entry in self.router.log()["requests"])

    def assert_done_later_with_one_more_call(self) -> None:
        item = self.bench.item("a.txt", CLASSIFY)
        assert (item["state"], item["attempts"], item["must_run_alone"]) == (State.DEFERRED, 0, False)
        wait_for(lambda: _can_reach(self.router), "the network")
        self.router.set(hold=False)
        self.bench.sql("update slots set retry_at = clock_timestamp()")
        assert decide_drain(self.settings, self.bench.ledger).launch
        assert run_drain(self.settings, self.bench.ledger, CLASSIFY).done == 1
        calls = [entry for entry in self.router.completions() if entry["document"]]
        assert len(calls) == 2
        assert len({entry["document"] for entry in calls}) == 1


def _can_reach(router: Router) -> bool:
    try:
        socket.create_connection((router.host, router.port), timeout=1).close()
    except OSError:
        return False
    return True


def main() -> None:
    from dagster_offload.postgres import stop_postgres
    from dagster_offload.postgres.embedded.server import ensure_embedded
    from dagster_offload.postgres.urls import libpq_url

    home = Path(tempfile.mkdtemp(prefix="offload-asleep-", dir="/tmp"))
    try:
        for name, host in (("frozen process", None), ("vanished host", OtherHost())):
            with Ledger(libpq_url({**_server(ensure_embedded(home))}), schema=name.split()[0]) as ledger:
                migrate(ledger, BUILT_IN)
                _play(name, host, ledger, home)
    finally:
        stop_postgres(home)
        shutil.rmtree(home)


def _server(url: str) -> dict[str, str]:
    from psycopg.conninfo import conninfo_to_dict

    return {key: str(value) for key, value in conninfo_to_dict(url).items()}


def _play(name: str, host: OtherHost | None, ledger: Ledger, home: Path) -> None:
    from contextlib import nullcontext

    with host or nullcontext(), simulator(host) as (process, router):
        asleep = Asleep(ledger, router, home)
        drain = asleep.start_drain_and_wait_for_a_probe()
        process.send_signal(signal.SIGSTOP) if host is None else host.vanish()
        began = time.monotonic()
        summary = drain.result()
        print(f"{name}: noticed after {time.monotonic() - began:.1f} s: {summary.reason}", flush=True)
        process.send_signal(signal.SIGCONT) if host is None else host.come_back()
        asleep.assert_done_later_with_one_more_call()
        print(f"{name}: done later; {len(asleep.router.completions())} completions in all, trial included", flush=True)


if __name__ == "__main__":
    main()
