"""The files that start `up` at boot: a unit of systemd, or a property list of launchd. Pure."""

import hashlib
import plistlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dagster_offload.errors import SettingsError

NAME = "dagster-offload"
MARK = "# Written by `dagster-offload service install`."
RESTART_SECONDS = 10
STOP_SECONDS = 30  # `up` needs 15 at most


@dataclass(frozen=True)
class Boot:
    """What is started. `run_as`: the user of a system unit; None = a unit of the user who installs it."""

    name: str
    home: Path
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    run_as: str | None = None


def name_of(home: Path, default_home: Path) -> str:
    """The name of a home's service. A home that is not the default one gets a name of its own."""
    return NAME if home == default_home else f"{NAME}-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"


def systemd_unit(boot: Boot) -> str:
    """The text of the unit. Raises `SettingsError` for a path with a line end."""
    is_system = boot.run_as is not None
    lines = [
        MARK,
        "[Unit]",
        f"Description=dagster-offload on {_specifiers(str(boot.home))}",
        # A clock that is set back while `up` runs delays it. The manager of a user knows neither of these targets.
        *(["Wants=network-online.target", "After=network-online.target time-sync.target"] if is_system else []),
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        *([f"User={boot.run_as}"] if is_system else []),
        f"WorkingDirectory={_specifiers(str(boot.home))}",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in boot.environment.items()),
        f"ExecStart={' '.join(_quoted(word.replace('$', '$$')) for word in boot.argv)}",
        # A stop by `dagster-offload stop` is a success, and stays a stop.
        "Restart=on-failure",
        f"RestartSec={RESTART_SECONDS}",
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_SECONDS}",
        # The Postgres of root runs as another user.
        *([] if boot.run_as == "root" else ["NoNewPrivileges=true"]),
        "",
        "[Install]",
        f"WantedBy={'multi-user' if is_system else 'default'}.target",
    ]
    if any("\n" in line or "\r" in line for line in lines):
        raise SettingsError("a unit of systemd cannot name a folder or a program with a line end: rename it")
    return "\n".join(lines) + "\n"


def launchd_plist(boot: Boot, log: Path) -> str:
    """The text of a property list for `~/Library/LaunchAgents`."""
    content = {
        "Label": boot.name,
        "ProgramArguments": list(boot.argv),
        "EnvironmentVariables": dict(boot.environment),
        "WorkingDirectory": str(boot.home),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_SECONDS,
        "ExitTimeOut": STOP_SECONDS,
        "ProcessType": "Background",
        "StandardOutPath": str(log),
        "StandardErrorPath": str(log),
    }
    head, _, rest = plistlib.dumps(content, sort_keys=False).decode().partition("\n")
    return f"{head}\n<!-- {MARK.removeprefix('# ')} -->\n{rest}"


def is_ours(text: str) -> bool:
    """Whether this program wrote the file."""
    return MARK.removeprefix("# ") in text


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """A word of a unit: in double quotes, with C escapes and doubled percent signs (systemd.syntax, systemd.unit)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_specifiers(escaped)}"'
