"""Signals that stop a command that runs a job."""

import signal

import pytest

from dagster_offload.cli.run_job import _stoppable


def _interrupted_twice() -> None:
    try:
        signal.raise_signal(signal.SIGHUP)
    finally:
        signal.raise_signal(signal.SIGHUP)


def test_the_second_signal_of_a_closed_terminal_does_not_interrupt_the_end_of_the_work() -> None:
    """The shell sends one to its jobs, and the system another when the shell has ended."""
    with pytest.raises(KeyboardInterrupt) as interrupted, _stoppable():
        _interrupted_twice()
    assert interrupted.value.__context__ is None, "the second one raised nothing"
