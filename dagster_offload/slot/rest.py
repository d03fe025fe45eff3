"""Whether a slot rests: its owner paused it, it is outside its hours, or the minutes of the day are used. Pure.

A slot that rests is not sent anything. That is no fault: no breaker opens, and no document pays for it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum

from dagster_offload.slot.config import SlotConfig
from dagster_offload.text.times import DAY_AND_TIME


class RestKind(StrEnum):
    """Why a slot rests."""

    PAUSED = "paused"
    OUTSIDE_HOURS = "outside_hours"
    MINUTES_USED = "minutes_used"


@dataclass(frozen=True)
class Pause:
    """A pause by a person. `until`: None = until `resume`."""

    since: datetime
    until: datetime | None = None


@dataclass(frozen=True)
class Rest:
    """Why a slot rests, and until when at the latest; None = until a person says so."""

    slot: str
    kind: RestKind
    reason: str  # `paused since 14:02`
    until: datetime | None = None

    @property
    def state(self) -> str:
        """The rest in words that follow the slot's name: `resting until Mon 14:02: paused since ...`."""
        end = "" if self.until is None else f" until {self.until.astimezone():{DAY_AND_TIME}}"
        return f"resting{end}: {self.reason}"

    def __str__(self) -> str:
        return f"{self.slot} is {self.state}"

    def seconds_left(self, now: datetime) -> float | None:
        """The seconds until it ends; None if no time is known."""
        return None if self.until is None else max((self.until - now).total_seconds(), 0.0)


def rest_of(
    slot: SlotConfig, pause: Pause | None, used_seconds: float, now: datetime, zone: tzinfo | None = None
) -> Rest | None:
    """Decide whether a slot rests. `used_seconds`: the duration of its calls since `beginning_of_day`. None = it does not.

    `zone`: None = this machine's.
    """
    if pause is not None and (pause.until is None or now < pause.until):
        reason = f"paused since {pause.since.astimezone(zone):{DAY_AND_TIME}} (dagster-offload resume {slot.name})"
        return Rest(slot.name, RestKind.PAUSED, reason, pause.until)
    if slot.hours is not None and not slot.hours.is_open(now, zone):
        reason = f"outside its hours, {slot.hours} ({slot.setting('hours')})"
        return Rest(slot.name, RestKind.OUTSIDE_HOURS, reason, slot.hours.next_change(now, zone))
    if slot.minutes_a_day is not None and used_seconds >= slot.minutes_a_day * 60:
        reason = f"the {slot.minutes_a_day} minutes of today are used ({slot.setting('minutes_a_day')})"
        return Rest(slot.name, RestKind.MINUTES_USED, reason, beginning_of_day(now, zone, days=1))
    return None


def beginning_of_day(now: datetime, zone: tzinfo | None = None, *, days: int = 0) -> datetime:
    """The first moment of today in local time, or of `days` days later."""
    local = now.astimezone(zone)
    midnight = (local + timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    # The offset of midnight may be another one than that of now. Without a zone, `local` has a fixed offset.
    return (midnight.replace(tzinfo=None).astimezone() if zone is None else midnight).astimezone(UTC)
