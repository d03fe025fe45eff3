"""Checks the pins of constraints.txt for known vulnerabilities with pip-audit (`make audit`).

Fails for a vulnerability, and also if the index could not be reached or does not know a package: a check that did not take
place is no success.
"""

import json
import subprocess
import sys
from typing import Any

from tools.requirements import ROOT

VULNERABLE = 1
NOT_CHECKED = 75  # EX_TEMPFAIL of sysexits.h


def verdict(output: str, errors: str) -> tuple[int, list[str]]:
    """The exit code, and lines for people, for what pip-audit wrote to its two outputs (JSON, and text for people)."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        last = (errors.strip().splitlines() or ["no output"])[-1]
        return NOT_CHECKED, [f"NOT CHECKED: pip-audit gave no answer ({last})"]
    lines = [
        f"{package['name']} {package['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for package in packages
        for found in package.get("vulns", [])
    ]
    if lines:
        return VULNERABLE, lines
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return NOT_CHECKED, ["NOT CHECKED: no index of vulnerabilities could be reached"]
    if skipped:
        return NOT_CHECKED, [f"NOT CHECKED, because the index does not know them: {', '.join(skipped)}"]
    return 0, [f"no known vulnerability in {len(packages)} packages"]


def main() -> int:
    """Run the pip-audit of this environment. Returns the exit code."""
    command = (sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / "constraints.txt"), "--format", "json")
    done = subprocess.run(
        (*command, "--no-deps", "--disable-pip", "--progress-spinner", "off"),
        capture_output=True,
        text=True,
        check=False,
    )
    code, lines = verdict(done.stdout, done.stderr)
    print(*lines, sep="\n", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
