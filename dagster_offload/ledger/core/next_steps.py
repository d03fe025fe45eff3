"""What a person does about a ledger, in words.

The commands reach the ledger in the schema `offload`. A ledger in another schema belongs to a Dagster project, where jobs do
the same: their configuration is that of the step.
"""

import shlex

from dagster_offload.ledger.core.database import DEFAULT_SCHEMA


def accept_vanished(schema: str, library: str) -> str:
    """How to confirm that documents have vanished, or that the library has moved.

    The command names the library: the refused scan may have got it by an option, and another one would be emptied.
    """
    if schema == DEFAULT_SCHEMA:
        return f"dagster-offload scan --library {shlex.quote(library)} --accept-vanished"
    return "launch its scan job with the configuration `accept_vanished: true`"


def forget_slot(schema: str, name: str) -> str:
    """How to remove a slot that is no longer configured."""
    if schema == DEFAULT_SCHEMA:
        return f"run dagster-offload slot forget {name}"
    return f"launch its scan job with the configuration `forget_slot: {name}`"


def try_again(schema: str, slot: str) -> str:
    """How to try a misconfigured slot, and the stages that it holds, at once."""
    if schema == DEFAULT_SCHEMA:
        return f"run dagster-offload slot set {slot} --try-again"
    return "launch its drain job with the configuration `try_again: true`"


def checked_next(schema: str) -> str:
    """Who checks an unavailable slot whose next check is due. A time in the past would look like a check that took place, and the
    next tick may make none: others have calls open at the slot, or the sensor is off."""
    if schema == DEFAULT_SCHEMA:
        return "a check is due (by a running up, or dagster-offload drain)"
    return "a check is due (by its drain sensor)"


def another_ledger(schema: str, *, is_embedded: bool) -> str:
    """What gives another library a ledger of its own."""
    if schema != DEFAULT_SCHEMA:
        return "another `name` of the component"
    return "another home (OFFLOAD_HOME)" if is_embedded else "another database (OFFLOAD_POSTGRES_URL)"


def fewer_at_once(schema: str, slot: str) -> str:
    """How to process fewer documents at once, as many as the cache of the slot's server holds."""
    if schema == DEFAULT_SCHEMA:
        return f"dagster-offload slot set {slot} --prompt-cache-size P; dagster-offload doctor measures it"
    return "a lower `concurrency` of the slot"
