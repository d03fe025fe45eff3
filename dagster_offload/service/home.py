"""The home folder: its logs, and the lock that allows one `up` per home.

The lock is a file lock, so a crash or a power cut releases it. The file's content only names the holder.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dagster_offload.errors import SettingsError
from dagster_offload.host.machine import boot_id, host_name, process_start
from dagster_offload.postgres import prepare_home
from dagster_offload.postgres.embedded.locks import try_lock, wait_until

LOCK_NAME = "up.lock"
CONTENT_BYTES = 4096
MAX_LOG_BYTES = 20_000_000  # of each log; one older log of the same size is kept


@dataclass(frozen=True)
class RunningUp:
    """The `up` that holds the lock. `address` is empty until the UI answers."""

    pid: int
    address: str = ""
    uses_token: bool = False  # the address of the UI needs the token, which is not in this file
    reload_waits_for: str = ""  # the kinds of workers that changed stages wait for, before Dagster shows them
    host: str = ""  # empty, like the next two, for an older version
    boot: str = ""
    process_start: str = ""

    @classmethod
    def of_this_process(cls) -> "RunningUp":
        """This process as the holder of the lock."""
        pid = os.getpid()
        return cls(pid, host=host_name(), boot=boot_id(), process_start=process_start(pid) or "")

    @property
    def is_here(self) -> bool:
        """Whether `pid` is its process on this machine. A network file system holds the lock across hosts and containers."""
        return not self.boot or (self.boot == boot_id() and self.process_start == process_start(self.pid))


def log_folder(home: Path) -> Path:
    """The folder for logs, created on first use."""
    folder = home / "logs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def keep_log_small(log: Path) -> None:
    """Move the content of a large log to another file. Its writers, which append, go on with the same, now empty file."""
    try:
        if log.stat().st_size <= MAX_LOG_BYTES:
            return
    except OSError:  # it does not exist yet, or the disk does not answer for a moment: the next check looks again
        return
    with contextlib.suppress(OSError):  # the copy is optional: on a full disk the space matters more
        _copy_privately(log, log.with_suffix(log.suffix + ".1"))
    with contextlib.suppress(OSError):  # a read-only disk must not end the children
        os.truncate(log, 0)


def _copy_privately(source: Path, target: Path) -> None:
    """Copy a file so that only its owner can read the copy, whatever the umask is. Does not follow a link at `target`: root
    copies the log of a Postgres in a folder of another account."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as copy, source.open("rb") as original:
        os.fchmod(descriptor, 0o600)
        shutil.copyfileobj(original, copy)


class UpLock:
    """The lock that `up` holds while it runs. `folder` is the open folder of the home."""

    def __init__(self, home: Path, folder: int, descriptor: int) -> None:
        self._home = home
        self._folder = folder  # while it is open, no other folder gets its inode
        self._descriptor = descriptor
        self._always_there: Sequence[Path] = ()

    def expect(self, files: Sequence[Path]) -> None:
        """Take the home for removed also when one of these files is missing: a removal ends with the folder itself."""
        self._always_there = files

    @property
    def has_home(self) -> bool:
        """Whether the home is still the folder in which the lock was taken: it was not removed, moved or replaced."""
        try:
            for file in self._always_there:
                os.stat(file)
            return os.path.samestat(os.stat(self._home), os.fstat(self._folder))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a network file system that does not answer for a moment, for example
            return True

    def refuse_lost_home(self) -> None:
        """Raise `SettingsError` if the home was removed, moved or replaced. Otherwise `up` would go on in another folder."""
        if not self.has_home:
            raise SettingsError(
                f"OFFLOAD_HOME {self._home} was removed or moved while `up` ran, so `up` ends: start it again with the home "
                "to use. The Postgres of a home that was moved still runs: `dagster-offload stop` with the new OFFLOAD_HOME "
                "ends it"
            )

    def write(self, running: RunningUp) -> None:
        """Write the holder's process id and the address of its UI into the lock file."""
        # One write of a fixed length: a reader sees the content before or after it, never a part.
        os.pwrite(self._descriptor, json.dumps(asdict(running)).encode().ljust(CONTENT_BYTES), 0)


@contextlib.contextmanager
def hold_up_lock(home: Path) -> Iterator[UpLock]:
    """Hold the `up` lock of this home. Raises `SettingsError` if another process holds it."""
    prepare_home(home)
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    descriptor = os.open(home / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Retries for a second, because a command may hold the lock briefly in `running_up`.
        if not wait_until(lambda: try_lock(descriptor), 1.0):
            other = _read(home)
            where = f" at {other.address}" if other and other.address else ""
            host = f" on {other.host}" if other and not other.is_here else ""
            who = f" (process {other.pid}{host})" if other else ""
            raise SettingsError(
                f"`up` already runs on {home}{where}{who}: stop it with `dagster-offload stop`, or "
                "set OFFLOAD_HOME to another folder"
            )
        lock = UpLock(home, folder, descriptor)
        lock.write(RunningUp.of_this_process())
        yield lock
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
        os.close(folder)


def running_up(home: Path) -> RunningUp | None:
    """The `up` that runs on this home, or None. Raises `SettingsError` if the lock file cannot be read."""
    try:
        descriptor = os.open(home / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{home / LOCK_NAME} cannot be read ({error.strerror})") from error
    try:
        # A shared lock, so that commands that look at the same moment do not take each other for `up`.
        return None if try_lock(descriptor, fcntl.LOCK_SH) else _read(home)
    finally:
        os.close(descriptor)


def _read(home: Path) -> RunningUp | None:
    try:
        return RunningUp(**json.loads((home / LOCK_NAME).read_text(encoding="utf-8")))
    except (ValueError, TypeError):  # the holder has not written it yet, or is another version
        return None
