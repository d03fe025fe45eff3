"""Whether a slot can be used now, and if not, why and until when: from its row in the ledger, its rest and its holds."""

from dataclasses import dataclass
from datetime import datetime

from dagster_offload.ledger.core import next_steps
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.slot.rest import Rest


@dataclass(frozen=True)
class SlotState:
    """One slot when it was last looked at. `row`: None if it is not registered. `rest`: why it must not be used. `hold`: why it
    does not take the stage in question."""

    row: SlotRow | None = None
    rest: Rest | None = None
    hold: Hold | None = None

    @property
    def is_available(self) -> bool:
        """Whether work may be sent to the slot."""
        is_closed = self.row is None or self.row.breaker is BreakerState.CLOSED
        return self.hold is None and self.rest is None and is_closed

    @property
    def is_unavailable(self) -> bool:
        """Whether the slot is used again without a person."""
        return not self.is_available and not self.is_misconfigured

    @property
    def is_misconfigured(self) -> bool:
        """Whether the slot waits for a person, or the stage does."""
        if self.hold is not None:
            return True
        return self.rest is None and self.row is not None and self.row.breaker is BreakerState.MISCONFIGURED

    @property
    def reason(self) -> str | None:
        """Why the slot cannot be used; None if it can."""
        if self.hold is not None:
            return str(self.hold)
        if self.rest is not None:
            return str(self.rest)
        return None if self.row is None or self.is_available else describe_unavailable(self.row)

    @property
    def next_check(self) -> datetime | None:
        """When a running `up` looks at the slot again."""
        if self.hold is not None:
            return None
        if self.rest is not None:
            return self.rest.until
        return None if self.row is None else self.row.retry_at


def describe_unavailable(slot: SlotRow) -> str:
    """One line: `deep is unavailable: upstream_cold since 14:02`."""
    if slot.breaker is BreakerState.MISCONFIGURED:
        again = next_steps.try_again(slot.schema, slot.name)
        return f"{slot.name} is misconfigured: {slot.reason_text}; correct that; to check it at once, {again}"
    return f"{slot.name} is unavailable: {slot.reason_text}"


def describe_wait(slot: SlotRow) -> str:
    """`describe_unavailable`, and when the slot is checked again. Only for processes that check it, or that wait for one."""
    state = describe_unavailable(slot)
    if slot.is_retry_due:
        return f"{state}; {next_steps.checked_next(slot.schema)}"
    return f"{state} (next check {slot.retry_at.astimezone():%H:%M:%S})" if slot.retry_at else state
