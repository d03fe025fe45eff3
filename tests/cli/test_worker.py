"""`worker` checks this host first. Without Redis, Postgres or the library it starts nothing and names what to change."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.support.cli import Call
from tests.support.ports import held_port


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
