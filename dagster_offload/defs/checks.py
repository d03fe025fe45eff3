"""One asset check: is the model that served a document's answer the one we expect? Says so in words, blocks nothing.

A wrong model's answer is refused when it arrives and never becomes a result. The check shows how far the evidence
goes, and finds results that were made before `OFFLOAD_DEEP_EXPECTED_MODEL` said otherwise. It is evaluated in the runs
people and backfills launch, one evaluation a document; a drain's evidence stands in each materialization's metadata.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagster_offload.settings import Settings
from dagster_offload.slot.completion import ModelEvidence
from dagster_offload.slot.config import PRIMARY
from dagster_offload.stages.graph import DRAIN_STAGES
from dagster_offload.text.plain_text import code_span

NAME = "served_model_as_expected"


@dataclass(frozen=True)
class Verdict:
    passed: bool
    words: str


def served_model_checks(
    keys: Mapping[str, dg.AssetKey], partitions: dg.PartitionsDefinition[Any]
) -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        # Partitions of a check are a preview of Dagster's: without them a document's own page shows no verdict.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                NAME,
                asset=keys[stage],
                description="The model that answered is the one OFFLOAD_DEEP_EXPECTED_MODEL names, as far as the server says.",
                blocking=False,
                partitions_def=partitions,
            )
            for stage in DRAIN_STAGES
        ]


def assess(evidence: str | None, served_model: str | None, expected: str | None) -> Verdict:
    """What a served model's name and its evidence say about the model we expect (a regular expression, or None)."""
    if evidence is None:
        return Verdict(True, "no model was asked: the document has no text to read")
    if served_model is None or evidence == ModelEvidence.ABSENT:
        return Verdict(True, "absent: the server named no model, so nothing is verified")
    name = code_span(served_model)  # Dagster shows the words as Markdown
    is_match = expected is not None and re.search(expected, served_model) is not None
    if evidence == ModelEvidence.ECHOED:
        words = "matches what is expected" if is_match else "proves nothing"
        return Verdict(True, f"echoed: the server repeated the name we asked for, {name}, which {words}")
    if expected is None:
        return Verdict(True, f"reported: {name}; no expected model is set, so any name is accepted")
    if is_match:
        return Verdict(True, f"reported: {name}, as expected")
    return Verdict(False, f"reported: {name}, which does not match {code_span(expected)}: dagster-offload redo")


def evaluate_served_model(
    context: dg.AssetExecutionContext,
    settings: Settings,
    asset_keys: Mapping[str, dg.AssetKey],
    documents: Sequence[str],
) -> None:
    """Evaluate the selected checks for each document, on what Dagster shows for its partition."""
    for stage in DRAIN_STAGES:
        if dg.AssetCheckKey(asset_keys[stage], NAME) not in context.selected_asset_check_keys:
            continue
        for document in documents:
            evaluation = _evaluation(context.instance, settings, asset_keys[stage], document)
            if evaluation is not None:
                context.log_event(evaluation)


def _evaluation(
    instance: dg.DagsterInstance, settings: Settings, asset_key: dg.AssetKey, document: str
) -> dg.AssetCheckEvaluation | None:
    wanted = dg.AssetRecordsFilter(asset_key=asset_key, asset_partitions=[document])
    records = instance.fetch_materializations(wanted, limit=1).records
    if not records or records[0].asset_materialization is None:
        return None
    metadata = records[0].asset_materialization.metadata
    slot, served_model, evidence = (_text(metadata, name) for name in ("slot", "served_model", "model_evidence"))
    expected = (settings.primary if slot == PRIMARY else settings.deep).expected_model
    verdict = assess(evidence, served_model, expected)
    return dg.AssetCheckEvaluation(
        asset_key=asset_key,
        check_name=NAME,
        partition=document,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=verdict.words,
        blocking=False,
    )


def _text(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> str | None:
    value = metadata[name].value if name in metadata else None
    return value if isinstance(value, str) else None
