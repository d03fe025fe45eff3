"""Installs, shows and removes the service of a home, by the commands of systemd or launchd."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dagster_offload.errors import SettingsError
from dagster_offload.service.boot.unit import Boot, is_ours, launchd_plist, systemd_unit

COMMAND_SECONDS = 90.0  # a stop of the service takes 30 at most
SYSTEMD_RUNS = Path("/run/systemd/system")  # sd_booted(3)
SYSTEM_UNITS = Path("/etc/systemd/system")


class CommandFailed(SettingsError):  # noqa: N818 - what happened is the name
    """A command of the service manager ended with an error, which its message quotes."""


@dataclass(frozen=True)
class ServiceState:
    """What the service manager says. `state` is in its own words: `active (running)`, `inactive`, `not installed`."""

    name: str
    file: Path
    is_installed: bool
    state: str
    starts_at_boot: bool = False
    pid: int | None = None
    restarts: int | None = None


@dataclass(frozen=True)
class Installed:
    """What `install` did. `notes` are what a person may still have to do."""

    file: Path
    is_changed: bool
    notes: list[str] = field(default_factory=list)


class Manager(Protocol):
    """A service manager."""

    def file(self, name: str) -> Path:
        """The file of a service."""

    def text(self, boot: Boot) -> str:
        """The content of this file."""

    def start(self, name: str) -> list[str]:
        """Load the file, start the service, and let it start at boot. Returns what a person may still have to do."""

    def state(self, name: str) -> ServiceState:
        """Whether the service is installed and runs."""

    def stop(self, name: str) -> None:
        """Stop the service for good."""

    def forget(self) -> None:
        """Take notice of a removed file."""

    def log_command(self, name: str, lines: int, *, follow: bool) -> list[str]:
        """The command that shows the newest lines of the log."""


class Systemd:
    """systemd: units of a user, or system units if the user is root."""

    def __init__(self, *, is_system: bool) -> None:
        self._is_system = is_system
        self._scope = [] if is_system else ["--user"]

    def file(self, name: str) -> Path:
        """The file of a unit."""
        if self._is_system:
            return SYSTEM_UNITS / f"{name}.service"
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return config / "systemd" / "user" / f"{name}.service"

    def text(self, boot: Boot) -> str:
        """The unit."""
        return systemd_unit(boot)

    def start(self, name: str) -> list[str]:
        """Load the unit, start it, and let it start at boot."""
        self._systemctl("daemon-reload")
        self._systemctl("enable", f"{name}.service")
        self._systemctl("restart", f"{name}.service")
        return [] if self._is_system else _linger()

    def state(self, name: str) -> ServiceState:
        """Whether the unit is installed and runs."""
        file = self.file(name)
        if not file.exists():
            return ServiceState(name, file, is_installed=False, state="not installed")
        properties = "ActiveState,SubState,MainPID,NRestarts,UnitFileState"
        answer = self._systemctl("show", f"{name}.service", f"--property={properties}")
        shown = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
        pid = int(shown.get("MainPID") or 0)
        return ServiceState(
            name,
            file,
            is_installed=True,
            state=f"{shown.get('ActiveState')} ({shown.get('SubState')})",
            starts_at_boot=shown.get("UnitFileState") == "enabled",
            pid=pid or None,
            restarts=int(shown.get("NRestarts") or 0),
        )

    def stop(self, name: str) -> None:
        """Stop the unit for good."""
        self._systemctl("disable", "--now", f"{name}.service")

    def forget(self) -> None:
        """Load the units again."""
        self._systemctl("daemon-reload")

    def log_command(self, name: str, lines: int, *, follow: bool) -> list[str]:
        """The command of the journal."""
        unit = ["-u", f"{name}.service"] if self._is_system else ["--user-unit", f"{name}.service"]
        return ["journalctl", *unit, "-n", str(lines), "--no-pager", *(["-f"] if follow else [])]

    def _systemctl(self, *arguments: str) -> str:
        return _run(["systemctl", *self._scope, *arguments])


class Launchd:
    """launchd: agents of a user. They start when the user logs in."""

    def __init__(self, home: Path) -> None:
        self._log = home / "logs" / "service.log"
        self._domain = f"gui/{os.getuid()}"

    def file(self, name: str) -> Path:
        """The file of an agent."""
        return Path.home() / "Library" / "LaunchAgents" / f"{name}.plist"

    def text(self, boot: Boot) -> str:
        """The property list."""
        return launchd_plist(boot, self._log)

    def start(self, name: str) -> list[str]:
        """Load the agent. One that is loaded is replaced."""
        with contextlib.suppress(CommandFailed):  # it is not loaded, which is as good
            self.stop(name)
        _run(["launchctl", "bootstrap", self._domain, str(self.file(name))])
        return ["It starts when you log in. On a machine without log-in, turn on automatic log-in."]

    def state(self, name: str) -> ServiceState:
        """Whether the agent is installed and loaded."""
        file = self.file(name)
        if not file.exists():
            return ServiceState(name, file, is_installed=False, state="not installed")
        try:
            shown = _run(["launchctl", "print", f"{self._domain}/{name}"])
        except SettingsError:
            return ServiceState(name, file, is_installed=True, state="not loaded", starts_at_boot=True)
        lines = dict(line.strip().split(" = ", 1) for line in shown.splitlines() if " = " in line)
        pid = lines.get("pid", "")
        return ServiceState(
            name,
            file,
            is_installed=True,
            state=lines.get("state", "loaded"),
            starts_at_boot=True,
            pid=int(pid) if pid.isdigit() else None,
        )

    def stop(self, name: str) -> None:
        """Unload the agent, which stops it."""
        _run(["launchctl", "bootout", f"{self._domain}/{name}"])

    def forget(self) -> None:
        """Nothing is kept."""

    def log_command(self, name: str, lines: int, *, follow: bool) -> list[str]:
        """The command that shows the log file."""
        return ["tail", "-n", str(lines), *(["-f"] if follow else []), str(self._log)]


def find_manager(home: Path, *, is_root: bool, platform: str = sys.platform) -> Manager:
    """The service manager of this machine. Raises `SettingsError` if there is none."""
    if platform == "darwin":
        if is_root:
            raise SettingsError("on macOS, install the service as the user who owns the documents, not as root")
        return Launchd(home)
    if shutil.which("systemctl") is None or not SYSTEMD_RUNS.is_dir():
        raise SettingsError(
            "systemd does not run here, so there is no service. `service install --print` shows the unit; without systemd, "
            "let cron start it (crontab -e): @reboot dagster-offload up, or use Docker (docs/running-for-years.md)"
        )
    return Systemd(is_system=is_root)


@contextlib.contextmanager
def _refusals_of(file: Path) -> Iterator[None]:
    """Raise `SettingsError` if the file of the service, or its folder, cannot be used."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"{error.filename or file}: {error.strerror or error}: correct its owner or mode, then repeat the command"
        ) from error


def install(manager: Manager, boot: Boot) -> Installed:
    """Write the file and start the service; does nothing if that is already so. Raises `SettingsError`."""
    with _refusals_of(manager.file(boot.name)):
        return _install(manager, boot)


def remove(manager: Manager, name: str) -> Path | None:
    """Stop the service and remove its file; None if there is none. Raises `SettingsError`."""
    with _refusals_of(manager.file(name)):
        return _remove(manager, name)


def _install(manager: Manager, boot: Boot) -> Installed:
    file, text = manager.file(boot.name), manager.text(boot)
    before = file.read_text(encoding="utf-8") if file.exists() else None
    if before is not None and not is_ours(before):
        raise SettingsError(f"{file} is not from this program: remove or rename it first")
    if before == text and (state := manager.state(boot.name)).pid is not None and state.starts_at_boot:
        return Installed(file, is_changed=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    try:
        return Installed(file, is_changed=True, notes=manager.start(boot.name))
    except SettingsError:
        if before is None:
            file.unlink()  # a unit that never started must not start at the next boot
        raise


def _remove(manager: Manager, name: str) -> Path | None:
    file = manager.file(name)
    if not file.exists():
        return None
    if not is_ours(file.read_text(encoding="utf-8")):
        raise SettingsError(f"{file} is not from this program: it was not touched")
    manager.stop(name)
    file.unlink()
    manager.forget()
    return file


def _linger() -> list[str]:
    """Let the user's units run without a log-in. Returns what to do if that is not permitted."""
    try:
        _run(["loginctl", "enable-linger"])
    except SettingsError:
        return ["To let it run also while you are not logged in: sudo loginctl enable-linger $USER"]
    return []


def _run(command: Sequence[str]) -> str:
    """The output of a command. Raises `CommandFailed` with what it says, and `SettingsError` if it cannot run or hangs."""
    try:
        done = subprocess.run(  # noqa: S603 - our own argument vectors, no shell
            command, check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise SettingsError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise SettingsError(f"`{' '.join(command)}` did not end within {COMMAND_SECONDS:.0f} s") from None
    if done.returncode == 0:
        return done.stdout
    said = " ".join((done.stderr or done.stdout).split())[:300]
    hint = ""
    if "bus" in said and "--user" in command:
        hint = (
            f": the user manager cannot be reached. Log in as this user itself (su does not start it), or set "
            f"XDG_RUNTIME_DIR=/run/user/{os.getuid()}"
        )
    raise CommandFailed(f"`{' '.join(command)}` failed: {said}{hint}")
