"""Whether to wake a slot whose machine is off, and how. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile

from dagster_offload.text.counts import counted

PORT = 9
BROADCAST = "255.255.255.255"
# A machine takes minutes to start, and to load a model. The pause doubles with each wake of the day.
FIRST_PAUSE = timedelta(minutes=10)


@dataclass(frozen=True)
class WakeConfig:
    """How to wake a slot: a program, or a magic packet to `mac`, and at most how often a day."""

    command: tuple[str, ...] = field(default=(), repr=False)  # its arguments may hold a password
    mac: str | None = None
    address: str = BROADCAST
    port: int = PORT
    times_a_day: int = 3
    timeout: float = 20.0  # seconds for the command


@dataclass(frozen=True)
class Wake:
    """One wake. `problem`: why it failed; None = the packet was sent, or the program ended well."""

    at: datetime
    problem: str | None = None


def is_wake_due(config: WakeConfig, today: Sequence[Wake], now: datetime) -> bool:
    """Decide whether to wake a slot that is off while work is due. `today`: its wakes of this day, oldest first."""
    if not today:
        return True
    if len(today) >= config.times_a_day:
        return False
    return now >= today[-1].at + FIRST_PAUSE * (1 << (len(today) - 1))


def is_awaited(wakes: Sequence[Wake], now: datetime) -> bool:
    """Decide whether slots of a lower priority still wait for a slot that gives no answer. `wakes`: those of today since it
    gives none, oldest first, without failures at the end."""
    return bool(wakes) and now < wakes[0].at + FIRST_PAUSE


def describe_wakes(week: Sequence[Wake], beginning_of_day: datetime) -> str | None:
    """The wakes of the last seven days in words, oldest first in `week`; None without any. Failures come with their
    beginning, because a program may fail for weeks before a person looks."""
    if not week:
        return None
    today = sum(wake.at >= beginning_of_day for wake in week)
    last = week[-1]
    if last.problem is None:
        return f"woken {counted(today, 'time')} today, last {last.at.astimezone():%a %H:%M}"
    failures = list(takewhile(lambda wake: wake.problem is not None, reversed(week)))
    often = "once, " if len(failures) == 1 else f"{len(failures)} times since "
    return f"waking failed {often}{failures[-1].at.astimezone():%a %d %b %H:%M}: {last.problem}"


def magic_packet(mac: str) -> bytes:
    """Six bytes of 255, then the address sixteen times (AMD, Magic Packet Technology)."""
    return b"\xff" * 6 + bytes.fromhex(re.sub("[:-]", "", mac)) * 16
