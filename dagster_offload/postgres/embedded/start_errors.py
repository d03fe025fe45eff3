"""What a failed initdb or server said, turned into one line that says what to do."""

from collections.abc import Sequence

from dagster_offload.postgres.embedded.accounts import Account, blocked_folder
from dagster_offload.postgres.embedded.paths import Paths


def complaint(paths: Paths, account: Account, lines: Sequence[str]) -> str:
    """The message for a server that did not come up; `lines` is what it wrote, oldest first."""
    blocked = blocked_folder(paths.data, account)
    if blocked is not None:
        return (
            f"Postgres runs as {account.name} and cannot pass the folder {blocked} on its way to OFFLOAD_HOME"
            f" {paths.home}: name a folder that everybody can pass, for example under /var/lib,"
            f" or allow it yourself (chmod o+x {blocked})"
        )
    if any("No space left on device" in line or "Disk quota exceeded" in line for line in lines):
        return f"OFFLOAD_HOME {paths.home}: no space is left on its disk: free some, or name a folder on another disk"
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "error:" in line]
    words = (fatal or list(lines) or ["it said nothing"])[-1]
    for mark in ("FATAL:", "PANIC:", "error:"):
        words = words.partition(mark)[2] or words
    return f"Postgres did not start in OFFLOAD_HOME {paths.home}: {words.strip()} (its log is {paths.log})"
