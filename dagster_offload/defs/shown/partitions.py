"""What Dagster shows of a partition with several documents: numbers, and the names of a few documents. No I/O."""

import json
from collections.abc import Mapping, Sequence

import dagster as dg

from dagster_offload.defs.names import OBSERVATION_TAG
from dagster_offload.defs.shown.documents import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    IS_USER_PROVIDED_TAG,
    StageFacts,
    upstream_tags,
)
from dagster_offload.defs.shown.problems import next_step
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.partitions.events import NAMED, Contents, Row
from dagster_offload.text.counts import counted
from dagster_offload.text.plain_text import escaped, escaped_json

_NO_REASON = "no reason was recorded"


def partition_materialization(
    partition: str, stage: str, found: Contents, asset_keys: Mapping[str, dg.AssetKey], stages: StageFacts
) -> dg.AssetMaterialization:
    """The materialization of a partition whose documents are all done for a stage."""
    tags = {
        DATA_VERSION_TAG: found.version,
        IS_USER_PROVIDED_TAG: "true",
        # The UI shows the partition as outdated if one of its results is, as the ledger does.
        CODE_VERSION_TAG: f"{found.outdated} outdated" if found.outdated else stages.code_versions[stage],
        **upstream_tags(stages.graph.node(stage).needs, asset_keys),
    }
    metadata: dict[str, dg.MetadataValue] = {
        "documents": dg.MetadataValue.int(found.documents),
        "outcomes": _counts(found.outcomes),
        "done last": _names(found.newest),
    }
    if found.models:
        metadata["served_models"] = _counts(found.models)
    numbers = {
        "tokens_in": found.tokens_in,
        "tokens_out": found.tokens_out,
        "reused": found.reused or None,
        "corrected": found.corrected or None,
        "outdated": found.outdated or None,
    }
    metadata |= {name: dg.MetadataValue.int(number) for name, number in numbers.items() if number is not None}
    if found.seconds is not None:
        metadata["seconds"] = dg.MetadataValue.float(round(found.seconds, 3))
    return dg.AssetMaterialization(asset_keys[stage], partition=partition, tags=tags, metadata=metadata)


def partition_observation(
    partition: str, stage: str, state: State, rows: Sequence[Row], asset_keys: Mapping[str, dg.AssetKey]
) -> dg.AssetObservation:
    """The observation of documents of a partition that were deferred, failed or quarantined: how many, and the first few.

    `rows` has each document once.
    """
    metadata: dict[str, dg.MetadataValue] = {
        "state": dg.MetadataValue.text(state.value),
        "documents": dg.MetadataValue.int(len(rows)),
    }
    for number, row in enumerate(rows[:NAMED], start=1):
        lines = [row.document, row.reason or _NO_REASON, next_step(row.document, stage, state, row.reason)]
        metadata[f"document {number}"] = dg.MetadataValue.text(escaped(": ".join(lines)))
    return dg.AssetObservation(
        asset_keys[stage],
        partition=partition,
        description=escaped(
            f"{state.value}: {counted(len(rows), 'document')}, such as {rows[0].document}: {rows[0].reason or _NO_REASON}"
        ),
        metadata=metadata,
        tags={OBSERVATION_TAG: str(rows[-1].event_id)},
    )


def _counts(numbers: Mapping[str, int]) -> dg.MetadataValue:
    return dg.MetadataValue.json(json.loads(escaped_json(json.dumps(dict(numbers), ensure_ascii=False))))


def _names(documents: Sequence[str]) -> dg.MetadataValue:
    return dg.MetadataValue.text(", ".join(escaped(document) for document in documents))
