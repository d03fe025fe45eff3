"""`up` while its library is on a drive that hangs, as a network drive whose server is gone."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.acceptance import Home, wait_for
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture
def hung_home(new_home: Home) -> Iterator[Home]:
    """A home whose library is mounted from a FUSE server that answers nothing."""
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no FUSE here: {error}")
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    mount = ["mount", "--internal-only", "-t", "fuse", "-o", options, "hung", str(new_home.library)]
    try:
        mounted = subprocess.run(mount, pass_fds=[server], capture_output=True, text=True)
        if mounted.returncode != 0:
            pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
        try:
            yield new_home
        finally:
            subprocess.run(["umount", "--lazy", str(new_home.library)], check=True)
    finally:
        os.close(server)  # whoever waits for it gets an error now


@pytest.mark.root
@pytest.mark.rule("pipeline-5")
def test_up_starts_and_stops_while_its_library_hangs(hung_home: Home) -> None:
    up = hung_home.up("--library", str(hung_home.library))
    wait_for(lambda: "missing: nothing changes until it is back" in hung_home.said, "its first lines")
    up.send_signal(signal.SIGINT)
    assert up.wait(PATIENCE_SECONDS) == 0, hung_home.said
