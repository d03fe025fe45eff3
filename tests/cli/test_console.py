"""Lines about progress never end the work that they are about."""

import os
import sys
from collections.abc import Callable
from typing import IO

import pytest

from dagster_offload.cli.console import progress_console


def full_disk() -> IO[str]:
    return open("/dev/full", "w", buffering=1)


def pipe_without_a_reader() -> IO[str]:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", buffering=1)


def closed_terminal() -> IO[str]:
    person, terminal = os.openpty()
    os.close(person)
    return os.fdopen(terminal, "w", buffering=1)


@pytest.mark.parametrize("lost", [full_disk, pipe_without_a_reader, closed_terminal])
def test_a_line_that_cannot_be_written_is_lost_and_the_work_goes_on(
    lost: Callable[[], IO[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    readable = sys.stderr
    output = lost()
    monkeypatch.setattr(sys, "stderr", output)
    console = progress_console()
    for number in range(1_000):
        console.print(f"line {number}")
    monkeypatch.setattr(sys, "stderr", readable)
    console.print("the disk has space again")
    assert capfd.readouterr().err == "the disk has space again\n"
    with pytest.raises(OSError):
        output.close()  # what its buffer still holds
