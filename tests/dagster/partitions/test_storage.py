"""The contract with Dagster's storages: what has no public call works as if it had one."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from dagster_offload.defs.partitions.storage import remove_keys, withdraw

ASSET = dg.AssetKey(["papers", "summary"])
OTHER = dg.AssetKey(["papers", "classification"])
PARTITIONS = dg.DynamicPartitionsDefinition(name="papers_documents")


@pytest.fixture(params=["sqlite", "postgres"])
def any_instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of a home, or a stranger's on SQLite."""
    if request.param == "postgres":
        yield request.getfixturevalue("instance")
        return
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def green(instance: dg.DagsterInstance, asset: dg.AssetKey) -> set[str]:
    value = get_and_update_asset_status_cache_value(instance, asset, PARTITIONS)
    assert value is not None
    return set(value.deserialize_materialized_partition_subsets(PARTITIONS).get_partition_keys())


def materialize(instance: dg.DagsterInstance, asset: dg.AssetKey, *keys: str) -> None:
    for key in keys:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))


def test_withdrawn_partitions_are_not_materialized_and_keep_their_history(any_instance: dg.DagsterInstance) -> None:
    instance = any_instance
    instance.add_dynamic_partitions("papers_documents", ["a", "b"])
    materialize(instance, ASSET, "a", "b")
    materialize(instance, OTHER, "a")
    assert green(instance, ASSET) == {"a", "b"}
    withdraw(instance, ASSET, ["a"])
    assert green(instance, ASSET) == {"b"}
    assert instance.get_materialized_partitions(OTHER) == {"a"}
    assert len(instance.fetch_materializations(ASSET, limit=10).records) == 2
    assert instance.fetch_materializations(dg.AssetRecordsFilter(ASSET, asset_partitions=["a"]), limit=10).records == []
    materialize(instance, ASSET, "a")
    assert green(instance, ASSET) == {"a", "b"}


def test_many_keys_are_removed_and_those_of_others_stay(any_instance: dg.DagsterInstance) -> None:
    instance = any_instance
    keys = [f"{number:04}.txt" for number in range(1_201)]
    instance.add_dynamic_partitions("papers_documents", keys)
    instance.add_dynamic_partitions("customers", keys[:2])
    remove_keys(instance, "papers_documents", keys[1:])
    assert instance.get_dynamic_partitions("papers_documents") == keys[:1]
    assert instance.get_dynamic_partitions("customers") == keys[:2]


def test_a_storage_that_is_not_sql_uses_the_public_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    with dg.instance_for_test() as instance:
        monkeypatch.setattr("dagster_offload.defs.partitions.storage.SqlEventLogStorage", type("Another", (), {}))
        wiped = []
        monkeypatch.setattr(
            type(instance), "wipe_asset_partitions", lambda _self, asset, keys: wiped.append((asset, list(keys)))
        )
        withdraw(instance, ASSET, ["a", "b"])
        assert wiped == [(ASSET, ["a", "b"])]
        instance.add_dynamic_partitions("papers_documents", ["a", "b", "c"])
        remove_keys(instance, "papers_documents", ["a", "c"])
        assert instance.get_dynamic_partitions("papers_documents") == ["b"]
