"""What a machine knows about itself."""

from dagster_offload.host.machine import seconds_slept


def test_a_machine_that_stays_awake_has_not_slept_meanwhile() -> None:
    before = seconds_slept()
    assert before > -1.0
    assert abs(seconds_slept() - before) < 1.0
