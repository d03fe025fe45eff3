"""A ledger whose documents share partitions by their folders."""

from collections.abc import Sequence

import pytest

from dagster_offload.engine.partitions import BATCH, begin_change, complete_change
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.partitions import assigning
from dagster_offload.library.partition_keys import By, PartitionRule
from tests.support.ledger import Bench

FOLDERS = PartitionRule(By.FOLDER)


def arrange(ledger: Ledger, wanted: PartitionRule, batch: int = BATCH) -> PartitionRule:
    """Let all documents follow the setting. Returns the rule that is in force then."""
    rule = begin_change(ledger, wanted)
    complete_change(ledger, rule, batch)
    return rule


def assign(cur: Cursor, keys: Sequence[str]) -> None:
    """Give documents their partitions, as a scan's batch does."""
    assigning.assign(cur, assigning.locked_rule(cur), keys)


def store(bench: Bench, *keys: str) -> None:
    """Store new or changed documents, as a scan does."""
    for key in keys:
        bench.put(key)
    bench.ledger.run(assign, keys)


def extracted(bench: Bench, *keys: str) -> None:
    """Store documents and extract their texts."""
    store(bench, *keys)
    bench.extracted(*keys)


def noted(bench: Bench) -> list[str]:
    """The partitions that were noted since the last call."""
    rows = bench.sql("delete from partition_changes returning partition")
    return sorted({row["partition"] for row in rows})


def partitions(bench: Bench) -> dict[str, str | None]:
    """The partition of each document."""
    return {row["key"]: row["partition"] for row in bench.sql("select key, partition from documents order by key")}


def with_dagster_keys(bench: Bench, keys: Sequence[str]) -> None:
    """As if Dagster had these keys."""
    bench.ledger.run(assigning.set_dagster_keys, keys)


@pytest.fixture
def folders(bench: Bench) -> Bench:
    arrange(bench.ledger, FOLDERS)
    return bench
