"""What a person can do about a document that failed. Pure."""

from dagster_offload.ledger.core.rows import State
from dagster_offload.stages.graph import EXTRACT

# The codes of reasons that end with what to do: the same file would fail again.
_SAY_WHAT_TO_DO = {"broken_file", "password_protected", "unsupported_type", "unpacks_too_large", "too_large"}


def step_after_failure(stage: str, state: State, reason: str | None, *, look: str, again: str) -> str:
    """The next step for failed or quarantined work. `look` and `again` are how to see what happened, and how to retry it.

    A retry is not offered where the same file would fail again.
    """
    if state is State.QUARANTINED:
        return f"Check the file, then {again}"
    if stage != EXTRACT:
        return f"See what happened: {look}. To try again, {again}"
    code = (reason or "").partition(":")[0]
    if code in _SAY_WHAT_TO_DO:
        return "Do what the reason says: the next scan reads the file by itself"
    if code == "unreadable":
        return f"Check the file's permissions and its disk, then scan. If it is still failed, {again}"
    return f"Repair or replace the file: the next scan reads it by itself. To try the same file again, {again}"
