"""The files about dependencies agree with pyproject.toml and constraints.txt."""

import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import audit, licences, oldest
from tools.requirements import direct, pins


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


@pytest.mark.parametrize(
    ("returncode", "errors", "code"),
    [
        (0, "", 0),
        (1, "Found 2 known vulnerabilities in 1 package", 1),
        (1, "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed", audit.NOT_CHECKED),
    ],
)
def test_an_audit_without_an_index_is_no_success(returncode: int, errors: str, code: int) -> None:
    assert audit.verdict(returncode, errors)[0] == code
