"""What runs now, and what that means for slots and for waiting work, in the words of `status` and `explain`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_offload.ledger.core.rows import SlotRow
    from dagster_offload.service.home import RunningUp


CHECKS_SLOTS = frozenset({"drain", "run", "sensor"})  # the kinds of workers that check an unavailable slot again


@dataclass(frozen=True)
class Running:
    """The running `up` (None: none runs), the kinds of the workers that are alive, and the sensors that were turned off."""

    up: "RunningUp | None"
    workers: Sequence[str]
    stopped_sensors: Sequence[str]

    @property
    def is_slot_checked(self) -> bool:
        """Whether a process is alive that checks an unavailable slot again."""
        return self._is_sensor_on or not CHECKS_SLOTS.isdisjoint(self.workers)

    @property
    def _is_sensor_on(self) -> bool:
        return self.up is not None and "drain_sensor" not in self.stopped_sensors

    @property
    def who_drains(self) -> str:
        """Who works at what is due, or the command that does."""
        if "drain" in self.workers:
            return "a drain is working on them"
        if self.up is None:
            return "start `dagster-offload up`, or run `dagster-offload drain` now"
        if "drain_sensor" in self.stopped_sensors:
            return "turn on drain_sensor in the UI (Automation), or run `dagster-offload drain` now"
        return "`up` starts a drain within seconds; to start one now, run `dagster-offload drain`"

    @property
    def who_scans(self) -> str:
        """Who reads the files that are due, or the command that does."""
        if "scan" in self.workers or "extract" in self.workers:
            return "a scan is at work"
        if self.up is None:
            return "start `dagster-offload up`, or run `dagster-offload scan` now"
        if "library_sensor" in self.stopped_sensors:
            return "turn on library_sensor in the UI (Automation), or run `dagster-offload scan` now"
        return "`up` reads them in its next scan; to start one now, run `dagster-offload scan`"

    def describe_breaker(self, slot: "SlotRow") -> str:
        """The state of a slot whose breaker is not closed: `unavailable, upstream_cold since ...; next check 14:02:25`."""
        from dagster_offload.cli.formatting import describe_time
        from dagster_offload.ledger.core import next_steps

        state = f"{slot.breaker.in_words}, {slot.reason} since {describe_time(slot.reason_since)}"
        next_check = f"; next check {describe_time(slot.retry_at)}" if slot.retry_at and not slot.is_retry_due else ""
        if not self.is_slot_checked:
            others = "drain_sensor, if it is turned on," if self.up is not None else "`up`"
            next_check = f"; `dagster-offload drain` or {others} checks it again"
        if slot.breaker == "misconfigured":
            again = next_steps.try_again(slot.schema, slot.name)
            return f"{state}; correct that; to check it at once, {again}{next_check}"
        if slot.is_retry_due and self.is_slot_checked:
            return f"{state}; {'`up`' if self._is_sensor_on else 'the work in progress'} checks it every few seconds"
        return f"{state}{next_check}"

    def describe_unhealthy(self, reason: str) -> str:
        """Why a slot whose breaker is closed cannot be used, and who continues."""
        if self.up is None:
            then = "start `dagster-offload up`, which continues"
        elif "drain_sensor" in self.stopped_sensors:
            then = "turn on drain_sensor in the UI (Automation), which continues"
        else:
            then = "`up` continues"
        return f"{reason}; {then} when the slot is back"
