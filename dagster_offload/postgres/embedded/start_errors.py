"""One-line messages for an initdb or server that failed to start."""

from collections.abc import Sequence

from dagster_offload.postgres.embedded.accounts import Account, blocked_folder
from dagster_offload.postgres.embedded.paths import Paths


def start_error_message(paths: Paths, account: Account, lines: Sequence[str]) -> str:
    """Return the error message for a server that did not start. `lines` is its output, oldest first."""
    blocked = blocked_folder(paths.data, account)
    if blocked is not None:
        return (
            f"Postgres runs as {account.name} and cannot traverse the folder {blocked} above OFFLOAD_HOME {paths.home}:"
            f" choose a folder that every user can reach, for example under /var/lib, or allow it (chmod o+x {blocked})"
        )
    if any("No space left on device" in line or "Disk quota exceeded" in line for line in lines):
        return f"OFFLOAD_HOME {paths.home} has no space left on its disk: free some space, or choose a folder on another disk"
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "error:" in line]
    message = (fatal or list(lines) or ["it wrote no message"])[-1]
    for mark in ("FATAL:", "PANIC:", "error:"):
        message = message.partition(mark)[2] or message
    return f"Postgres did not start in OFFLOAD_HOME {paths.home}: {message.strip()} (log: {paths.log})"
