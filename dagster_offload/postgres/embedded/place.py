"""Notices a home that was copied: two copies that run at the same time would repeat each other's calls.

The inode and the file system of the data folder identify a home. They stay the same through a rename, a reboot, a new
container and a move of the whole disk; a copy has others. The embedded server's start compares them with the record of the
last start. A home that was moved by copying cannot be distinguished from a copy on another machine, so a person decides there.
"""

import contextlib
import os
import re
import subprocess
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.host.machine import host_name
from dagster_offload.postgres.embedded.paths import Paths
from dagster_offload.postgres.embedded.sockets import forget_socket_folder


@dataclass(frozen=True)
class Place:
    """Where a home is. `file_system` is the identifier of statvfs(3)."""

    host: str
    home: str
    file_system: int
    inode: int

    def is_same_folder(self, other: "Place | None") -> bool:
        """Whether both name one folder, under whatever path."""
        return other is not None and (self.file_system, self.inode) == (other.file_system, other.inode)


class Verdict(Enum):
    """What a start finds."""

    SAME = auto()
    MOVED = auto()  # or restored from a backup of files
    COPY_OF_EXISTING = auto()
    COPY_FROM_ANOTHER_HOST = auto()


def judge(recorded: Place | None, here: Place, at_recorded_path: Place | None) -> Verdict:
    """Decide what this home is. `at_recorded_path` is what is now at the path of the record; None if nothing is."""
    if recorded is None or here.is_same_folder(recorded):
        return Verdict.SAME
    if recorded.is_same_folder(at_recorded_path):
        return Verdict.COPY_OF_EXISTING
    return Verdict.MOVED if recorded.host == here.host else Verdict.COPY_FROM_ANOTHER_HOST


def refuse_copy(paths: Paths) -> None:
    """Raise `LedgerUnavailable` if this home is a copy of another one. The caller holds the start lock."""
    recorded, here = _read(paths), _place(paths.home)
    if here is None:
        return  # a first start
    at_recorded_path = None if recorded is None else _place(Path(recorded.home))
    verdict = judge(recorded, here, at_recorded_path)
    if recorded is None or verdict in (Verdict.SAME, Verdict.MOVED):
        if not (here.is_same_folder(recorded) and here.is_same_folder(at_recorded_path)):
            # It may name the folder of a server that still runs: of the home that this one was copied from, or of a home
            # that was removed and then restored here.
            forget_socket_folder(paths.postgres)
        return
    if verdict is Verdict.COPY_OF_EXISTING:
        what = f"is a copy of {recorded.home}, which still exists"
    else:
        what = f"was copied from {recorded.home} on another machine"
    raise LedgerUnavailable(
        f"OFFLOAD_HOME {paths.home} {what}. Two copies would repeat each other's calls: use only one of them. If this is "
        f"the one to use from now on, remove {_record(paths)} and start again"
    )


def remember(paths: Paths) -> None:
    """Record where this home is. The caller holds the start lock."""
    here = _place(paths.home)
    if here is None or here == _read(paths):
        return
    draft = _record(paths).with_suffix(".new")
    draft.write_bytes(_PLACES.dump_json(here))
    draft.replace(_record(paths))


def identity_of_data(home: Path) -> tuple[int, int] | None:
    """The file system (statvfs(3)) and the inode of a home's data folder; None if it has no complete one that we can see."""
    paths = Paths(home)
    try:
        for file in paths.always_there:
            file.stat()
        return os.statvfs(paths.data).f_fsid, paths.data.stat().st_ino
    except OSError:
        return None


_PLACES = TypeAdapter(Place)


def _record(paths: Paths) -> Path:
    return paths.postgres / "place.json"


def _read(paths: Paths) -> Place | None:
    try:
        return _PLACES.validate_json(_record(paths).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _place(home: Path) -> Place | None:
    """Where the data folder of a home is; None if it has no complete one that we can see."""
    identity = identity_of_data(home)
    return None if identity is None else Place(_host(), os.path.abspath(home), *identity)


def _host() -> str:
    """An identifier of this machine that survives reboots."""
    return _machine_id() or _platform_uuid() or host_name()


def _machine_id() -> str | None:
    with contextlib.suppress(OSError):
        return Path("/etc/machine-id").read_text().strip()  # Linux
    return None


def _platform_uuid() -> str | None:
    """The identifier of a Mac. Its host name may change with the network."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = ("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
        shown = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout  # noqa: S603
        found = re.search(r'"IOPlatformUUID" = "([^"]+)"', shown)
        return None if found is None else found[1]
    return None
