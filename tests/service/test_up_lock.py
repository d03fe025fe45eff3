"""The lock of `up`: commands that look at it at the same moment are not taken for an `up`."""

import fcntl
import json
import threading
from dataclasses import asdict
from pathlib import Path

import pytest

from dagster_offload.service.home import LOCK_NAME, RunningUp, hold_up_lock, running_up


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose `up` was killed: its lock file names a process and is not locked."""
    home = tmp_path / "home"
    with hold_up_lock(home):
        pass
    (home / LOCK_NAME).write_text(json.dumps(asdict(RunningUp.of_this_process())))
    return home


def test_a_command_that_looks_at_the_same_moment_is_no_up(home: Path) -> None:
    with (home / LOCK_NAME).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert running_up(home) is None


def test_up_starts_although_a_command_looks_at_the_lock(home: Path) -> None:
    with (home / LOCK_NAME).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        looking = threading.Timer(0.2, fcntl.flock, [other, fcntl.LOCK_UN])
        looking.start()
        with hold_up_lock(home):
            assert running_up(home) == RunningUp.of_this_process()
        looking.join()
