"""What a person can do about a document that failed. Pure."""

from dagster_offload.ledger.core.rows import State
from dagster_offload.stages.graph import EXTRACT

# Faults of the file itself, by the code of the reason: the same file would fail again.
_CHANGES = {
    "broken_file": "Repair or replace the file",
    "password_protected": "Save the file without its protection",
    "unsupported_type": "Save the file as another type",
    "unpacks_too_large": "Split the file, or save it smaller",
    "too_large": "Split the file, or raise OFFLOAD_MAX_FILE_SIZE",
}


def step_after_failure(stage: str, state: State, reason: str | None, *, look: str, again: str) -> str:
    """The next step for failed or quarantined work. `look` and `again` are how to see what happened, and how to retry it.

    A retry is not offered where the same file would fail again.
    """
    if state is State.QUARANTINED:
        return f"Check the file, then {again}"
    if stage != EXTRACT:
        return f"See what happened: {look}. To try again, {again}"
    code = (reason or "").partition(":")[0]
    if (change := _CHANGES.get(code)) is not None:
        return f"{change}: the next scan reads it by itself"
    if code == "unreadable":
        return f"Check the file's permissions and its disk, then scan. If it is still failed, {again}"
    return f"Repair or replace the file: the next scan reads it by itself. To try the same file again, {again}"
