"""An edge whose partitions are folders, and how Dagster shows them."""

import dataclasses

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from dagster_offload.definitions import build_definitions
from dagster_offload.defs.events import EventReporter
from dagster_offload.defs.names import names_of
from dagster_offload.stages.graph import BUILT_IN
from tests.support.edge import Edge

KEYS = names_of(BUILT_IN).keys


def partitioned(edge: Edge, rule: str) -> Edge:
    """The edge after a person set `partition_by`."""
    settings = edge.settings.model_copy(update={"partition_by": rule})
    return dataclasses.replace(edge, settings=settings, defs=build_definitions(lambda: settings))


def write(edge: Edge, *names: str, text: str = "A letter about chairs in {name}.") -> None:
    """Write documents in folders of the library."""
    assert edge.settings.library is not None
    for name in names:
        path = edge.settings.library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(name=name), encoding="utf-8")


def report(edge: Edge) -> None:
    """Report what is pending, as a tick of a sensor does."""
    EventReporter(edge.instance, edge.ledger, names_of(BUILT_IN), edge.settings).report_all()


def shown_as(edge: Edge, stage: str) -> dict[str, set[str]]:
    """The partitions of a stage that Dagster's pages show as materialized and as failed. Updates Dagster's cache, as they do."""
    partitions = dg.DynamicPartitionsDefinition(name="documents")
    value = get_and_update_asset_status_cache_value(edge.instance, KEYS[stage], partitions)
    keys = set(edge.instance.get_dynamic_partitions("documents"))
    if value is None:
        return {"green": set(), "red": set()}
    red = set(value.deserialize_failed_partition_subsets(partitions).get_partition_keys()) & keys
    green = set(value.deserialize_materialized_partition_subsets(partitions).get_partition_keys()) & keys
    return {"green": green - red, "red": red}


def green(edge: Edge, stage: str) -> set[str]:
    """The partitions of a stage that Dagster's pages show as materialized."""
    return shown_as(edge, stage)["green"]


@pytest.fixture
def folders(edge: Edge) -> Edge:
    """An edge whose partitions are folders; nothing is in it yet."""
    return partitioned(edge, "folder")
