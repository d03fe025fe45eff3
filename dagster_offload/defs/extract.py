"""Job `extract`: extract the texts that are due with several steps at once, on the hosts of the job's executor.

Each step claims documents from the one shared ledger until none is left, so it does not matter how many steps run, where, or
when each begins. No value is passed between steps: their outputs need no storage that all hosts can reach.
"""

import contextlib
from collections.abc import Iterator

import dagster as dg
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import DBAPIError

from dagster_offload.defs.events import EventReporter, reporting
from dagster_offload.defs.names import EXTRACT_BEGIN, EXTRACT_END, EXTRACT_STEP, TERMS_TAG, Names
from dagster_offload.defs.progress import progress
from dagster_offload.defs.resources import DeepSlot, failures_as_messages
from dagster_offload.defs.runs import runs_on_this_host, tag_run
from dagster_offload.defs.shown.overview import report_overview
from dagster_offload.defs.shown.problems import evaluate_problems, name_problems
from dagster_offload.engine.extraction.host import Terms, refuse_other_terms, refuse_other_version, terms_here
from dagster_offload.engine.extraction.together import extract_together
from dagster_offload.engine.progress import Progress, ProgressCounts
from dagster_offload.errors import HostRefused
from dagster_offload.host.machine import host_name
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.work import claims
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.counts import counted

MOST_REPEATS = 1_000  # of a step, because its workers were stopped
STORAGE_UNAVAILABLE = (DagsterPostgresException, DBAPIError)


class ExtractConfig(dg.Config):
    """`steps`: how many steps extract at once: one for each host. Each uses all cores of its host, and most of its memory."""

    steps: int = 1


def build_extract_job(
    names: Names, resource: dg.ResourceDefinition, executor: dg.ExecutorDefinition | None
) -> dg.JobDefinition:
    """The job that extracts on several hosts. `executor` None: that of the code location."""
    begin, extract, end = _begin_op(names), _extract_op(names), _end_op(names)

    @dg.job(
        name=names.extract_job,
        description="Extracts the texts that are due with several steps, on the hosts of its executor. "
        f"`{names.scan_job}` finds the files.",
        executor_def=executor,
        resource_defs={"deep_slot": resource},
    )
    def extract_job() -> None:
        end(begin().map(extract).collect())

    return extract_job


def _begin_op(names: Names) -> dg.OpDefinition:
    @dg.op(
        name=names.of(EXTRACT_BEGIN),
        out=dg.DynamicOut(dg.Nothing),
        description="Starts `steps` steps that extract. All must work on the same ledger, with the same version and OCR.",
    )
    def begin_extraction(
        context: dg.OpExecutionContext, config: ExtractConfig, deep_slot: dg.ResourceParam[DeepSlot]
    ) -> Iterator[dg.DynamicOutput[None]]:
        if config.steps < 1:
            raise dg.Failure(f"steps is {config.steps}: it must be 1 or more", allow_retries=False)
        with failures_as_messages(), _ledger_of_first_step(context, deep_slot) as ledger:
            terms = terms_here(deep_slot.settings(), ledger)
            context.instance.add_run_tags(context.run.run_id, {TERMS_TAG: str(terms)})
            due = ledger.run(claims.count_due, [EXTRACT])
        context.log.info(f"{counted(due, 'document')} due for extraction; steps: {config.steps}")
        for number in range(1, config.steps + 1):
            yield dg.DynamicOutput(None, mapping_key=str(number))

    return begin_extraction


def _extract_op(names: Names) -> dg.OpDefinition:
    @dg.op(
        name=names.of(EXTRACT_STEP),
        ins={"begun": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        description="Claims documents from the ledger and extracts their texts, on all cores, until none is left.",
    )
    def extract_texts(context: dg.OpExecutionContext, deep_slot: dg.ResourceParam[DeepSlot]) -> None:
        if _has_ended(context):  # Celery has delivered the step again
            context.log.info("the run has ended: nothing to do")
            return
        with failures_as_messages():
            settings = deep_slot.settings()
            with deep_slot.unmigrated_ledger() as ledger:
                refuse_other_terms(terms_here(settings, ledger), _terms_of_run(context))
                reporter = EventReporter.in_step(context, settings, ledger, names)
                with reporting(reporter), _again_elsewhere_if_stopped(context):
                    counts = extract_together(
                        settings,
                        ledger,
                        context.run.run_id,
                        on_progress=_unless_unavailable(progress(context)),
                        stop_if_ended=lambda: _stop_if_ended(context),
                    )
        if counts.machine_fault is not None:
            context.log.warning(f"some documents still wait for extraction: {counts.machine_fault}")
        context.log.info(f"{host_name()}: {counts.done} done, {counts.failed} failed")
        context.add_output_metadata({"host": host_name(), "done": counts.done, "failed": counts.failed})

    return extract_texts


def _end_op(names: Names) -> dg.OpDefinition:
    @dg.op(
        name=names.of(EXTRACT_END),
        ins={"ended": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        description="Reports the texts of all steps to Dagster, and what failed.",
    )
    def end_extraction(context: dg.OpExecutionContext, deep_slot: dg.ResourceParam[DeepSlot]) -> None:
        with failures_as_messages():
            settings = deep_slot.settings()
            with deep_slot.unmigrated_ledger() as ledger:
                reporter = EventReporter.in_step(context, settings, ledger, names)
                reporter.report_all()
                found = ledger.run(status.problems_of_run, context.run.run_id)
                by_host = ledger.run(status.done_by_host, context.run.run_id, EXTRACT)
                left = ledger.run(claims.count_due, [EXTRACT])
                evaluate_problems(context.instance, ledger, names.keys)
                report_overview(context.instance, ledger, names.keys, settings)
        context.add_output_metadata(
            {
                **name_problems(context.log, found),
                "done": sum(by_host.values()),
                "done by host": dg.MetadataValue.json(by_host),
                "still due": left,
            }
        )

    return end_extraction


@contextlib.contextmanager
def _ledger_of_first_step(context: dg.OpExecutionContext, deep_slot: DeepSlot) -> Iterator[Ledger]:
    """The ledger. Only a run on its own host migrates it: a worker may be of another version than the running `up`."""
    if runs_on_this_host(context):
        tag_run(context)
        with deep_slot.ledger() as ledger:
            yield ledger
    else:
        with deep_slot.unmigrated_ledger() as ledger:
            refuse_other_version(ledger)
            yield ledger


def _terms_of_run(context: dg.OpExecutionContext) -> Terms:
    """What the first step of the run has written into its tags."""
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is None or TERMS_TAG not in run.tags:
        raise HostRefused(f"run {context.run.run_id} was not begun: launch the whole job, not one of its steps")
    return Terms.read(run.tags[TERMS_TAG])


@contextlib.contextmanager
def _again_elsewhere_if_stopped(context: dg.OpExecutionContext) -> Iterator[None]:
    """Let another worker repeat the step if this worker is stopped while the run goes on. Without this, the run would fail."""
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, SystemExit):  # Celery's workers answer SIGTERM with the second
        if runs_on_this_host(context) or _has_ended(context):
            raise
        raise dg.RetryRequested(max_retries=MOST_REPEATS, seconds_to_wait=0) from None


def _unless_unavailable(report: Progress) -> Progress:
    """`report`, except while Dagster's storage is unavailable: a host that is cut off keeps its texts and waits."""

    def report_if_available(counts: ProgressCounts) -> None:
        with contextlib.suppress(*STORAGE_UNAVAILABLE):
            report(counts)

    return report_if_available


def _stop_if_ended(context: dg.OpExecutionContext) -> None:
    """Raise if the run has ended, or is being cancelled: Celery does not stop a step that runs on another host."""
    if _has_ended(context):
        raise dg.DagsterExecutionInterruptedError


def _has_ended(context: dg.OpExecutionContext) -> bool:
    """Whether the run has ended or is being cancelled. False while Dagster's storage is unavailable."""
    try:
        run = context.instance.get_run_by_id(context.run.run_id)
    except STORAGE_UNAVAILABLE:
        return False
    return run is None or run.is_finished or run.status is dg.DagsterRunStatus.CANCELING
