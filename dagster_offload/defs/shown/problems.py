"""Documents that need a person: by name in the run that met them, and in an asset check on each stage."""

import logging
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import dagster as dg

from dagster_offload.defs.names import REDO_TAG, RETRY
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.events import last_reports
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.reports.after_failure import step_after_failure
from dagster_offload.ledger.slots import holds
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.text.counts import agreeing, counted
from dagster_offload.text.plain_text import escaped

NAMED = 20  # documents with a log line of their own
SHOWN = 100  # rows of a table
CHECK = "documents_that_need_you"


class Problem(Protocol):
    """A work item that does not become done by itself."""

    @property
    def document(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def state(self) -> State: ...
    @property
    def reason(self) -> str | None: ...


def next_step(document: str, stage: str, state: State, reason: str | None) -> str:
    """What a person can do about a work item in this state. The document's name is quoted for a shell.

    A project without `up` has no command that reaches its ledger.
    """
    name = shlex.quote(document)
    again = f"materialize it with the run tag {REDO_TAG}: {RETRY}, or, with `up`, run dagster-offload retry {name}"
    match state:
        case State.GONE:
            return "The file no longer exists: scan the library."
        case State.DEFERRED if "(check " in (reason or ""):
            return "Correct the setting that the reason names. The document is processed afterwards."
        case State.DEFERRED:
            return "Nothing to do: it is processed when the slot answers."
        case _:
            return step_after_failure(
                stage, state, reason, look=f"with `up`, dagster-offload explain {name}", again=again
            )


def problem_table(problems: Sequence[Problem]) -> dg.TableMetadataValue:
    """The first of these problems as a table."""
    rows = [
        dg.TableRecord(
            {
                "document": escaped(each.document),
                "stage": each.stage,
                "state": each.state.value,
                "reason": escaped(each.reason or ""),
                "next step": escaped(next_step(each.document, each.stage, each.state, each.reason)),
            }
        )
        for each in problems[:SHOWN]
    ]
    return dg.MetadataValue.table(rows)


def problem_line(problem: Problem) -> str:
    """A problem on one line."""
    step = next_step(problem.document, problem.stage, problem.state, problem.reason)
    return escaped(f"{problem.document}: {problem.stage} {problem.state.value} ({problem.reason}). {step}")


def name_problems(log: logging.Logger, problems: Sequence[Problem]) -> dict[str, dg.MetadataValue]:
    """Write a warning for each of the first problems of a run, and return the metadata that names them."""
    if not problems:
        return {}
    for problem in problems[:NAMED]:
        log.warning(problem_line(problem))
    if len(problems) > NAMED:
        log.warning(f"{len(problems) - NAMED} more need you: see the table in this step's metadata")
    return {"documents that need you": problem_table(problems)}


def problem_checks(keys: Mapping[str, dg.AssetKey]) -> list[dg.AssetCheckSpec]:
    """The check of each stage's asset."""
    return [
        dg.AssetCheckSpec(
            CHECK,
            asset=key,
            description="Lists the documents that failed or were quarantined, with the next step for each, and names the slots "
            "that hold the stage.",
            blocking=False,
        )
        for key in keys.values()
    ]


def evaluate_problems(
    instance: dg.DagsterInstance,
    ledger: Ledger,
    asset_keys: Mapping[str, dg.AssetKey],
    step: dg.AssetExecutionContext | None = None,
    always: Collection[dg.AssetCheckKey] = (),
) -> None:
    """Evaluate the check of each stage whose problems have changed, or that was not evaluated for a day, and those in `always`.

    It is also evaluated after each materialization: Dagster shows an older evaluation as "not evaluated".
    The events belong to no run, so that they are not removed with one. The exception are the checks that the run of `step`
    selects: Dagster expects their results in that run, and shows them as skipped if there is none.
    """
    newest = {
        record.asset_entry.asset_key: record.asset_entry.last_materialization_storage_id
        for record in instance.get_asset_records(list(asset_keys.values()))
    }
    for stage, key in asset_keys.items():
        subject = f"problems of {stage}"
        count, found, held = ledger.run(_problems_of, stage)
        value = last_reports.digest(
            [
                newest.get(key),
                count,
                *((each.document, each.state, each.reason) for each in found),
                *((hold.slot, hold.since.isoformat()) for hold in held),
            ]
        )
        check = dg.AssetCheckKey(key, CHECK)
        if check not in always and ledger.run(last_reports.is_reported, subject, value):
            continue
        evaluation = _evaluation(stage, key, count, found, held)
        if step is not None and check in step.selected_asset_check_keys:
            step.log_event(evaluation)
        else:
            instance.report_runless_asset_event(evaluation)
        ledger.run(last_reports.mark_reported, subject, value)


def _problems_of(cur: Cursor, stage: str) -> tuple[int, list[status.Problem], list[Hold]]:
    held = [hold for hold in holds.list_holds(cur) if hold.stage == stage]
    return status.count_problems(cur, stage), status.problems(cur, SHOWN, stage), held


def _evaluation(
    stage: str, key: dg.AssetKey, count: int, found: Sequence[status.Problem], held: Sequence[Hold]
) -> dg.AssetCheckEvaluation:
    # The document of a run may need a person in an earlier stage, which has a check of its own.
    needs = f"{counted(count, 'document')} {agreeing('need', count)} you" if found else "No document needs you"
    says = [] if held and not found else [f"{needs} in the stage {stage}."]
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=CHECK,
        passed=not found and not held,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join([*says, *(escaped(f"{hold}.") for hold in held)]),
        # Dagster plots the count, so it is also said that none is left.
        metadata={"count": count, **({"documents": problem_table(found)} if found else {})},
    )
