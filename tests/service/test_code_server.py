"""The code server's end: it does not wait for the runs that it started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from dagster._grpc.client import DagsterGrpcClient

from dagster_offload.service.home import log_folder

# Dagster's own server, with a run as `StartRun` keeps it.
SERVER = """
import multiprocessing
import sys
import time

from dagster._grpc.server import DagsterApiServer

from dagster_offload.service import code_server

init = DagsterApiServer.__init__

def with_a_run(self, *arguments, **options):
    init(self, *arguments, **options)
    run = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    run.start()
    self._executions["a run"] = (run, None)
    print("run", run.pid, flush=True)

DagsterApiServer.__init__ = with_a_run
code_server.serve()
"""


def test_the_code_server_ends_at_sigterm_and_leaves_its_runs(home: Path) -> None:
    socket = home / "code.sock"
    module = ("--module-name", "dagster_offload.definitions", "--empty-working-directory")
    command = [sys.executable, "-c", SERVER, "api", "grpc", "--socket", str(socket), *module]
    log = log_folder(home) / "code_server.log"
    with log.open("w") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=home, text=True, process_group=0)
    with server:
        assert server.stdout is not None
        try:
            lines = iter(server.stdout.readline, "")
            pid = next(line for line in lines if line.startswith("run ")).split()[1]
            next(line for line in lines if "Started Dagster code server" in line)
            DagsterGrpcClient(socket=str(socket)).ping("it serves")
            run = psutil.Process(int(pid))
            server.terminate()
            assert server.wait(60) == 0
            assert run.is_running()
            assert run.status() != psutil.STATUS_ZOMBIE
        finally:
            os.killpg(server.pid, signal.SIGKILL)
    assert "Traceback" not in log.read_text()
