"""`service`: installed twice, beside another `up`, over a file of others, without systemd, by root, and removed.

`systemctl` is a real program that keeps what it is called with; the unit itself is checked in `test_unit.py`.
"""

import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from dagster_offload.cli import service
from dagster_offload.errors import SettingsError
from dagster_offload.service import ports
from dagster_offload.service.boot import manager as boot_manager
from dagster_offload.service.boot.manager import Launchd, find_manager
from dagster_offload.service.home import hold_up_lock
from dagster_offload.service.ports import is_free
from tests.support.cli import Call

SYSTEMCTL = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in
  *" show "*) [ -e "$CALLS.running" ] && echo "ActiveState=active
SubState=running
MainPID=4242
NRestarts=1
UnitFileState=enabled" ;;
  *restart*) [ -e "$CALLS.no-bus" ] && { echo "Failed to connect to bus: No medium found" >&2; exit 1; }
    touch "$CALLS.running" ;;
  *disable*) rm -f "$CALLS.running" ;;
esac
exit 0
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Path) -> Path:
    """A machine with systemd and a user who is not root. The file lists the calls of its commands."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("systemctl", "loginctl"):
        (programs / name).write_text(SYSTEMCTL)
        (programs / name).chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(boot_manager, "SYSTEMD_RUNS", tmp_path)
    monkeypatch.setattr(service, "_is_root", lambda: False)
    monkeypatch.setattr(ports, "is_free", lambda host, port: True)  # 3000 may be in use on this machine
    home = Path(os.environ["OFFLOAD_HOME"])
    home.mkdir(mode=0o700)
    (home / "offload.yaml").write_text(f"library: {{path: '{library}'}}\n", encoding="utf-8")
    del os.environ["OFFLOAD_LIBRARY"]
    return calls


def units(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "config" / "systemd" / "user").glob("*"))


def test_a_service_is_installed_once_and_shown_and_removed(call: Call, calls: Path, tmp_path: Path) -> None:
    assert "not installed" in call("service", "status").output
    assert "starts again after a reboot" in call("service", "install").output
    [unit] = units(tmp_path)
    assert f"systemctl --user enable {unit.name}" in calls.read_text()
    assert "loginctl enable-linger" in calls.read_text()
    before = calls.read_text().count("restart")
    assert "Already installed and running" in call("service", "install").output
    assert calls.read_text().count("restart") == before
    state = json.loads(call("service", "status", "--json").output)
    assert (state["is_installed"], state["pid"], state["starts_at_boot"]) == (True, 4242, True)
    assert "Removed" in call("service", "remove").output
    assert units(tmp_path) == []
    assert "nothing was removed" in call("service", "remove").output


def test_an_install_with_other_options_changes_the_unit(call: Call, calls: Path, tmp_path: Path) -> None:
    call("service", "install")
    assert "Installed" in call("service", "install", "--port", "3100").output
    [unit] = units(tmp_path)
    assert '"3100"' in unit.read_text()


def test_the_service_finds_the_programs_that_this_shell_finds(
    call: Call, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f".:{tmp_path / 'programs'}:relative:/usr/bin")
    call("service", "install")
    [unit] = units(tmp_path)
    assert f'Environment="PATH={tmp_path / "programs"}:/usr/bin"' in unit.read_text().splitlines()


def test_an_up_that_runs_already_is_named(call: Call, calls: Path, tmp_path: Path) -> None:
    with hold_up_lock(Path(os.environ["OFFLOAD_HOME"])):
        refused = call("service", "install")
    assert refused.exit_code == 2
    assert f"`up` already runs on {os.environ['OFFLOAD_HOME']} (process {os.getpid()})" in refused.output
    assert units(tmp_path) == []


def test_a_unit_of_others_is_left_alone(call: Call, calls: Path, tmp_path: Path) -> None:
    call("service", "install")
    [unit] = units(tmp_path)
    unit.write_text("[Service]\n")
    for command in ("install", "remove"):
        refused = call("service", command)
        assert (refused.exit_code, "not from this program" in refused.output) == (2, True)
    assert unit.read_text() == "[Service]\n"


def test_a_user_manager_that_cannot_be_reached_leaves_no_unit(call: Call, calls: Path, tmp_path: Path) -> None:
    Path(f"{calls}.no-bus").touch()
    refused = call("service", "install")
    assert refused.exit_code == 2
    assert "set XDG_RUNTIME_DIR=/run/user/" in refused.output
    assert units(tmp_path) == []


def test_without_systemd_the_ways_that_are_left_are_named(
    call: Call, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot_manager, "SYSTEMD_RUNS", tmp_path / "nothing")
    for command in ("install", "status", "logs", "remove"):
        refused = call("service", command)
        assert (refused.exit_code, "@reboot dagster-offload up" in refused.output) == (2, True)
    assert "ExecStart=" in call("service", "install", "--print").output


def test_root_must_name_the_user_of_the_service(
    call: Call, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_is_root", lambda: True)
    monkeypatch.setattr(boot_manager, "SYSTEM_UNITS", tmp_path / "units")
    assert "--run-as USER" in call("service", "install").output
    assert "there is no user 'nobody-like-this'" in call("service", "install", "--run-as", "nobody-like-this").output
    if os.geteuid() == 0:
        assert "does not belong to nobody" in call("service", "install", "--run-as", "nobody").output
        assert "Installed" in call("service", "install", "--run-as", "root").output
        [unit] = (tmp_path / "units").glob("*")
        assert "User=root" in unit.read_text()
        assert "systemctl enable" in calls.read_text()


@pytest.mark.root
def test_root_installs_the_service_of_a_home_that_belongs_to_its_user(
    call: Call, calls: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_is_root", lambda: True)
    monkeypatch.setattr(sys, "executable", "/bin/sh")  # the user may be unable to run this test's Python
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        home, units = Path(parent) / "home", Path(parent) / "units"
        shutil.copytree(os.environ["OFFLOAD_HOME"], home)
        Path(parent).chmod(0o755)
        for owned in (home, home / "offload.yaml"):
            shutil.chown(owned, "nobody")
        monkeypatch.setattr(boot_manager, "SYSTEM_UNITS", units)
        installed = call("service", "install", "--run-as", "nobody", "--home", str(home))
        assert installed.exit_code == 0, installed.output
        [unit] = units.glob("*")
        assert "User=nobody" in unit.read_text()
        assert f"WorkingDirectory={home}" in unit.read_text()
        shutil.chown(home / "offload.yaml", "daemon")
        refused = call("service", "install", "--run-as", "nobody", "--home", str(home))
        assert (refused.exit_code, "belongs to daemon" in refused.output) == (2, True)
        os.chdir("/")  # out of the home, which is removed now


@pytest.mark.root
def test_a_program_that_the_user_cannot_run_is_named(
    call: Call, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_is_root", lambda: True)
    program = tmp_path / "python"
    program.touch(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    shutil.chown(os.environ["OFFLOAD_HOME"], "nobody")
    refused = call("service", "install", "--run-as", "nobody")
    assert refused.exit_code == 2
    assert f"nobody cannot run {program}: install the program where nobody can read it" in refused.output


def test_a_port_that_is_in_use_is_refused_before_anything_is_installed(
    call: Call, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "is_free", is_free)
    with socket.create_server(("127.0.0.1", 0)) as other:
        refused = call("service", "install", "--port", str(other.getsockname()[1]))
    assert refused.exit_code == 2
    assert "is in use: give the service another one with --port" in refused.output
    assert units(tmp_path) == []


def test_only_root_names_another_user(call: Call, calls: Path) -> None:
    assert "--run-as is for root" in call("service", "install", "--run-as", "root").output


def test_a_library_that_only_this_shell_names_is_refused(call: Call, calls: Path, library: Path) -> None:
    (Path(os.environ["OFFLOAD_HOME"]) / "offload.yaml").unlink()
    os.environ["OFFLOAD_LIBRARY"] = str(library)
    refused = call("service", "install")
    assert (refused.exit_code, "library.path" in refused.output) == (2, True)


def test_launchd_has_agents_of_a_user_only(tmp_path: Path) -> None:
    assert isinstance(find_manager(tmp_path, is_root=False, platform="darwin"), Launchd)
    with pytest.raises(Exception, match="not as root"):
        find_manager(tmp_path, is_root=True, platform="darwin")


def test_a_folder_that_cannot_be_written_is_named(call: Call, calls: Path, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file where the folder should be")
    refused = call("service", "install")
    assert refused.exit_code == 2
    assert f"{tmp_path / 'config'}" in refused.output
    assert "correct its owner or mode" in refused.output


LAUNCHCTL = """#!/bin/sh
echo "$1" >> "$CALLS"
case "$1" in bootout) %s ;; esac
"""


@pytest.fixture
def launchctl(calls: Path, tmp_path: Path) -> Path:
    program = tmp_path / "programs" / "launchctl"
    program.touch(0o755)
    return program


def test_an_agent_that_is_not_loaded_is_loaded(launchctl: Path, calls: Path, tmp_path: Path) -> None:
    launchctl.write_text(LAUNCHCTL % "exit 3")
    Launchd(tmp_path).start("dagster-offload")
    assert calls.read_text().split() == ["bootout", "bootstrap"]


def test_a_launchctl_that_hangs_is_named(launchctl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launchctl.write_text(LAUNCHCTL % "exec sleep 600")
    monkeypatch.setattr(boot_manager, "COMMAND_SECONDS", 0.2)
    with pytest.raises(SettingsError, match=r"launchctl bootout .* did not end within"):
        Launchd(tmp_path).start("dagster-offload")
