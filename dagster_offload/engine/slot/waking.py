"""Wakes the machine of a slot that is off while work is due: starts the owner's program, or sends a magic packet."""

import socket
import subprocess

from dagster_offload.host.programs import Program
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import rests
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.waking import WakeConfig, magic_packet


def wake_if_due(ledger: Ledger, slot: SlotConfig) -> str | None:
    """Wake the slot if a wake is due, and store how it ended. Returns what was done, in words; None if nothing was.

    Blocks until the program ends, at most for its time limit.
    """
    if slot.wake is None or (wake_id := ledger.run(rests.begin_wake, slot)) is None:
        return None
    problem = wake(slot.wake)
    ledger.run(rests.end_wake, wake_id, problem)
    return "it was woken" if problem is None else f"waking it failed: {problem}"


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
        code = Program(config.command, config.timeout).run()
    except OSError as error:
        return f"the program cannot be started: {error.strerror}: check wake.command"
    except subprocess.TimeoutExpired:
        return f"the program did not end within {config.timeout:g} s: correct it, or raise wake.timeout"
    if code == 0:
        return None
    return f"the program ended with exit code {code}" if code > 0 else f"the program was ended by signal {-code}"
