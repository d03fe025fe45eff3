"""What a person does about a ledger, in words.

The commands reach the ledger in the schema `offload`. A ledger in another schema belongs to a Dagster project, where jobs do
the same.
"""

from dagster_offload.ledger.core.database import DEFAULT_SCHEMA


def accept_vanished(schema: str) -> str:
    """How to confirm that documents have vanished, or that the library has moved."""
    if schema == DEFAULT_SCHEMA:
        return "dagster-offload scan --accept-vanished"
    return "launch its job `scan` with `accept_vanished: true` in the configuration of the step"


def another_ledger(schema: str, *, is_embedded: bool) -> str:
    """What gives another library a ledger of its own."""
    if schema != DEFAULT_SCHEMA:
        return "another `name` of the component"
    return "another home (OFFLOAD_HOME)" if is_embedded else "another database (OFFLOAD_POSTGRES_URL)"
