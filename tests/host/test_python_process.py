"""How we start Python: nothing that lies in the working folder is ever run."""

import gc
import os
import re
import site
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

import dagster_offload
from dagster_offload.host.python_process import importing, python_command, python_environment

PACKAGE = Path(dagster_offload.__file__).parent
# Their processes run with `-I -S`, or are what `multiprocessing` asked for, with `-P`.
OTHERS = {"python_process.py", "prefork.py", "prefork_client.py", "watchdog.py", "accounts.py"}


@pytest.mark.parametrize("inherited", [None, "", ":", ".:", "planted", "planted:/nowhere"])
def test_what_lies_in_the_working_folder_is_not_imported(tmp_path: Path, inherited: str | None) -> None:
    for folder in (tmp_path, tmp_path / "planted"):
        folder.mkdir(exist_ok=True)
        (folder / "click.py").write_text("print('planted')")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if inherited is not None:
        environment["PYTHONPATH"] = inherited
    command = python_command("-c", "import click, dagster_offload; print(click.__file__)")
    ran = subprocess.run(
        command, cwd=tmp_path, env=python_environment(environment), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "planted" not in ran.stdout
    assert str(tmp_path) not in ran.stdout


def test_absolute_folders_of_pythonpath_are_handed_on(tmp_path: Path) -> None:
    given = {"PYTHONPATH": os.pathsep.join([".", str(tmp_path), ""]), "OTHER": "kept"}
    found = python_environment(given)
    assert found["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path)
    assert "." not in found["PYTHONPATH"].split(os.pathsep)
    assert (found["PYTHONSAFEPATH"], found["OTHER"]) == ("1", "kept")


def test_an_installed_package_adds_nothing_to_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(PACKAGE.parent)])
    assert "PYTHONPATH" not in python_environment({})


def test_python_is_started_in_one_way_only() -> None:
    users = {file.name for file in PACKAGE.rglob("*.py") if re.search(r"\bsys\.executable\b", file.read_text())}
    assert users <= OTHERS
    for name in OTHERS - {"python_process.py"}:
        (file,) = PACKAGE.rglob(name)
        for line in file.read_text().splitlines():
            assert "sys.executable" not in line or '"-I", "-S"' in line or '"-P"' in line


def test_imports_cause_no_collections_and_later_ones_leave_modules_out() -> None:
    try:
        with importing():
            assert not gc.isenabled()
            module = ModuleType("large")
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
        assert all(found is not module for found in gc.get_objects())
    finally:
        gc.unfreeze()


def test_collections_are_on_again_after_a_failed_import() -> None:
    try:
        with pytest.raises(ImportError), importing():
            raise ImportError
        assert gc.isenabled()
    finally:
        gc.unfreeze()
