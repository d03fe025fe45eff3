"""A clock that was set back does not keep Dagster's daemon from the ticks of a sensor."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
)
from dagster._daemon.sensor import is_under_min_interval

from dagster_offload.defs.future_ticks import forget_future_ticks
from tests.support.edge import Edge

HOUR = 3600.0
SENSOR: Any = SimpleNamespace(min_interval_seconds=5)


def add_sensor(edge: Edge, last_tick: float) -> InstigatorState:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("edge"), "__repository__")
    state = InstigatorState(
        RemoteInstigatorOrigin(repository, "drain_sensor"),
        InstigatorType.SENSOR,
        InstigatorStatus.RUNNING,
        SensorInstigatorData(last_tick_timestamp=last_tick, last_tick_start_timestamp=last_tick, cursor="kept"),
    )
    edge.instance.add_instigator_state(state)
    return state


def stored(edge: Edge, state: InstigatorState) -> InstigatorState:
    found = edge.instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
    assert found is not None
    return found


def test_a_sensor_whose_last_tick_lies_in_the_future_ticks_again(edge: Edge) -> None:
    state = add_sensor(edge, time.time() + HOUR)
    assert is_under_min_interval(stored(edge, state), SENSOR)
    assert forget_future_ticks(edge.instance) == ["drain_sensor ticks again: its last tick lies in the future"]
    assert not is_under_min_interval(stored(edge, state), SENSOR)
    data = stored(edge, state).instigator_data
    assert isinstance(data, SensorInstigatorData)
    assert data.cursor == "kept"
    assert forget_future_ticks(edge.instance) == []


@pytest.mark.parametrize("seconds_ago", [0.0, HOUR])
def test_other_sensors_keep_their_last_tick(edge: Edge, seconds_ago: float) -> None:
    state = add_sensor(edge, time.time() - seconds_ago)
    assert forget_future_ticks(edge.instance) == []
    assert stored(edge, state).instigator_data == state.instigator_data
