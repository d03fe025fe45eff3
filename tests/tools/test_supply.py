"""The files about dependencies agree with pyproject.toml and constraints.txt."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import audit, licences, oldest
from tools.requirements import ROOT, direct, pins


def test_the_licences_are_those_of_the_pinned_versions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["licences", "--check"])
    assert licences.main() == 0, capsys.readouterr().err


def test_a_changed_pin_makes_the_licences_out_of_date(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["licences", "--check"])
    monkeypatch.setattr(licences, "pins", lambda: pins() | {"click": "9.9.9"})
    assert licences.main() == 1
    assert "click: run `make licences`" in capsys.readouterr().err


def test_every_dependency_states_its_licence() -> None:
    assert licences.UNKNOWN not in licences.FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("fields", "classifiers", "licence"),
    [
        ({"License-Expression": "MIT OR Apache-2.0", "License": "see file"}, [], "MIT OR Apache-2.0"),
        ({}, ["License :: OSI Approved :: MIT License", "Topic :: Text"], "MIT License"),
        ({}, ["License :: OSI Approved"], licences.UNKNOWN),
        ({"License": "Copyright X\n\nPermission is hereby granted,\nfree of charge"}, [], "MIT"),
        ({"License": "LGPL with exceptions\nmore"}, [], "LGPL with exceptions"),
        ({}, [], licences.UNKNOWN),
    ],
)
def test_a_licence_is_read_from_any_field(fields: dict[str, str | None], classifiers: list[str], licence: str) -> None:
    assert licences.licence_of(fields, classifiers) == licence


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    assert oldest.FILE.read_text(encoding="utf-8") == oldest.content(), "run `python -m tools.oldest`"
    found = pins(oldest.FILE)
    for requirement in direct(dev=False):
        assert requirement.specifier.contains(found[canonicalize_name(requirement.name)]), requirement


def test_every_direct_dependency_has_a_lower_bound_and_a_pin_inside_its_range() -> None:
    pinned = pins()
    for requirement in (*direct(dev=False), *direct(dev=True)):
        assert oldest.lower_bound(requirement)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    with pytest.raises(ValueError, match="no lower bound"):
        oldest.lower_bound(Requirement("click<9"))


def steps_of(target: str, folder: Path) -> list[str]:
    """What `make` would run for a target in a new environment in `folder`."""
    command = ["make", "--dry-run", "--no-print-directory", f"VENV={folder / 'venv'}", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize(("target", "installed"), [("demo", "."), ("test-fast", ".[dev]")])
def test_a_new_environment_gets_the_pinned_pip_and_setuptools_then_what_the_target_needs(
    tmp_path: Path, target: str, installed: str
) -> None:
    installs = [step for step in steps_of(target, tmp_path) if "pip install" in step]
    assert len(installs) == 2
    assert "--constraint constraints.txt --upgrade pip setuptools" in installs[0]
    assert installs[1].endswith(f"--constraint constraints.txt --editable '{installed}'")
    assert {"pip", "setuptools"} <= pins().keys()


def test_an_environment_for_developers_has_what_the_demo_needs(tmp_path: Path) -> None:
    stamps = {
        target: set(next(step for step in steps_of(target, tmp_path) if step.startswith("touch ")).split())
        for target in ("demo", "test-fast")
    }
    assert stamps["demo"] < stamps["test-fast"], "`make demo` after `make test-fast` installs nothing"


OK = {"name": "click", "version": "8.5.1", "vulns": []}
BAD = {"name": "idna", "version": "3.1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.7"]}]}
SKIPPED = {"name": "rich", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "line"),
    [
        ([OK, OK], 0, "no known vulnerability in 2 packages"),
        ([OK, BAD, SKIPPED], audit.VULNERABLE, "idna 3.1: PYSEC-1, fixed in 3.7"),
        ([SKIPPED, SKIPPED], audit.NOT_CHECKED, "NOT CHECKED: no index of vulnerabilities could be reached"),
        ([OK, SKIPPED], audit.NOT_CHECKED, "NOT CHECKED, because the index does not know them: rich"),
    ],
)
def test_an_audit_succeeds_only_if_every_package_was_checked(packages: list[object], code: int, line: str) -> None:
    assert audit.verdict(json.dumps({"dependencies": packages}), "") == (code, [line])


def test_an_audit_that_fails_is_no_success() -> None:
    code, lines = audit.verdict("", "Traceback ...\nConnectionError: no route to host\n")
    assert code == audit.NOT_CHECKED
    assert lines == ["NOT CHECKED: pip-audit gave no answer (ConnectionError: no route to host)"]
