"""What Dagster shows of a document: the materialization of a result, and the observation of a change of state. No I/O."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_offload.defs.names import OBSERVATION_TAG, RECIPE_TAG, RESULT_TAG
from dagster_offload.defs.shown.problems import next_step
from dagster_offload.ledger.core.rows import PendingEvent, PendingObservation, State
from dagster_offload.ledger.events.outbox import PREVIEW_CHARACTERS
from dagster_offload.stage_spec.stage import RESERVED_FIELDS
from dagster_offload.stages.graph import EXTRACT, StageGraph, asset_name
from dagster_offload.text.plain_text import cleaned, escaped, escaped_json, shortened

MOST_FIELDS_SHOWN = 30  # of an own stage's record

DATA_VERSION_TAG = "dagster/data_version"
CODE_VERSION_TAG = "dagster/code_version"
IS_USER_PROVIDED_TAG = "dagster/data_version_is_user_provided"


@dataclass(frozen=True)
class StageFacts:
    """What an event says of its stage: what it needs, and the recipe and the code version of today."""

    graph: StageGraph
    recipes: Mapping[str, str]
    code_versions: Mapping[str, str]


def materialization(
    event: PendingEvent,
    asset_keys: Mapping[str, dg.AssetKey],
    stages: "StageFacts",
    library: Path | None,
    *,
    previews: bool = True,
    record: dg.MetadataValue | None = None,
) -> dg.AssetMaterialization:
    """The materialization of one finished work item. Without `previews`, it contains no text of a document or its record.

    `record`: the document's whole record, to be shown first.
    """
    first = {} if record is None else {"record": record}
    is_current = stages.recipes.get(event.stage) == event.recipe
    tags = {
        RESULT_TAG: str(event.result_id),
        RECIPE_TAG: event.recipe,
        DATA_VERSION_TAG: event.data_version,
        IS_USER_PROVIDED_TAG: "true",
        # A result of another recipe carries that recipe, so the UI shows it as outdated, as the ledger does.
        CODE_VERSION_TAG: stages.code_versions[event.stage] if is_current else event.recipe,
    }
    tags |= upstream_tags(stages.graph.node(event.stage).needs, asset_keys)
    return _without_document(asset_keys[event.stage])._replace(
        partition=event.document, tags=tags, metadata=first | _metadata(event, library, previews=previews)
    )


@lru_cache(maxsize=256)
def _without_document(key: dg.AssetKey) -> dg.AssetMaterialization:
    """What all materializations of an asset have in common. Dagster's constructor checks each tag anew, which takes longer than
    all else here; ours hold numbers and digests."""
    return dg.AssetMaterialization(key)


def upstream_tags(needs: Iterable[str], asset_keys: Mapping[str, dg.AssetKey]) -> dict[str, str]:
    """Show that the upstream was read. The ledger, not Dagster, detects a later change and processes the item again."""
    tags: dict[str, str] = {}
    for upstream in needs:
        name = asset_keys[upstream].to_user_string()
        tags |= {f"dagster/input_data_version/{name}": "UNKNOWN", f"dagster/input_event_pointer/{name}": "NULL"}
    return tags


def _metadata(event: PendingEvent, library: Path | None, *, previews: bool) -> dict[str, dg.MetadataValue]:
    value = event.value or {}
    answer = value if _is_built_in(event.stage) else {}  # a field of an own stage may have any name and type
    shown: dict[str, str | int | float | None] = {
        "outcome": event.outcome,
        "category": answer.get("category"),
        "confidence": answer.get("confidence"),
        "title": answer.get("title") if previews else None,
        "language": answer.get("language"),
        "parts": value.get("parts"),
        "parts_read": value.get("parts_read"),
        "characters": event.text_length if event.stage == EXTRACT else None,
        "served_model": event.served_model,
        "model_evidence": event.model_evidence,
        "slot": event.slot,
        "tokens_in": event.tokens_in,
        "tokens_out": event.tokens_out,
        "tokens_cached": event.tokens_cached,
        "seconds": None if event.seconds is None else round(event.seconds, 3),
        "attempts": event.attempts,
        "deferrals": event.deferrals,
        "result": event.result_id,
        "reused_from": event.reused_from,
    }
    metadata: dict[str, dg.MetadataValue] = {}
    preview = answer.get("summary") or event.text_preview
    if preview and previews:
        metadata["preview"] = dg.MetadataValue.text(cleaned(str(preview)))
    if answer.get("key_points") and previews:
        metadata["key_points"] = dg.MetadataValue.json([escaped(str(point)) for point in answer["key_points"]])
    if value.get("doubtful"):
        metadata["doubtful"] = dg.MetadataValue.text(", ".join(escaped(str(mark)) for mark in value["doubtful"]))
    if event.corrected:
        metadata["corrected"] = dg.MetadataValue.text(f"by a person: {escaped(', '.join(event.corrected))}")
    metadata["path"] = dg.MetadataValue.path(
        escaped(event.document if library is None else str(library / event.document))
    )
    metadata |= {name: _as_metadata(entry) for name, entry in shown.items() if entry is not None}
    if _is_built_in(event.stage) or not previews:
        return metadata
    return metadata | _own_fields(event.stage, value, {"record", *metadata})


def _is_built_in(stage: str) -> bool:
    return asset_name(stage) != stage


def _own_fields(stage: str, value: Mapping[str, Any], taken: Collection[str]) -> dict[str, dg.MetadataValue]:
    """The fields and marks of an own stage's record. A field whose name is `taken` is called `stage.field`, as in records."""
    named = {
        f"{stage}.{name}" if name in taken else name: entry
        for name, entry in value.items()
        if name not in RESERVED_FIELDS or name not in taken
    }
    fields: dict[str, dg.MetadataValue] = {}
    for name, entry in list(named.items())[:MOST_FIELDS_SHOWN]:
        if isinstance(entry, (dict, list)):
            fields[name] = dg.MetadataValue.json(json.loads(escaped_json(json.dumps(entry, ensure_ascii=False))))
        elif isinstance(entry, bool):
            fields[name] = dg.MetadataValue.bool(entry)
        elif entry is not None:
            fields[name] = _as_metadata(entry if not isinstance(entry, str) else shortened(entry, PREVIEW_CHARACTERS))
    return fields


def _as_metadata(value: str | int | float) -> dg.MetadataValue:
    if isinstance(value, str):
        return dg.MetadataValue.text(escaped(value))
    return dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(float(value))


def observation(event: PendingObservation, asset_keys: Mapping[str, dg.AssetKey]) -> dg.AssetObservation:
    """The observation of a work item that was deferred, failed or quarantined: why, and what happens or must be done next."""
    said = {
        "state": event.state.value,
        "reason": event.reason or "no reason was recorded",
        "next step": next_step(event.document, event.stage, event.state, event.reason),
        "next try": _next_try(event),
    }
    metadata: dict[str, dg.MetadataValue] = {
        name: dg.MetadataValue.text(escaped(text)) for name, text in said.items() if text is not None
    }
    metadata |= {"attempts": dg.MetadataValue.int(event.attempts), "deferrals": dg.MetadataValue.int(event.deferrals)}
    return dg.AssetObservation(
        asset_keys[event.stage],
        partition=event.document,
        description=escaped(f"{event.state.value}: {event.reason}"),
        metadata=metadata,
        tags={OBSERVATION_TAG: str(event.event_id)},
    )


def _next_try(event: PendingObservation) -> str | None:
    if event.state is not State.DEFERRED:
        return None
    latest = "" if event.next_try is None else f", at the latest at {event.next_try.astimezone():%Y-%m-%d %H:%M}"
    return f"when the slot answers{latest}"
