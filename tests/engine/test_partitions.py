"""When a partition of several documents is reported, and when its report is withdrawn."""

import pytest

from dagster_offload.engine.partitions import is_in_force, is_withdrawn, runs_to_report
from dagster_offload.ledger.partitions.assigning import RuleInForce
from dagster_offload.ledger.partitions.events import Facts
from dagster_offload.library.partition_keys import PER_DOCUMENT, By, PartitionRule


def facts(version: str | None = None, run_id: str | None = None, *, is_complete: bool = True) -> Facts:
    return Facts("rent", "summarize", is_known=True, is_complete=is_complete, version=version, run_id=run_id)


@pytest.mark.parametrize(
    ("found", "runs", "reported"),
    [
        (facts(), [None], [None]),  # a folder that was completed by a file that vanished
        (facts(), ["drain"], ["drain"]),
        (facts(), ["drain", "drain", None], ["drain"]),
        (facts("new", "drain"), [None], []),
        (facts("new", "drain"), ["drain"], []),
        (facts("new", "drain"), ["run"], ["run"]),  # a backfill counts what its own runs recorded
        (facts("old", "drain"), ["drain"], ["drain"]),
        (facts("old", "drain"), [None], [None]),  # a document is gone
        (facts(), ["drain", "run"], ["drain", "run"]),
    ],
)
def test_a_partition_is_reported_under_each_run_whose_work_dagster_was_not_shown(
    found: Facts, runs: list[str | None], reported: list[str | None]
) -> None:
    assert runs_to_report(found, "new", runs) == reported


def test_only_what_dagster_shows_and_is_not_complete_is_withdrawn() -> None:
    assert is_withdrawn(facts("v", is_complete=False))
    assert not is_withdrawn(facts("v"))
    assert not is_withdrawn(facts(is_complete=False))


FOLDERS, TWO_LEVELS, SHARDS = PartitionRule(By.FOLDER), PartitionRule(By.FOLDER, 2), PartitionRule(By.SHARD, 2)


@pytest.mark.parametrize(
    ("wanted", "now", "expected"),
    [
        (PER_DOCUMENT, RuleInForce(PER_DOCUMENT), True),
        (PER_DOCUMENT, RuleInForce(PER_DOCUMENT, is_complete=False), False),
        (PER_DOCUMENT, RuleInForce(SHARDS), False),
        (FOLDERS, RuleInForce(TWO_LEVELS), True),
        (FOLDERS, RuleInForce(TWO_LEVELS, is_complete=False), False),
        (PartitionRule(By.SHARD, 3), RuleInForce(SHARDS), False),
    ],
)
def test_a_setting_is_in_force_once_all_documents_follow_it(
    wanted: PartitionRule, now: RuleInForce, expected: bool
) -> None:
    assert is_in_force(wanted, now) is expected
