"""Commands and steps as processes that are forked from one that has imported what they need, as `up` starts its own.

The imports are most of a short command. These tests start commands as a person does: of the demonstration, of the pages with a
command that runs until Ctrl-C, and of `scan` and `drain` without a daemon. Dagster starts a process for each step of a run.
"""

import atexit
import functools
import json
import multiprocessing
import multiprocessing.spawn
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dagster_offload.host.python_process import python_command
from dagster_offload.service.prefork import prefork_command

# It ends when its standard input does, which is when this process ends, and removes its folder.
SERVER = """
import gc, shutil, sys
gc.disable()
from pathlib import Path
import dagster_offload.cli.run_job, dagster_offload.definitions
from dagster_offload.defs.execution import in_process
from dagster_offload.defs import pooled_storage
from dagster_offload.service.prefork import start_prefork_server
gc.freeze()
gc.enable()
socket = Path(sys.argv[1])
start_prefork_server(socket)
print("ready", flush=True)
sys.stdin.read()
shutil.rmtree(socket.parent)
"""
# The environment comes through an open file, because a process list shows arguments.
ENVIRONMENT = """
import json, os, sys, tempfile
with open(int(sys.argv[2]), encoding="utf-8") as given:
    environment = json.load(given)
os.environ.clear()
os.environ.update(environment)
tempfile.tempdir = None  # an import may have asked for it
"""
COMMAND = f"""{ENVIRONMENT}
from dagster_offload.cli import main
main(sys.argv[3:], prog_name="dagster-offload")
"""
# A server with the environment of one test, forked from the one above.
STEP_SERVER = f"""{ENVIRONMENT}
from pathlib import Path
from dagster_offload.service.prefork import start_prefork_server
start_prefork_server(Path(sys.argv[3]))
print("ready", flush=True)
sys.stdin.read()
"""


def run_command(
    *arguments: str, environment: Mapping[str, str], folder: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a command of dagster-offload to its end, with this environment, in this working folder."""
    with _open_file_with(json.dumps(dict(environment))) as file:
        return subprocess.run(
            prefork_command(_server_socket(), COMMAND, str(file), *arguments),
            cwd=folder,
            pass_fds=(file,),
            capture_output=True,
            text=True,
            timeout=seconds,
        )


def start_command(
    *arguments: str, environment: Mapping[str, str], folder: Path, output: IO[str]
) -> subprocess.Popen[str]:
    """Start a command in the same way. What is returned stands in for it: it ends as the command does, and `kill` kills both.

    The command has another process id, which is the one in the ledger.
    """
    with _open_file_with(json.dumps(dict(environment))) as file:
        return subprocess.Popen(
            prefork_command(_server_socket(), COMMAND, str(file), *arguments),
            cwd=folder,
            pass_fds=(file,),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )


# Stands for `dagster-offload` on the PATH of a shell.
PROGRAM = """\
#!%(python)s -IS
import json, os, sys
file = os.memfd_create("environment", 0)
with open(file, "w", encoding="utf-8", closefd=False) as given:
    json.dump(dict(os.environ), given)
os.lseek(file, 0, os.SEEK_SET)
command = [*%(command)r, str(file), *sys.argv[1:]]
os.execv(command[0], command)
"""


def write_program(folder: Path) -> None:
    """Write the program `dagster-offload` into this folder. What it runs is forked."""
    program = folder / "dagster-offload"
    program.write_text(
        PROGRAM % {"python": sys.executable, "command": prefork_command(_server_socket(), COMMAND)}, encoding="utf-8"
    )
    program.chmod(0o755)


@contextmanager
def forked_steps() -> Iterator[None]:
    """Fork the processes that `multiprocessing` starts in this block. They get the environment of its beginning."""
    with tempfile.TemporaryDirectory(prefix="offload-steps-", dir="/tmp") as folder:
        socket = Path(folder) / "steps.sock"
        with _open_file_with(json.dumps(dict(os.environ))) as file:
            server = _started(prefork_command(_server_socket(), STEP_SERVER, str(file), str(socket)), pass_fds=(file,))
        python = multiprocessing.spawn.get_executable()
        multiprocessing.set_executable(str(socket.with_suffix(".sh")))
        try:
            yield
        finally:
            multiprocessing.set_executable(python)
            server.communicate()  # closes its standard input and waits for its end


@contextmanager
def _open_file_with(content: str) -> Iterator[int]:
    """The descriptor of a file in memory, at its beginning."""
    descriptor = os.memfd_create("environment")
    try:
        os.write(descriptor, content.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


@functools.cache
def _server_socket() -> Path:
    """The socket of this process's prefork server, which is started at the first call."""
    folder = Path(tempfile.mkdtemp(prefix="offload-forks-", dir="/tmp"))
    socket = folder / "forks.sock"
    server = _started(python_command("-c", SERVER, str(socket)))
    atexit.register(server.communicate)  # closes its standard input and waits for its end
    return socket


def _started(command: Sequence[str], pass_fds: Sequence[int] = ()) -> "subprocess.Popen[str]":
    """A prefork server that is ready."""
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", pass_fds=pass_fds
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    return server
