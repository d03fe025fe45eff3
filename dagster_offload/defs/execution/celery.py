"""Celery for the job `extract`: one set of options for the executor and for the workers, from the settings of each host."""

import contextlib
import os
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import dagster as dg

from dagster_offload import timing
from dagster_offload.defs.names import CELERY_EXECUTOR
from dagster_offload.defs.pooled_storage import wait_for_postgres
from dagster_offload.engine.extraction.host import HostCheck
from dagster_offload.errors import SettingsError
from dagster_offload.settings import Settings
from dagster_offload.settings.sections.exposed import exposed_broker

NOT_INSTALLED = "Celery is not installed here: pip install 'dagster-offload[celery]'"
# Redis gives a message to another worker if the first has not confirmed it within this time. A step confirms at its end, so the
# step of a host that died is repeated after this time. A repeated step that is still running finds other documents, or none. It
# is far longer than clocks differ, because each worker measures it with its own clock.
REDELIVERY_SECONDS = 3600
# A worker that must stop finishes what ends within this time. Then its step releases its claims.
SOFT_SHUTDOWN_SECONDS = 10
BROKER_SECONDS = 5.0  # for a connection to the broker
PUBLISH_RETRIES = 60  # of a message while the broker is unavailable, up to 5 s apart


def celery_options(settings: Settings) -> dict[str, Any]:
    """The broker, the result backend and the configuration of Celery. Raises `SettingsError`."""
    broker = settings.celery.broker
    if broker is None:
        raise SettingsError(
            "no broker: set OFFLOAD_CELERY_BROKER to the address of a Redis, such as redis://HOST:6379/0"
        )
    address = _with_verified_tls(broker.get_secret_value())
    return {
        "broker": address,
        "backend": address,
        "config_source": {
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "broker_transport_options": {"visibility_timeout": REDELIVERY_SECONDS},
            "result_backend_transport_options": {"visibility_timeout": REDELIVERY_SECONDS},
            # While Redis is unavailable, a run and its workers wait for it.
            "broker_connection_retry_on_startup": True,
            "broker_connection_max_retries": None,
            "result_backend_always_retry": True,
            "task_publish_retry_policy": {
                "max_retries": PUBLISH_RETRIES,
                "interval_start": 0,
                "interval_step": 0.5,
                "interval_max": 5,
            },
            "worker_prefetch_multiplier": 1,
            "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_SECONDS,
        },
    }


def _with_verified_tls(address: str) -> str:
    """The address, in which Celery finds that certificates must be verified. Without that, it refuses a rediss:// address."""
    parts = urlsplit(address)
    # Celery accepts CERT_REQUIRED as well, and the client of Redis does not.
    parts = parts._replace(query=re.sub(r"(?<=ssl_cert_reqs=)CERT_(\w+)", lambda kind: kind[1].lower(), parts.query))
    if parts.scheme != "rediss" or "ssl_cert_reqs" in parse_qs(parts.query):
        return urlunsplit(parts)
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, "ssl_cert_reqs=required"]))))


def worker_command() -> tuple[str, ...]:
    """Celery's arguments for a worker: `python -m ...`. One step at a time, because a step uses all cores."""
    package = "dagster_offload.defs.execution"
    application = ("-m", f"{package}.celery_command", "--app", f"{package}.celery_app")
    name = f"dagster-offload-{os.getpid()}@%h"
    return (*application, "worker", "--concurrency", "1", "--hostname", name, "--loglevel", "WARNING")


def import_nothing_from_the_working_folder() -> None:
    """Celery imports some modules with the working folder at the front of the module path. Another user may own that folder.

    Call it before Celery imports anything. Raises `ImportError` if Celery is not installed.
    """
    import celery.utils.imports

    celery.utils.imports.cwd_in_path = contextlib.nullcontext


def check_broker(settings: Settings) -> HostCheck:
    """Whether Celery is installed and Redis answers, and who else can use it. No message contains the password."""
    try:
        import_nothing_from_the_working_folder()
        import dagster_celery  # noqa: F401 - is it installed?
        import redis
    except ImportError:
        return HostCheck("broker", False, NOT_INSTALLED)
    try:
        address = celery_options(settings)["broker"]
    except SettingsError as error:
        return HostCheck("broker", False, str(error))
    where = urlsplit(address).hostname or "this host"
    try:
        with redis.Redis.from_url(
            address, socket_connect_timeout=BROKER_SECONDS, socket_timeout=BROKER_SECONDS
        ) as client:
            client.ping()
    except (TypeError, ValueError):  # their texts may quote a part of the password
        query = urlsplit(address).query
        names = ", ".join(parse_qs(query)) or "none"
        hint = "write ? in a password as %3F" if "@" in query else f"its parameters: {names}"
        return HostCheck("broker", False, f"a parameter in OFFLOAD_CELERY_BROKER is wrong: correct it ({hint})")
    except redis.RedisError as error:
        reason = f"{type(error).__name__}: {error}"
        return HostCheck("broker", False, f"no answer from Redis on {where} ({reason}): check OFFLOAD_CELERY_BROKER")
    exposed = exposed_broker(settings)
    warning = "" if exposed is None else f"; {exposed.found}. {exposed.advice}"
    return HostCheck("broker", True, f"Redis on {where}{warning}")


def build_celery_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Dagster's Celery executor with the settings' options. If it cannot be used here, a run of it fails with the reason.

    Raises `SettingsError` without a broker.
    """
    try:
        import_nothing_from_the_working_folder()
        from dagster_celery import celery_executor
    except ImportError:
        return _failing_executor(NOT_INSTALLED)
    if settings.postgres_url is None:
        return _failing_executor(
            "OFFLOAD_CELERY_BROKER is set, but the embedded Postgres serves one host only: set OFFLOAD_POSTGRES_URL, or unset "
            "OFFLOAD_CELERY_BROKER"
        )
    return _patient(celery_executor.configured(celery_options(settings), name=CELERY_EXECUTOR))


def _patient(executor: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """The same executor in a process that waits for Postgres as long as the steps of its run do."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        wait_for_postgres(timing.current().cut_off)
        return executor.executor_creation_fn(context)  # type: ignore[misc]

    return dg.ExecutorDefinition(
        name=executor.name,
        description=executor.description,
        config_schema=executor.config_schema,  # type: ignore[arg-type]
        requirements=executor.get_requirements({}),
        executor_creation_fn=create,
    )


def _failing_executor(reason: str) -> dg.ExecutorDefinition:
    @dg.executor(name=CELERY_EXECUTOR, requirements=dg.multiple_process_executor_requirements())
    def celery(_context: dg.InitExecutorContext) -> dg.Executor:
        raise SettingsError(reason)

    return celery
