"""`extracted_text`, `classification` and `summary`: one step over the partitions a person or a backfill chose.

One step for all stages, because a step that returns no output (see below) would have the next one skipped, and a run
skipped half-way is green. It is a generator that yields nothing: each document is recorded by itself as it finishes,
while an output would mark every document of a range materialized, the deferred ones too.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from dagster_offload.defs.checks import evaluate_served_model, served_model_checks
from dagster_offload.defs.events import EventReporter, reporting
from dagster_offload.defs.names import CODE_VERSIONS, STAGES_STEP
from dagster_offload.defs.progress import parts_progress
from dagster_offload.defs.resources import DeepSlot, failures_as_messages
from dagster_offload.defs.runs import has_own_process, tag_run
from dagster_offload.defs.waiting import deferrals_as_waits, look_again
from dagster_offload.engine.runs import RunSummary, run_documents
from dagster_offload.errors import NoSuchDocument, StageDeferred
from dagster_offload.ledger.work import documents, outbox, waiting_runs
from dagster_offload.ledger.work.claims import Unfinished
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, STAGE_NAMES, SUMMARIZE, UPSTREAM
from dagster_offload.text.plain_text import escaped

GROUP = "documents"
SHOWN_DOCUMENTS = 100

DESCRIPTIONS = {
    EXTRACT: "The text of each document. Made by the job `scan`, which looks at the whole library at once.",
    CLASSIFY: (
        "The class of each document, by the deep slot. The job `drain` works off everything that is due in one run, "
        "in any order; materializing a selection here makes one run for each unbroken range of it."
    ),
    SUMMARIZE: (
        "The summary of each document, by the deep slot. The job `drain` works off everything that is due in one run, "
        "in any order; materializing a selection here makes one run for each unbroken range of it."
    ),
}
KINDS = {EXTRACT: {"python"}, CLASSIFY: {"llm"}, SUMMARIZE: {"llm"}}


def build_documents_asset(
    keys: Mapping[str, dg.AssetKey], partitions: dg.PartitionsDefinition[Any]
) -> dg.AssetsDefinition:
    """The three assets. `keys` maps stages to asset keys."""
    stages = {key: stage for stage, key in keys.items()}

    @dg.multi_asset(
        name=STAGES_STEP,
        specs=[_spec(stage, keys, partitions) for stage in STAGE_NAMES],
        check_specs=served_model_checks(keys, partitions),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def document_stages(
        context: dg.AssetExecutionContext, deep_slot: dg.ResourceParam[DeepSlot]
    ) -> Iterator[dg.MaterializeResult[None]]:
        selected = {stages[key] for key in context.selected_asset_keys}
        wanted = [stage for stage in STAGE_NAMES if stage in selected]
        waits = deferrals_as_waits(context.retry_number, has_own_process=has_own_process(context))
        with failures_as_messages(), waits:
            materialize(context, deep_slot, keys, context.partition_keys, wanted)
        yield from ()

    return document_stages


def materialize(
    context: dg.AssetExecutionContext,
    deep_slot: DeepSlot,
    asset_keys: Mapping[str, dg.AssetKey],
    chosen: Sequence[str],
    stages: Sequence[str],
) -> None:
    """Do these stages of the chosen documents and record them under this run.

    Returns only when every one is done, and never with a remainder: raises `StageDeferred` while the slot is away,
    `RetryRequested` for another wait, `Failure` where something failed or is no document.
    """
    settings = deep_slot.settings()
    tag_run(context)
    with deep_slot.ledger() as ledger:
        missing = set(ledger.run(documents.missing_keys, chosen))
        present = [key for key in chosen if key not in missing]
        if not present:
            raise NoSuchDocument(_no_such_document(sorted(missing)))
        reporter = EventReporter.in_step(context, settings, ledger, asset_keys)
        with reporting(reporter):
            summary = run_documents(
                settings, ledger, present, stages, run_id=context.run.run_id, on_progress=parts_progress(context)
            )
        # A drain may have done them while this run waited. Dagster counts for a backfill only what its own runs recorded.
        ledger.run(outbox.report_under_run, context.run.run_id, present, stages)
        reporter.report_all()
        if summary.wait_seconds is None or missing:
            ledger.run(waiting_runs.remove, context.run.run_id)
        else:
            reason = summary.wait_reason or "its documents are not due"
            ledger.run(waiting_runs.put, context.run.run_id, present, stages, summary.slot, reason)
    why = f"; waits: {summary.wait_reason}" if summary.wait_reason else ""
    context.log.info(f"{summary.done} of {len(chosen)} documents are done{why}")
    raise_for(summary, len(chosen), sorted(missing))
    evaluate_served_model(context, settings, asset_keys, present)


def raise_for(summary: RunSummary, chosen: int, missing: Sequence[str] = ()) -> None:
    """Turn what is left into a failure (at once, also beside documents that only wait), a wait, or nothing."""
    if summary.failed or missing:
        raise _failure(summary.failed, chosen, missing)
    if summary.wait_seconds is None:
        return
    if not summary.is_deferral:
        raise look_again(summary.wait_seconds)
    raise StageDeferred(summary.wait_reason or "the slot is away", summary.wait_seconds / 60)


def _failure(failed: Sequence[Unfinished], chosen: int, missing: Sequence[str]) -> dg.Failure:
    lines = [_line(item) for item in failed]
    words = []
    if failed:
        count = len({item.document for item in failed})
        words.append(f"{count} of {chosen} documents cannot be done: {lines[0]}")
        words.append(f"and {len(lines) - 1} more, see the metadata" if len(lines) > 1 else "")
    if missing:
        words.append(_no_such_document(missing))
    records = [
        dg.TableRecord(
            {
                "document": escaped(item.document),
                "stage": item.stage,
                "state": item.state.value,
                "cause": escaped(item.reason or ""),
                "next step": _next_step(item),
            }
        )
        for item in failed[:SHOWN_DOCUMENTS]
    ]
    metadata: dict[str, Any] = {"failed": len(failed), "not documents": len(missing)}
    if records:
        metadata["documents"] = dg.MetadataValue.table(records)
    return dg.Failure("; ".join(word for word in words if word), metadata=metadata, allow_retries=False)


def _line(item: Unfinished) -> str:
    return escaped(f"{item.document}: {item.stage} {item.state.value} ({item.reason}): {_next_step(item)}")


def _next_step(item: Unfinished) -> str:
    if item.state.value == "gone":
        return "the file is gone; scan the library"
    return f"look at the file, then: dagster-offload retry {shlex.quote(escaped(item.document))}"


def _no_such_document(keys: Sequence[str]) -> str:
    shown = ", ".join(escaped(key) for key in keys[:5])
    return f"no such document: {shown}" + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")


def _spec(stage: str, keys: Mapping[str, dg.AssetKey], partitions: dg.PartitionsDefinition[Any]) -> dg.AssetSpec:
    upstream = UPSTREAM[stage]
    return dg.AssetSpec(
        keys[stage],
        deps=[] if upstream is None else [keys[upstream]],
        description=DESCRIPTIONS[stage],
        skippable=True,
        group_name=GROUP,
        code_version=CODE_VERSIONS[stage],
        kinds=KINDS[stage],
        partitions_def=partitions,
    )
