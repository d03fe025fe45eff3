"""Writes constraints-oldest.txt: the lower bound of every direct dependency of the product.

    python -m tools.oldest             write the file
    python -m tools.oldest --check     fail if the file is out of date

`make test-oldest` runs the fast tests with it. Test tools, and what the dependencies need themselves, are as new as that allows.
"""

import sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.requirements import ROOT, direct

FILE = ROOT / "constraints-oldest.txt"
HEAD = (
    "# Written by `python -m tools.oldest` from the lower bounds in pyproject.toml. `make test-oldest` tests with it."
)


def lower_bound(requirement: Requirement) -> str:
    """The oldest version that a requirement allows. Raises `ValueError` if it has no lower bound."""
    for specifier in requirement.specifier:
        if specifier.operator in (">=", "==", "~="):
            return specifier.version
    raise ValueError(f"{requirement} has no lower bound in pyproject.toml")


def content() -> str:
    """What the file should be."""
    oldest = {canonicalize_name(requirement.name): lower_bound(requirement) for requirement in direct(dev=False)}
    return "\n".join([HEAD, *(f"{name}=={version}" for name, version in sorted(oldest.items())), ""])


def main() -> int:
    """Write or check the file. Returns the exit code."""
    if "--check" not in sys.argv:
        FILE.write_text(content(), encoding="utf-8")
        return 0
    if FILE.exists() and FILE.read_text(encoding="utf-8") == content():
        return 0
    print(f"{FILE.name} is out of date: run `python -m tools.oldest`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
