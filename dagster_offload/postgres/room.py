"""Free space for the embedded Postgres. It is checked before work is started: an answer that cannot be stored is lost.

The disk of the user's own Postgres cannot be seen from here. There a full disk refuses the claim, so no call is made.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dagster_offload.errors import NoRoom
from dagster_offload.postgres.embedded.paths import Paths
from dagster_offload.settings import Settings
from dagster_offload.text.sizes import shown_size


@dataclass(frozen=True)
class Room:
    """The disk of the embedded Postgres, in bytes. `needed_bytes` is OFFLOAD_MIN_FREE_DISK."""

    folder: Path
    free_bytes: int
    needed_bytes: int

    @property
    def found(self) -> str:
        """`1.1 GiB free; OFFLOAD_MIN_FREE_DISK requires 512 MiB`."""
        return f"{shown_size(self.free_bytes)} free; OFFLOAD_MIN_FREE_DISK requires {shown_size(self.needed_bytes)}"

    @property
    def shortage(self) -> str | None:
        """One line that says what to free or to change; None if there is enough space."""
        if self.free_bytes >= self.needed_bytes:
            return None
        return (
            f"the disk of {self.folder} has {shown_size(self.free_bytes)} free, less than the "
            f"{shown_size(self.needed_bytes)} of OFFLOAD_MIN_FREE_DISK, so no work is started: "
            "free some space or lower the setting"
        )


def room_of(settings: Settings) -> Room | None:
    """The disk that the ledger needs; None if it cannot be seen: the user's own Postgres, or a folder that is unreadable.

    Costs a few microseconds.
    """
    if settings.postgres_url is not None:
        return None
    for folder in _data_and_its_parents(settings.home):
        try:
            disk = os.statvfs(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return Room(folder, disk.f_bavail * disk.f_frsize, settings.min_free_disk)
    return None


@lru_cache(maxsize=8)  # checked before each call
def _data_and_its_parents(home: Path) -> tuple[Path, ...]:
    data = Paths(home).data
    return (data, *data.parents)


def shortage_of(settings: Settings) -> str | None:
    """Why no work may be started; None if there is enough space."""
    room = room_of(settings)
    return None if room is None else room.shortage


def refuse_without_room(settings: Settings) -> None:
    """Raise `NoRoom` if the disk has less free space than OFFLOAD_MIN_FREE_DISK."""
    shortage = shortage_of(settings)
    if shortage is not None:
        raise NoRoom(shortage)
