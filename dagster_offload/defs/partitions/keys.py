"""`documents`: the dynamic partitions of all assets. The documents present in the ledger decide which keys there are.

If each document is a partition, a key that a person has typed is kept for a while, see `documents.expired_keys`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from dagster_offload.defs.names import Names
from dagster_offload.defs.partitions.events import forget_partitions
from dagster_offload.defs.partitions.storage import remove_keys
from dagster_offload.defs.runs import LAUNCHED
from dagster_offload.engine.partitions import begin_change, complete_change, is_in_force
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.partitions import assigning
from dagster_offload.ledger.work import documents
from dagster_offload.library.partition_keys import PER_DOCUMENT, PartitionRule

BATCH = 1_000
TAGS_WITH_A_KEY = (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)


@dataclass(frozen=True)
class PartitionChanges:
    """How many partitions were added and removed, and the rule that they follow."""

    added: int
    removed: int
    rule: PartitionRule = PER_DOCUMENT


def update_partitions(
    instance: dg.DagsterInstance, ledger: Ledger, names: Names, name: str, wanted: PartitionRule
) -> PartitionChanges:
    """Set the dynamic partitions `name` to those of the documents present, by the rule that the settings name."""
    if not wanted.is_grouped and is_in_force(wanted, ledger.run(assigning.in_force)):
        present = ledger.run(documents.present_keys)
        return sync_partitions(
            instance, name, present, expired=lambda others: ledger.run(documents.expired_keys, others)
        )
    with outbox.holding_back(ledger):
        rule = begin_change(ledger, wanted)
        if not rule.is_grouped:  # Dagster must have the keys before an event is reported for them
            changes = sync_partitions(instance, name, ledger.run(documents.present_keys))
            complete_change(ledger, rule)
            return changes
        complete_change(ledger, rule)
        # Another rule may give an old key to other documents: shard-0007 of 100 is not that of 200. After a restore, Dagster may
        # show more than the ledger has.
        if new := ledger.run(assigning.unknown_keys):
            forget_partitions(instance, ledger, list(names.keys.values()), new)
        changes = sync_partitions(instance, name, ledger.run(assigning.keys))
        ledger.run(assigning.set_dagster_keys, instance.get_dynamic_partitions(name))
        return PartitionChanges(changes.added, changes.removed, rule)


def sync_partitions(
    instance: dg.DagsterInstance,
    name: str,
    keys: Sequence[str],
    *,
    expired: Callable[[Sequence[str]], Collection[str]] | None = None,
) -> PartitionChanges:
    """Add these keys to the dynamic partitions `name`, and remove others. Dagster keeps the events of removed keys.

    `expired` selects which of the others are removed (None: all). A key stays while an unfinished run names it; a later scan
    removes it. A run whose key is missing fails with Dagster's "not a valid range"; with the key, it says that there is no
    such document.
    """
    before = set(instance.get_dynamic_partitions(name))
    # Dagster lists partitions in the order of addition, so the first scan adds them in name order.
    new = [key for key in keys if key not in before]
    gone = before - set(keys)
    if expired is not None:
        gone = set(expired(sorted(gone)))
    if gone:
        gone -= _keys_of_unfinished_runs(instance)
    for start in range(0, len(new), BATCH):
        instance.add_dynamic_partitions(name, new[start : start + BATCH])
    remove_keys(instance, name, sorted(gone))
    return PartitionChanges(added=len(new), removed=len(gone))


def _keys_of_unfinished_runs(instance: dg.DagsterInstance) -> set[str]:
    runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, *LAUNCHED]))
    return {run.tags[tag] for run in runs for tag in TAGS_WITH_A_KEY if tag in run.tags}
