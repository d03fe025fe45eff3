"""What `status` and `explain` say of what runs: who checks a slot again, and who continues."""

import pytest

from dagster_offload.cli.running import Running
from dagster_offload.service.home import RunningUp

UP = RunningUp.of_this_process()


@pytest.mark.rule("drain-10")
@pytest.mark.parametrize(
    ("running", "is_checked"),
    [
        (Running(None, [], []), False),
        (Running(UP, [], []), True),
        (Running(UP, [], ["drain_sensor"]), False),
        (Running(None, ["extract", "scan"], []), False),
        (Running(UP, ["drain"], ["drain_sensor"]), True),
        (Running(None, ["run"], []), True),
    ],
)
def test_only_sensors_drains_and_runs_check_a_slot_again(running: Running, is_checked: bool) -> None:
    assert running.is_slot_checked == is_checked


@pytest.mark.parametrize(
    ("running", "who"),
    [
        (Running(UP, [], []), "`up` continues when the slot is back"),
        (Running(None, [], []), "start `dagster-offload up`, which continues when the slot is back"),
        (
            Running(UP, [], ["drain_sensor"]),
            "turn on drain_sensor in the UI (Automation), which continues when the slot is back",
        ),
    ],
)
def test_who_continues_is_said_only_of_what_does(running: Running, who: str) -> None:
    assert running.describe_unhealthy("connection refused") == f"connection refused; {who}"
