"""`documents`: the dynamic partitions of all assets. Each document present in the ledger is one key.

A key that a person has typed is kept for a while, see `documents.expired_keys`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from dagster_offload.defs.runs import UNFINISHED

BATCH = 1_000
TAGS_WITH_A_KEY = (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)


@dataclass(frozen=True)
class PartitionChanges:
    """How many partitions were added and removed."""

    added: int
    removed: int


def sync_partitions(
    instance: dg.DagsterInstance,
    name: str,
    documents: Sequence[str],
    expired: Callable[[Sequence[str]], Collection[str]],
) -> PartitionChanges:
    """Add these keys to the dynamic partitions `name`, and remove others. Dagster keeps the events of removed keys.

    `expired` selects those without a document that are removed. A key stays while an unfinished run names it; a later scan
    removes it. A run whose key is missing fails with Dagster's "not a valid range"; with the key, it says that there is no
    such document.
    """
    before = set(instance.get_dynamic_partitions(name))
    # Dagster lists partitions in the order of addition, so the first scan adds them in name order.
    new = [key for key in documents if key not in before]
    gone = set(expired(sorted(before - set(documents))))
    if gone:
        gone -= _keys_of_unfinished_runs(instance)
    for start in range(0, len(new), BATCH):
        instance.add_dynamic_partitions(name, new[start : start + BATCH])
    for key in sorted(gone):
        instance.delete_dynamic_partition(name, key)
    return PartitionChanges(added=len(new), removed=len(gone))


def _keys_of_unfinished_runs(instance: dg.DagsterInstance) -> set[str]:
    runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, *UNFINISHED]))
    return {run.tags[tag] for run in runs for tag in TAGS_WITH_A_KEY if tag in run.tags}
