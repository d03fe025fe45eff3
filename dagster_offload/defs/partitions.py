"""`documents`: the dynamic partitions of all assets, one key per document present in the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

BATCH = 1_000


@dataclass(frozen=True)
class PartitionChanges:
    added: int
    removed: int


def equal_to_documents(instance: dg.DagsterInstance, name: str, documents: Sequence[str]) -> PartitionChanges:
    """Make the dynamic partitions `name` exactly these keys. What Dagster recorded for a removed key stays."""
    before = set(instance.get_dynamic_partitions(name))
    # Dagster lists partitions in the order they were added, so a first scan gives the order of names.
    new = [key for key in documents if key not in before]
    gone = sorted(before - set(documents))
    for start in range(0, len(new), BATCH):
        instance.add_dynamic_partitions(name, new[start : start + BATCH])
    for key in gone:
        instance.delete_dynamic_partition(name, key)
    return PartitionChanges(added=len(new), removed=len(gone))
