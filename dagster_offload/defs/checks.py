"""One asset check: did the expected model answer? It reports the evidence and blocks nothing.

Without an expected model there is no check: every name would pass. The client rejects an answer from a wrong model, so it
never becomes a result. The check shows how strong the evidence is, and finds results from before
`OFFLOAD_DEEP_EXPECTED_MODEL` was changed. Runs of people and backfills evaluate it once per document. A drain's evidence is
in the metadata of each materialization.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagster_offload.defs.names import REDO_TAG
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.partitions.events import Answerer, models_of, models_of_documents
from dagster_offload.settings import Settings
from dagster_offload.slot.completion import ModelEvidence
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.plain_text import code_span

NAME = "served_model_as_expected"
READ_AT_ONCE = 1_000  # documents


@dataclass(frozen=True)
class Verdict:
    """The outcome of the check, and its description for the UI."""

    passed: bool
    message: str


def served_model_checks(
    keys: Mapping[str, dg.AssetKey], partitions: dg.PartitionsDefinition[Any], settings: Settings
) -> list[dg.AssetCheckSpec]:
    """One check per stage of a drain, if a slot has an expected model. `keys` maps stage names to asset keys."""
    sections = settings.slots_section
    if all(section.expected_model is None for section in (sections.deep, sections.primary, *sections.further.values())):
        return []
    with warnings.catch_warnings():
        # Partitioned checks are a preview feature. Without them, a document's own page shows no result of the check.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                NAME,
                asset=keys[stage],
                description="The server reports the model that `expected_model` of its slot names.",
                blocking=False,
                partitions_def=partitions,
            )
            for stage in keys
            if stage != EXTRACT
        ]


def assess(evidence: str | None, served_model: str | None, expected: str | None, outcome: str | None) -> Verdict:
    """Compare the served model and its evidence with the expected model (a regular expression, or None)."""
    if evidence is None:
        return Verdict(True, f"no model was called: the outcome is {outcome}")
    if served_model is None or evidence == ModelEvidence.ABSENT:
        return Verdict(True, "absent: the server did not report a model, so the model is not verified")
    name = code_span(served_model)  # Dagster renders the description as Markdown
    is_match = expected is not None and re.search(expected, served_model) is not None
    if evidence == ModelEvidence.ECHOED:
        result = "matches the expected model" if is_match else "does not show which model answered"
        return Verdict(True, f"echoed: the server repeated the requested name {name}, which {result}")
    if expected is None:
        return Verdict(True, f"reported: {name}; no expected model is set, so any name is accepted")
    if is_match:
        return Verdict(True, f"reported: {name}, as expected")
    return Verdict(
        False,
        f"reported: {name}, which does not match {code_span(expected)}. To process it again, materialize it with the run tag "
        f"{REDO_TAG}: outdated",
    )


def evaluate_served_model(
    context: dg.AssetExecutionContext,
    settings: Settings,
    ledger: Ledger,
    asset_keys: Mapping[str, dg.AssetKey],
    documents: Sequence[str],
) -> None:
    """Evaluate the selected checks for each document that has a result."""
    for stage in _stages_to_check(context, asset_keys):
        for start in range(0, len(documents), READ_AT_ONCE):
            found = ledger.run(models_of_documents, documents[start : start + READ_AT_ONCE], stage)
            for document, answerer in found.items():
                context.log_event(_as_event(asset_keys[stage], document, _verdict(settings, answerer)))


def evaluate_partitions(
    context: dg.AssetExecutionContext,
    settings: Settings,
    ledger: Ledger,
    asset_keys: Mapping[str, dg.AssetKey],
    partitions: Sequence[str],
) -> None:
    """Evaluate the selected checks for each partition of several documents: the verdict of the first model that fails."""
    for stage in _stages_to_check(context, asset_keys):
        for partition in partitions:
            verdicts = [_verdict(settings, answerer) for answerer in ledger.run(models_of, partition, stage)]
            if verdicts:
                worst = next((verdict for verdict in verdicts if not verdict.passed), verdicts[0])
                context.log_event(_as_event(asset_keys[stage], partition, worst))


def _stages_to_check(context: dg.AssetExecutionContext, asset_keys: Mapping[str, dg.AssetKey]) -> list[str]:
    """The stages whose checks the run has selected."""
    selected = context.selected_asset_check_keys
    return [stage for stage, key in asset_keys.items() if dg.AssetCheckKey(key, NAME) in selected]


def _verdict(settings: Settings, answerer: Answerer) -> Verdict:
    expected = settings.slots_section.named(answerer.slot or DEEP).expected_model
    return assess(answerer.model_evidence, answerer.served_model, expected, answerer.outcome)


def _as_event(asset_key: dg.AssetKey, partition: str, verdict: Verdict) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset_key,
        check_name=NAME,
        partition=partition,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=verdict.message,
        blocking=False,
    )
