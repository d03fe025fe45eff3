"""Lets the sensors tick again after the clock was set back.

Dagster's daemon waits for a sensor's interval since the time of its last tick. If that time lies in the future, the sensor
does not tick for as long as the clock was set back: for hours, if a machine took its first time as another time zone's.
"""

import time

import dagster as dg

# The internal part is this one; the contract test is tests/dagster/test_future_ticks.py.
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData

from dagster_offload.defs.runs import CLOCKS_DIFFER_SECONDS


def forget_future_ticks(instance: dg.DagsterInstance) -> list[str]:
    """Forget the last tick of each sensor if it lies in the future. Returns one sentence per sensor."""
    latest, forgotten = time.time() + CLOCKS_DIFFER_SECONDS, []
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        data = state.instigator_data
        if not isinstance(data, SensorInstigatorData):
            continue
        if max(data.last_tick_timestamp or 0.0, data.last_tick_start_timestamp or 0.0) > latest:
            instance.update_instigator_state(
                state.with_data(data._replace(last_tick_timestamp=None, last_tick_start_timestamp=None))
            )
            forgotten.append(f"{state.instigator_name} ticks again: its last tick lies in the future")
    return forgotten
