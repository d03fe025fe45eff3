"""`worker` checks this host first. Without Redis, Postgres or the library it starts nothing and names what to change.

And it imports nothing from the working folder, as Celery's own command would.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from dagster_offload.defs.execution.celery import celery_options, worker_command
from dagster_offload.host.python_process import python_command, python_environment
from dagster_offload.settings import load_settings
from tests.support.acceptance import wait_for
from tests.support.cli import Call
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import held_port
from tests.support.redis_server import RedisServer


def found(output: str) -> dict[str, str]:
    """What each check that failed has found, by its name."""
    answer = json.loads(output)
    assert answer["ok"] is all(check["ok"] for check in answer["checks"])
    return {check["name"]: check["found"] for check in answer["checks"] if not check["ok"]}


def test_without_a_broker_the_setting_is_named(call: Call, library: Path) -> None:
    result = call("worker", "--check", "--json")
    assert result.exit_code == 2
    assert found(result.output) == {
        "broker": "no broker: set OFFLOAD_CELERY_BROKER to the address of a Redis, such as redis://HOST:6379/0"
    }


def test_a_redis_that_does_not_answer_is_named_without_its_password(call: Call, library: Path) -> None:
    with held_port() as port:
        os.environ["OFFLOAD_CELERY_BROKER"] = f"redis://:hunter2@127.0.0.1:{port}/0"
        result = call("worker", "--check", "--json")
    assert result.exit_code == 2
    assert found(result.output)["broker"].startswith("no answer from Redis on 127.0.0.1 (ConnectionError: ")
    assert "hunter2" not in result.output


def test_without_celery_the_extra_is_named(call: Call, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dagster_celery", None)
    os.environ["OFFLOAD_CELERY_BROKER"] = "redis://127.0.0.1:1/0"
    result = call("worker", "--check", "--json")
    assert result.exit_code == 2
    assert found(result.output) == {"broker": "Celery is not installed here: pip install 'dagster-offload[celery]'"}


@pytest.mark.parametrize("query", ["socket_timeout=abc", "no_such_parameter=1"])
def test_a_wrong_parameter_of_the_broker_is_named(call: Call, library: Path, query: str) -> None:
    os.environ["OFFLOAD_CELERY_BROKER"] = f"redis://:s3cret@127.0.0.1:1/0?{query}"
    result = call("worker", "--check", "--json")
    assert result.exit_code == 2
    name = query.split("=")[0]
    assert found(result.output)["broker"] == (
        f"a parameter in OFFLOAD_CELERY_BROKER is wrong: correct it (its parameters: {name})"
    )
    assert "s3cret" not in result.output


def test_a_password_with_a_question_mark_is_not_taken_for_parameters(call: Call, library: Path) -> None:
    os.environ["OFFLOAD_CELERY_BROKER"] = "redis://me:7?hunter2=x@127.0.0.1:1/0"
    result = call("worker", "--check", "--json")
    assert found(result.output)["broker"].endswith("(write ? in a password as %3F)")
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    "address", ["amqp://me:hunter2@box//", "redis://", "redis://:hunter2/@box:6379/0", "redis://:@hunter2@box/0"]
)
def test_the_broker_must_be_redis_and_no_message_shows_its_password(call: Call, library: Path, address: str) -> None:
    os.environ["OFFLOAD_CELERY_BROKER"] = address
    result = call("worker", "--check")
    assert result.exit_code == 2
    assert "OFFLOAD_CELERY_BROKER" in result.output
    assert "must be the address of a Redis" in result.output
    assert "hunter2" not in result.output


def test_json_is_for_the_checks_only(call: Call, library: Path) -> None:
    result = call("worker", "--json")
    assert result.exit_code == 2
    assert "use it with --check" in json.loads(result.stdout)["error"]


# Modules that Celery, Dagster's executor or our application import at some time, or try to.
PLANTED = (
    "dagster_celery",
    "dagster",
    "redis",
    "eventlet",
    "gevent",
    "django",
    "psycopg",
    "pydantic",
    "dateutil",
    "msgpack",
)


@pytest.fixture
def folder_of_another(tmp_path: Path) -> Path:
    """A working folder with modules that fail when they are imported."""
    folder = tmp_path / "another"
    folder.mkdir()
    for name in PLANTED:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was planted')")
    return folder


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = python_environment() | {"OFFLOAD_CELERY_BROKER": "redis://:s3cret@127.0.0.1:1/0"}
    return subprocess.run(
        python_command(*arguments), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.redis
def test_a_worker_imports_nothing_from_the_working_folder(folder_of_another: Path) -> None:
    command, application = worker_command()[:2], worker_command()[2:4]
    ran = run_in(folder_of_another, *command, *application, "report")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "execute_plan" in ran.stdout
    assert "planted" not in ran.stdout + ran.stderr
    as_celery_does = run_in(folder_of_another, "-m", "celery", *application, "report")
    assert "was planted" in as_celery_does.stdout + as_celery_does.stderr


@pytest.mark.redis
def test_a_run_over_celery_imports_nothing_from_the_working_folder(folder_of_another: Path) -> None:
    (folder_of_another / "only_here.py").write_text("print('planted')")
    build = """
from dagster_offload.defs.execution.celery import build_celery_executor
from dagster_offload.settings import load_settings
build_celery_executor(load_settings())
from celery.utils.imports import import_from_cwd
try:
    import_from_cwd("only_here")
except ModuleNotFoundError:
    print("not found")
"""
    ran = run_in(folder_of_another, "-c", build)
    assert (ran.returncode, ran.stdout) == (0, "not found\n"), ran.stderr


# Only this process has it, so the usual port is free there.
ADDRESS = f"127.{100 + os.getpid() // 250 % 100}.{os.getpid() % 250}.2"


@pytest.fixture
def tls_redis(tmp_path: Path) -> Iterator[Path]:
    """A Redis that speaks TLS only. Yields the certificate of its authority."""
    authority = trustme.CA()
    issued = authority.issue_cert(ADDRESS)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = [
        "--port",
        "0",
        "--tls-port",
        "6379",
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        str(tmp_path / "cert.pem"),
    ]
    tls += ["--tls-key-file", str(tmp_path / "key.pem"), "--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    log = tmp_path / "redis.log"
    command = ["redis-server", *tls, "--bind", ADDRESS, "--save", "", "--dir", str(tmp_path), "--logfile", str(log)]
    server = subprocess.Popen([*command, "--requirepass", "s3cret"])
    try:
        wait_for(lambda: server.poll() is not None or (log.exists() and "Ready to accept" in log.read_text()), "Redis")
        assert server.poll() is None, log.read_text()
        yield tmp_path / "ca.pem"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.redis
def test_a_broker_with_tls_is_used_by_celery_and_its_certificate_is_verified(
    tls_redis: Path, call: Call, library: Path
) -> None:
    from dagster_celery.executor import CeleryExecutor
    from dagster_celery.make_app import make_app

    address = f"rediss://:s3cret@{ADDRESS}:6379/0"
    os.environ["OFFLOAD_CELERY_BROKER"] = address
    assert "CERTIFICATE_VERIFY_FAILED" in found(call("worker", "--check", "--json").output)["broker"]
    os.environ["OFFLOAD_CELERY_BROKER"] = f"{address}?ssl_ca_certs={tls_redis}"
    checks = json.loads(call("worker", "--check", "--json").output)["checks"]
    assert checks[0] == {"name": "broker", "ok": True, "found": f"Redis on {ADDRESS}"}
    executor = CeleryExecutor.for_cli(**celery_options(load_settings()))  # type: ignore[no-untyped-call]
    app = make_app(executor.app_args())  # type: ignore[no-untyped-call]
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)
    assert app.backend.client.ping()


@pytest.fixture
def plain_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(ADDRESS, tmp_path)
    server.start()
    yield server
    server.stop()


@contextlib.contextmanager
def a_worker_without_a_terminal(
    redis: RedisServer, folder: Path, hangup: signal.Handlers
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that waits for steps. `hangup` is what it inherits for SIGHUP."""
    environment = python_environment() | {"OFFLOAD_CELERY_BROKER": redis.url, "REMAP_SIGTERM": "SIGQUIT"}
    command = [*worker_command(), "--loglevel", "INFO"]
    before = signal.signal(signal.SIGHUP, hangup)
    try:
        with (folder / "said").open("wb") as said:
            worker = subprocess.Popen(python_command(*command), env=environment, stdout=said, stderr=said)
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        wait_for(lambda: b" ready." in (folder / "said").read_bytes() or worker.poll() is not None, "the worker")
        yield worker
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.redis
def test_a_worker_under_nohup_goes_on_when_its_terminal_closes(plain_redis: RedisServer, tmp_path: Path) -> None:
    with a_worker_without_a_terminal(plain_redis, tmp_path, signal.SIG_IGN) as worker:
        worker.send_signal(signal.SIGHUP)
        worker.send_signal(signal.SIGTERM)
        worker.wait(PATIENCE_SECONDS)
        said = (tmp_path / "said").read_text()
    assert said.count(" ready.") == 1
    assert "Restarting" not in said


@pytest.mark.redis
def test_a_worker_ends_by_sighup_and_does_not_start_itself_again(plain_redis: RedisServer, tmp_path: Path) -> None:
    with a_worker_without_a_terminal(plain_redis, tmp_path, signal.SIG_DFL) as worker:
        worker.send_signal(signal.SIGHUP)
        worker.wait(PATIENCE_SECONDS)
        said = (tmp_path / "said").read_text()
    assert worker.returncode >= 0, "it ended by itself"
    assert "Cold shutdown" in said
    assert "Restarting" not in said
