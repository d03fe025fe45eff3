"""Reads the requirements of this repository: the ranges of pyproject.toml and the pins of constraints.txt."""

import re
import tomllib
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def pins(constraints: Path = ROOT / "constraints.txt") -> dict[str, str]:
    """The pinned version of each package, by canonical name."""
    lines = (line.partition("#")[0].strip() for line in constraints.read_text(encoding="utf-8").splitlines())
    found = (re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines if line)
    return {canonicalize_name(match[1]): match[2] for match in found if match is not None}


def direct(*, dev: bool) -> list[Requirement]:
    """The requirements in pyproject.toml: those of the product with its extras, or those of development and of the site."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    development = [*extras.pop("dev"), *extras.pop("docs")]
    listed: Iterable[str] = development if dev else chain(project["dependencies"], *extras.values())
    return [Requirement(line) for line in listed]
