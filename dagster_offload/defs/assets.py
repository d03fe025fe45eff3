"""`extracted_text`, `classification` and `summary`: one step over the partitions that a person or a backfill selected.

The step is a generator that yields nothing. An output would mark every document of a range as materialized, including
deferred ones; instead each document is recorded when it finishes. All stages share one step, because Dagster skips the
steps after one without output, and a run with skipped steps ends as a success. The results of the checks are logged, too:
one run has a result of the served model for each document, and of the other check also if it fails, waits or is cancelled.
Dagster therefore says at the end of a run, with INFO, that the step did not yield them. That is no fault.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.storage.tags import ROOT_RUN_ID_TAG

from dagster_offload.defs.checks import evaluate_partitions, evaluate_served_model, served_model_checks
from dagster_offload.defs.events import EventReporter, reporting
from dagster_offload.defs.execution.waiting import deferrals_as_waits, retry_after
from dagster_offload.defs.names import LEDGER_IO, REDO_TAG, REDO_VALUES, RESOURCE, RETRY, STAGES_STEP, Names
from dagster_offload.defs.progress import parts_progress
from dagster_offload.defs.resources import DeepSlot, failures_as_messages
from dagster_offload.defs.runs import has_own_process, tag_run
from dagster_offload.defs.shown.problems import NAMED, evaluate_problems, problem_checks, problem_line, problem_table
from dagster_offload.engine.agreement import agree_with_up, with_settings_in_force
from dagster_offload.engine.redoing import describe_estimates, prepare_redo
from dagster_offload.engine.runs import RunSummary, run_documents
from dagster_offload.errors import NoSuchDocument, StageDeferred
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.partitions import assigning
from dagster_offload.ledger.partitions.reports import report_under_run
from dagster_offload.ledger.reports.records import Selection
from dagster_offload.ledger.work import documents, redo, waiting_runs
from dagster_offload.ledger.work.left import Unfinished
from dagster_offload.library.partition_keys import PER_DOCUMENT, PartitionRule
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import code_versions, stage_graph
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE, StageNode
from dagster_offload.stages.pipeline import pipeline_of
from dagster_offload.text.counts import counted
from dagster_offload.text.lists import listed
from dagster_offload.text.plain_text import escaped

GROUP = "documents"

DESCRIPTIONS = {
    EXTRACT: "The text of each document. The job `{job}` extracts it when a file is new or has changed.",
    CLASSIFY: "The class of each document, from the deep slot.",
    SUMMARIZE: "The summary of each document, from the deep slot.",
}
HOW_TO_RUN = (
    "While the sensors are on, due documents are processed by themselves, in the job `{job}`. You can also materialize a "
    "selection: this starts one run for each contiguous range of it, and a run waits while the slot is unavailable. Documents "
    f"that are done are recorded again without a call; the run tag `{REDO_TAG}` redoes the selected ones first: `outdated` "
    "those made with another prompt, options, model or readers, `all` every one, `failed` those that failed or "
    "wait for their next attempt."
)


def build_documents_asset(
    names: Names, partitions: dg.PartitionsDefinition[Any], settings: Settings
) -> dg.AssetsDefinition:
    """The assets of `document_stages`, one per stage."""
    keys, resource = names.keys, names.of(RESOURCE)
    versions, graph = code_versions(settings), stage_graph(settings)
    stages = {key: stage for stage, key in keys.items()}

    @dg.multi_asset(
        name=names.of(STAGES_STEP),
        specs=[
            _spec(node, names, partitions, versions[node.name], _description(node.name, settings, names))
            for node in graph
        ],
        check_specs=[*served_model_checks(keys, partitions, settings), *problem_checks(keys)],
        required_resource_keys={resource},
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def document_stages(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        selected = {stages[key] for key in context.selected_asset_keys}
        wanted = [stage for stage in graph.names if stage in selected]
        waits = deferrals_as_waits(context.retry_number, has_own_process=has_own_process(context))
        with failures_as_messages(), waits:
            materialize(context, getattr(context.resources, resource), names, context.partition_keys, wanted)
        yield from ()

    return document_stages


def materialize(
    context: dg.AssetExecutionContext,
    deep_slot: DeepSlot,
    names: Names,
    selected: Sequence[str],
    stages: Sequence[str],
) -> None:
    """Process these stages of the documents of the selected partitions and record the results under this run.

    Returns only if all documents are done. Raises `StageDeferred` while the slot is unavailable, `RetryRequested` for
    any other wait, `Failure` if a document failed or a partition has none, and `NoSuchDocument` if no partition has one.
    """
    tag_run(context)
    with deep_slot.ledger() as ledger:
        rule = _rule_in_force(ledger, names)
        present, missing = ledger.run(_documents_of, rule, selected)
        if not present:
            raise NoSuchDocument(_no_such_document(missing, rule))

        def work(settings: Settings) -> tuple[Settings, RunSummary]:
            return settings, _work(context, settings, ledger, names, present, stages)

        settings, summary = with_settings_in_force(deep_slot.settings, work)
        if summary.wait_seconds is None or missing:
            ledger.run(waiting_runs.remove, context.run.run_id)
        else:
            ledger.run(_note_wait, context.run.run_id, present, stages, summary)
        evaluate_problems(context.instance, ledger, names.keys, context)
        if summary.wait_seconds is None and not summary.failed:
            if rule.is_grouped:
                evaluate_partitions(context, settings, ledger, names.keys, selected)
            elif not missing:
                evaluate_served_model(context, settings, ledger, names.keys, present)
    reason = f"; waiting: {summary.wait_reason}" if summary.wait_reason else ""
    requested = len(present) if rule.is_grouped else len(selected)
    context.log.info(f"{summary.done} of {requested} documents are done{reason}")
    for problem in summary.failed[:NAMED]:
        context.log.warning(problem_line(problem))
    raise_for(summary, requested, missing, rule)


def _rule_in_force(ledger: Ledger, names: Names) -> PartitionRule:
    """The rule that groups documents into partitions. Waits while a scan changes it.

    Raises `Failure` if that scan was interrupted: some partitions lack documents, and the run would end without them.
    """
    now = ledger.run(assigning.in_force)
    if not now.is_complete:
        with outbox.holding_back(ledger):
            now = ledger.run(assigning.in_force)
    if not now.is_complete:
        raise dg.Failure(
            f"the change of the partitions to {now.rule} (OFFLOAD_PARTITION_BY) was interrupted: run the job "
            f"{names.scan_job}, then run this again",
            allow_retries=False,
        )
    return now.rule


def _documents_of(cur: Cursor, rule: PartitionRule, selected: Sequence[str]) -> tuple[list[str], list[str]]:
    """The documents present of these partitions, and the partitions without one."""
    if rule.is_grouped:
        found = assigning.documents_of(cur, selected)
        return found.documents, sorted(found.empty)
    missing = set(documents.missing_keys(cur, selected))
    return [key for key in selected if key not in missing], sorted(missing)


def _note_wait(cur: Cursor, run_id: str, present: Sequence[str], stages: Sequence[str], summary: RunSummary) -> None:
    reason = summary.wait_reason or "its documents are not due yet"
    waiting_runs.put(cur, run_id, present, stages, summary.slot, reason, summary.rest, summary.held_stage)


def _work(
    context: dg.AssetExecutionContext,
    settings: Settings,
    ledger: Ledger,
    names: Names,
    keys: Sequence[str],
    selected_stages: Sequence[str],
) -> RunSummary:
    """One attempt at the selected stages that these settings still have. Raises `OtherPipeline` before it calls a slot."""
    graph = stage_graph(settings)
    stages = [stage for stage in selected_stages if stage in graph.names]
    for removed in sorted(set(selected_stages) - set(stages)):
        context.log.warning(f"The stage {removed} was removed from the pipeline: there is nothing to do for it.")
    agree_with_up(ledger, pipeline_of(settings))  # before anything is written
    _redo_if_wanted(context, settings, ledger, keys, stages)
    reporter = EventReporter.in_step(context, settings, ledger, names)
    if not context.retry_number:  # also a run that is cancelled has a result; one that waits does not repeat it
        selected = context.selected_asset_check_keys
        evaluate_problems(context.instance, ledger, names.keys, context, always=selected)
    with reporting(reporter):
        summary = run_documents(
            settings, ledger, keys, stages, run_id=context.run.run_id, on_progress=parts_progress(context)
        )
    # A drain may have finished documents while this run waited. A backfill counts only what its own runs recorded.
    ledger.run(report_under_run, context.run.run_id, keys, stages)
    reporter.report_all()
    return summary


def _redo_if_wanted(
    context: dg.AssetExecutionContext, settings: Settings, ledger: Ledger, keys: Sequence[str], stages: Sequence[str]
) -> None:
    """Redo or retry the selected documents first if the run's tag says so. Raises `Failure` for another value."""
    value = context.run.tags.get(REDO_TAG)
    if value is None or context.retry_number:  # a run that waited must not redo what it has done
        return
    if value not in REDO_VALUES:
        raise dg.Failure(f"the tag {REDO_TAG} is {value!r}: set it to {listed(REDO_VALUES, 'or')}", allow_retries=False)
    if value == RETRY:
        retried = ledger.run(redo.try_again, stages, keys)
        context.log.info(f"retry: {counted(len(retried), 'work item')}")
        return
    selection = Selection(documents=tuple(keys))
    chosen, estimates = prepare_redo(
        settings, ledger, stages, selection, only_outdated=value == "outdated", before=_root_start(context)
    )
    for line in describe_estimates(estimates):
        context.log.info(f"redo: {line}")
    ledger.run(redo.redo, chosen)


def _root_start(context: dg.AssetExecutionContext) -> datetime | None:
    """When the run began that this one executes again; None if it is no re-execution. What that run redid is not redone."""
    root = context.run.tags.get(ROOT_RUN_ID_TAG)
    record = None if root is None else context.instance.get_run_record_by_id(root)
    # `create_timestamp` is in the time zone of the Postgres.
    return None if record is None or record.start_time is None else datetime.fromtimestamp(record.start_time, UTC)


def raise_for(
    summary: RunSummary, selected: int, missing: Sequence[str] = (), rule: PartitionRule = PER_DOCUMENT
) -> None:
    """Raise a failure or a wait for the remaining documents; return if none remain. A failure goes before a wait."""
    if summary.failed or missing:
        raise _failure(summary.failed, selected, missing, rule)
    if summary.wait_seconds is None:
        return
    if not summary.is_deferral:
        raise retry_after(summary.wait_seconds)
    raise StageDeferred(summary.wait_reason or "the slot is unavailable", summary.wait_seconds / 60)


def _failure(failed: Sequence[Unfinished], selected: int, missing: Sequence[str], rule: PartitionRule) -> dg.Failure:
    messages = []
    if failed:
        count = len({item.document for item in failed})
        messages.append(f"{count} of {selected} documents failed: {problem_line(failed[0])}")
        messages.append(f"and {len(failed) - 1} more (see the metadata)" if len(failed) > 1 else "")
    if missing:
        messages.append(_no_such_document(missing, rule))
    metadata: dict[str, Any] = {"failed": len(failed), "not documents": len(missing)}
    if failed:
        metadata["documents"] = problem_table(failed)
    return dg.Failure("; ".join(message for message in messages if message), metadata=metadata, allow_retries=False)


def _no_such_document(keys: Sequence[str], rule: PartitionRule) -> str:
    shown = ", ".join(escaped(key) for key in keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    if not rule.is_grouped:
        return f"no such document: {shown}"
    return (
        f"no such partition: {shown}. It has no documents now, or partition_by was changed ({rule.by}): reload the page"
    )


def _spec(
    node: StageNode,
    names: Names,
    partitions: dg.PartitionsDefinition[Any],
    code_version: str,
    description: str,
) -> dg.AssetSpec:
    return dg.AssetSpec(
        names.keys[node.name],
        deps=[names.keys[need] for need in node.needs],
        description=description,
        skippable=True,
        group_name=GROUP,
        code_version=code_version,
        kinds={"python" if node.upstream is None else "llm"},
        partitions_def=partitions,
    ).with_io_manager_key(names.of(LEDGER_IO))


def _description(stage: str, settings: Settings, names: Names) -> str:
    if stage == EXTRACT:
        return DESCRIPTIONS[stage].format(job=names.scan_job)
    own = settings.own_stages.get(stage)
    first = DESCRIPTIONS[stage] if own is None else own.description or f"Answers of the stage {stage}: {own.prompt}"
    return f"{first} {HOW_TO_RUN.format(job=names.drain_job)}"
