"""Wakes the machine of a slot that is off while work is due: starts the owner's program, or sends a magic packet.

A wake runs in a thread of its own, because the sensor's tick must not wait for a program. The program ends at its time
limit, or with this process.
"""

import asyncio
import logging
import socket
import subprocess
from concurrent.futures import Future

from dagster_offload import timing
from dagster_offload.host.programs import WatchedProgram
from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import rests
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.waking import WakeConfig, magic_packet

logger = logging.getLogger(__name__)


async def wake_if_due(ledger: AsyncLedger, slot: SlotConfig) -> str | None:
    """Start to wake the slot if a wake is due. Returns what was done, or how the last wake of the day failed, in words.

    Waits at most for `Timing.wake_shown`. None if there is nothing to show.
    """
    if slot.wake is None:
        return None
    # Counting and starting run in one thread: if a tick were cancelled between them, a wake would count that never started.
    ended = await asyncio.to_thread(_begin, ledger.ledger, slot, slot.wake)
    if ended is None:
        return await ledger.run(rests.describe_last, slot)
    try:
        async with asyncio.timeout(timing.current().wake_shown):
            problem = await asyncio.wrap_future(ended)
    except TimeoutError:
        return rests.UNDER_WAY
    return "it was woken" if problem is None else f"waking it failed: {problem}"


def _begin(ledger: Ledger, slot: SlotConfig, config: WakeConfig) -> Future[str | None] | None:
    """Start to wake the slot; None if no wake is due. Returns the reason of a failure in the future."""
    wake_id = ledger.run(rests.begin_wake, slot)
    if wake_id is None:
        return None
    return start_in_daemon_thread(_wake, ledger.conninfo, ledger.schema, config, wake_id)


def _wake(conninfo: str, schema: str, config: WakeConfig, wake_id: int) -> str | None:
    """Wake the slot and store how it ended. Uses a ledger of its own: that of the tick may be closed by then."""
    try:
        problem = wake(config)
        with Ledger(conninfo, schema) as ledger:
            ledger.run(rests.end_wake, wake_id, problem)
    except Exception:
        logger.exception("a wake failed, or how it ended could not be stored")  # the tick may not wait any longer
        raise
    return problem


def wake(config: WakeConfig) -> str | None:
    """Run the program, or send the packet. Returns why it failed; None if it did not."""
    return _send_packet(config) if config.mac is not None else _run(config)


def _send_packet(config: WakeConfig) -> str | None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.sendto(magic_packet(config.mac or ""), (config.address, config.port))
    except OSError as error:
        return f"the magic packet cannot be sent to {config.address}: {error.strerror or error}: check wake.address"
    return None


def _run(config: WakeConfig) -> str | None:
    """Run the program without a shell. Its output is not kept. Its process group is killed at the time limit."""
    try:
        code = WatchedProgram(config.command, config.timeout).run()
    except OSError as error:
        return f"the program cannot be started: {error.strerror}: check wake.command"
    except subprocess.TimeoutExpired:
        return f"the program did not end within {config.timeout:g} s: correct it, or raise wake.timeout"
    if code == 0:
        return None
    return f"the program ended with exit code {code}" if code > 0 else f"the program was ended by signal {-code}"
