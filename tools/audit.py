"""Checks the pins of constraints.txt for known vulnerabilities with pip-audit (`make audit`).

Fails for a vulnerability, and also if no index could be reached: a check that did not take place is no success.
"""

import subprocess
import sys

from tools.requirements import ROOT

NOT_CHECKED = 75  # EX_TEMPFAIL of sysexits.h
_NO_INDEX = (
    "ConnectionError",
    "Could not connect",
    "Max retries exceeded",
    "ServiceError",
    "ConnectTimeout",
    "HTTPError",
)


def verdict(returncode: int, errors: str) -> tuple[int, str]:
    """The exit code and the sentence for what pip-audit returned and wrote to standard error."""
    if returncode == 0:
        return 0, "no known vulnerability in constraints.txt"
    if any(word in errors for word in _NO_INDEX):
        return NOT_CHECKED, "NOT CHECKED: no index of vulnerabilities could be reached"
    return returncode, "pip-audit failed or found vulnerabilities: see above"


def main() -> int:
    """Run pip-audit of this environment. Returns the exit code."""
    command = (sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / "constraints.txt"))
    done = subprocess.run(  # noqa: S603 - our own command
        (*command, "--no-deps", "--disable-pip", "--progress-spinner", "off"),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    code, sentence = verdict(done.returncode, done.stderr)
    print(done.stderr if code not in (0, NOT_CHECKED) else "", file=sys.stderr, end="")
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
