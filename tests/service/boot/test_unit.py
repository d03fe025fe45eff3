"""The files that start `up` at boot: checked by systemd itself, and by a parser of property lists."""

import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.service.boot.unit import Boot, is_ours, launchd_plist, name_of, systemd_unit

NASTY = 'a home with "quotes", 100% $HOME and \\n'


def boot(home: Path, run_as: str | None = None) -> Boot:
    argv = (sys.executable, "-P", "-m", "dagster_offload.cli", "up", "--host", NASTY)
    return Boot("dagster-offload", home, argv, {"OFFLOAD_HOME": str(home)}, run_as)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (apt install systemd)")
@pytest.mark.parametrize("run_as", [None, "root", "daemon"])
def test_systemd_accepts_the_unit_without_a_warning(tmp_path: Path, run_as: str | None) -> None:
    home = tmp_path / NASTY
    home.mkdir()
    file = tmp_path / "dagster-offload.service"
    file.write_text(systemd_unit(boot(home, run_as)), encoding="utf-8")
    scope = ["--user"] if run_as is None else []
    checked = subprocess.run(
        ["systemd-analyze", "verify", *scope, "--recursive-errors=no", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_unit_restarts_after_a_crash_and_not_after_a_stop(tmp_path: Path) -> None:
    lines = systemd_unit(boot(tmp_path)).splitlines()
    assert {"Restart=on-failure", "StartLimitIntervalSec=0", "KillMode=mixed", "WantedBy=default.target"} <= set(lines)
    assert not [line for line in lines if line.startswith("User=")]
    system = systemd_unit(boot(tmp_path, "alice")).splitlines()
    assert {"User=alice", "WantedBy=multi-user.target", "After=network-online.target time-sync.target"} <= set(system)


def test_a_path_with_a_line_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="line end"):
        systemd_unit(boot(tmp_path / "a\nUser=root"))


def test_the_property_list_has_the_arguments_as_they_are(tmp_path: Path) -> None:
    text = launchd_plist(boot(tmp_path / NASTY), tmp_path / "log")
    content = plistlib.loads(text.encode())
    assert content["ProgramArguments"][-1] == NASTY
    assert content["EnvironmentVariables"] == {"OFFLOAD_HOME": str(tmp_path / NASTY)}
    assert content["KeepAlive"] == {"SuccessfulExit": False}
    assert is_ours(text)


def test_two_homes_have_two_services(tmp_path: Path) -> None:
    default = tmp_path / "default"
    names = {name_of(home, default) for home in (default, tmp_path / "a", tmp_path / "b")}
    assert len(names) == 3
    assert name_of(default, default) == "dagster-offload"
