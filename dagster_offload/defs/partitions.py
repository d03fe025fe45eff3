"""`documents`: the dynamic partitions of all assets. Each document present in the ledger is one key."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

BATCH = 1_000


@dataclass(frozen=True)
class PartitionChanges:
    """How many partitions were added and removed."""

    added: int
    removed: int


def sync_partitions(instance: dg.DagsterInstance, name: str, documents: Sequence[str]) -> PartitionChanges:
    """Set the dynamic partitions `name` to exactly these keys. Dagster keeps the events of removed keys."""
    before = set(instance.get_dynamic_partitions(name))
    # Dagster lists partitions in the order of addition, so the first scan adds them in name order.
    new = [key for key in documents if key not in before]
    gone = sorted(before - set(documents))
    for start in range(0, len(new), BATCH):
        instance.add_dynamic_partitions(name, new[start : start + BATCH])
    for key in gone:
        instance.delete_dynamic_partition(name, key)
    return PartitionChanges(added=len(new), removed=len(gone))
