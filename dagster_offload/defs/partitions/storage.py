"""Changes of many partitions at once in Dagster's storage, for which Dagster has no public call.

Dagster takes no event back, and `wipe_asset_partitions` is not implemented in its open-source storages. In those, `withdraw`
gives the events another partition, which no key has, and clears the cached state of the asset. The events stay in the history of
the asset. For storages that are not SQL, the public calls are used. The contract test is
tests/dagster/partitions/test_storage.py.
"""

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import DynamicPartitionsTable, SqlEventLogStorageTable

BATCH = 500  # keys in a statement
WITHDRAWN = "\n(withdrawn)"  # no key has a control character


def withdraw(instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: Sequence[str]) -> None:
    """Let Dagster show these partitions of the asset as not materialized."""
    storage, events = instance.event_log_storage, SqlEventLogStorageTable
    for batch in _batches(partitions):
        if not isinstance(storage, SqlEventLogStorage):
            instance.wipe_asset_partitions(asset_key, batch)
            continue
        with storage.index_connection() as connection:
            connection.execute(
                events.update()
                .where(
                    events.c.asset_key == asset_key.to_string(),
                    events.c.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value,
                    events.c.partition.in_(batch),
                )
                .values(partition=events.c.partition + WITHDRAWN)
            )
    instance.wipe_asset_cached_status([asset_key])


def remove_keys(instance: dg.DagsterInstance, name: str, keys: Sequence[str]) -> None:
    """Remove these keys from the dynamic partitions `name`. Dagster keeps their events. One by one takes 23 ms for each."""
    storage, table = instance.event_log_storage, DynamicPartitionsTable
    for batch in _batches(keys):
        if not isinstance(storage, SqlEventLogStorage):
            for key in batch:
                instance.delete_dynamic_partition(name, key)
            continue
        with storage.index_connection() as connection:
            connection.execute(table.delete().where(table.c.partitions_def_name == name, table.c.partition.in_(batch)))


def _batches(keys: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), BATCH):
        yield list(keys[start : start + BATCH])
