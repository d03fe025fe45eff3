"""Partitions of several documents: puts the setting in force, and decides what is reported of a partition."""

from collections.abc import Sequence

from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.partitions import assigning
from dagster_offload.ledger.partitions.assigning import RuleInForce
from dagster_offload.ledger.partitions.events import Facts
from dagster_offload.library.partition_keys import MOST_PARTITIONS, By, PartitionRule, fitted

# A batch takes a fraction of a second.
BATCH = 2_000


def is_in_force(wanted: PartitionRule, now: RuleInForce) -> bool:
    """Whether the ledger follows this setting. A rule by folder may have fewer levels than the folders."""
    return now.is_complete and (now.rule == wanted or now.rule.by is wanted.by is By.FOLDER)


def why_to_scan(cur: Cursor, wanted: PartitionRule) -> str | None:
    """Why a scan must update Dagster's partitions although the library is unchanged; None if it need not."""
    if not is_in_force(wanted, assigning.in_force(cur)):
        return f"partition_by is {wanted} now"
    if wanted.is_grouped and assigning.unknown_keys(cur):
        return "Dagster does not have all partitions yet"
    return None


def begin_change(ledger: Ledger, wanted: PartitionRule) -> PartitionRule:
    """Put the setting in force if it is not, and return its rule. `complete_change` must follow.

    The caller must keep events from being reported until then. After an interruption, call both again.
    """
    now = ledger.run(assigning.in_force)
    rule = ledger.run(_fitting, wanted, now)
    if rule != now.rule:
        ledger.run(assigning.put_in_force, rule)
    return rule


def complete_change(ledger: Ledger, rule: PartitionRule, batch: int = BATCH) -> None:
    """Let all documents follow the rule in force."""
    step = assigning.assign_next if rule.is_grouped else assigning.report_next
    while ledger.run(step, batch):
        pass


def _fitting(cur: Cursor, wanted: PartitionRule, now: RuleInForce) -> PartitionRule:
    """The setting, with as many levels of the folders as fit. The levels in force do not grow by themselves."""
    if wanted.by is not By.FOLDER:
        return wanted
    if now.rule.by is By.FOLDER:
        if now.is_complete and len(assigning.keys(cur)) <= MOST_PARTITIONS:
            return now.rule
        wanted = now.rule
    return fitted(wanted, assigning.folders(cur))


def is_withdrawn(facts: Facts) -> bool:
    """Whether Dagster shows the partition as materialized although a document is not done, or none is left."""
    return facts.version is not None and not facts.is_complete


def runs_to_report(facts: Facts, version: str, runs: Sequence[str | None]) -> list[str | None]:
    """The runs under which a complete partition is reported now: those whose work Dagster was not shown.

    `version` is the hash of its outputs. `runs` are those that did some of the work since the last look (None: no run).
    """
    found: list[str | None] = []
    shown, by_run = facts.version, facts.run_id
    for run in dict.fromkeys(runs):
        if shown != version or run not in (None, by_run):
            found.append(run)
            shown, by_run = version, run
    return found
