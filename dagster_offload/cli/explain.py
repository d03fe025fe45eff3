"""`dagster-offload explain DOCUMENT`: the state of one document and everything that happened to it."""

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dagster_offload.cli.completion import complete_document
from dagster_offload.cli.find_document import find_document
from dagster_offload.cli.in_force import read_in_force
from dagster_offload.cli.options import document_key, home_option, json_option
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.counts import agreeing
from dagster_offload.text.lists import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from dagster_offload.cli.waits import Wait
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.ledger.reports.explanation import ExplainedItem, Explanation
    from dagster_offload.ledger.sinks.deliveries import DeliveryState
    from dagster_offload.ledger.work.corrections import Correction
    from dagster_offload.ledger.work.refused_answers import RefusedAnswer
    from dagster_offload.library.left_out import LeftOut
    from dagster_offload.settings import Settings


@click.command("explain")
@click.argument("document", shell_complete=complete_document)
@home_option
@json_option
@click.option(
    "--answer",
    "with_answers",
    is_flag=True,
    help="Also print the last answers that were refused, as the model wrote them.",
)
def command(document: str, *, as_json: bool, with_answers: bool) -> None:
    """Show the state of one document and everything that happened to it: each change with time, worker and reason.

    Calls about the parts of a long document are summed up; --json has them all.

    \b
    dagster-offload explain letters/2024/landlord.pdf
    dagster-offload explain ~/Documents/letters/2024/landlord.pdf --json
    dagster-offload explain landlord                     a part of the name is enough
    dagster-offload explain letters/2024/landlord.pdf --answer
    dagster-offload explain films/holiday.zip            why a file is left out, and what would change that
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.core.opening import open_ledger_as_it_is
    from dagster_offload.ledger.reports.explanation import explain
    from dagster_offload.ledger.sinks import deliveries
    from dagster_offload.ledger.work import corrections, refused_answers
    from dagster_offload.library.placeholders import downloaded_path
    from dagster_offload.stages.catalog import recipes, stage_graph

    settings = read_in_force().settings
    key = document_key(settings.library, document)
    key = downloaded_path(key) or key
    slots = [slot.name for slot in settings.slots.of_drains]
    with open_ledger_as_it_is(settings) as ledger:
        found = ledger.run(explain, key, slots, recipes(settings))
        left_out = None if found is not None and found.is_present else _why_left_out(settings, key)
        if found is None and left_out is None:
            key = find_document(settings, ledger, document)
            found = ledger.run(explain, key, slots, recipes(settings))
        stages = stage_graph(settings).names
        waiting = _waits(settings, ledger, found, stages)
        refused = ledger.run(refused_answers.of_document, key)
        corrected = ledger.run(corrections.list_corrections, key)
        sent = ledger.run(deliveries.of_document, key)
    if as_json:
        answers = {"refused_answers": [asdict(answer) for answer in refused]} if with_answers else {}
        about = {"document": key, "is_present": False} if found is None else _as_object(found, waiting)
        ours = {"corrections": [asdict(each) for each in corrected], "sinks": [asdict(each) for each in sent]}
        print_json(about | {"left_out": left_out and asdict(left_out)} | ours | answers)
        return

    if left_out is not None:
        say(f"{key}: left out: {left_out.reason}. To include it: {left_out.advice}")
    if found is None:
        return
    _print(found, waiting, stages, is_left_out=left_out is not None)
    _print_corrections_and_sinks(settings, corrected, sent)
    if with_answers:
        _print_answers(refused)
    elif refused:
        click.echo("\nSome answers were refused. To see what the model wrote, add --answer.")


def _waits(
    settings: "Settings", ledger: "Ledger", found: "Explanation | None", stages: "Collection[str]"
) -> "dict[str, Wait]":
    """What the waiting work items of a document wait for, by stage of the pipeline."""
    from dagster_offload.cli.waits import WAITING_STATES, read_facts, wait_of

    waiting = [item for item in found.items if item.stage in stages and item.state in WAITING_STATES] if found else []
    if not waiting:
        return {}
    facts = read_facts(settings, ledger, [item.stage for item in waiting])
    return {item.stage: wait_of(item, facts) for item in waiting}


def _as_object(found: "Explanation", waiting: "Mapping[str, Wait]") -> dict[str, Any]:
    """The document in the object of `--json`. Of an item that waits, it has what is printed."""
    shown = asdict(found)
    for item in shown["items"]:
        for fact in ("due_at", "first_needs", "same_in_work"):
            del item[fact]
        wait = waiting.get(item["stage"])
        item |= {
            "is_due": wait is not None and wait.is_due,
            "waits_for": wait.in_full if wait is not None and not wait.is_due else None,
            "waits_until": wait and wait.until,
        }
    return shown


def _print_corrections_and_sinks(
    settings: "Settings", corrected: "list[Correction]", sent: "list[DeliveryState]"
) -> None:
    from dagster_offload.cli.console import to_terminal
    from dagster_offload.cli.correct import corrections_table
    from dagster_offload.cli.sink import deliveries_table

    if corrected:
        click.echo()
        to_terminal(corrections_table(settings, corrected))
    if sent:
        click.echo()
        to_terminal(deliveries_table(sent))


def _why_left_out(settings: "Settings", key: str) -> "LeftOut | None":
    """Why the library's file or folder `key` is not a document; None if it is not left out, or if there is no such file."""
    from dagster_offload.engine.scan import walk_rules
    from dagster_offload.errors import ScanRefused
    from dagster_offload.library.walk import why_left_out

    if settings.library is None:
        return None
    try:
        return why_left_out(settings.library, key, walk_rules(settings))
    except ScanRefused:  # the library is not there, but what the ledger knows is shown
        return None


def _print(
    found: "Explanation", waiting: "Mapping[str, Wait]", stages: "Collection[str]", *, is_left_out: bool
) -> None:
    from dagster_offload.cli.console import state_style, styled, table, to_terminal
    from dagster_offload.cli.explained_calls import calls_table
    from dagster_offload.cli.formatting import say

    gone = "the file is no longer a document" if is_left_out else "the file is gone from the library"
    say(found.document + ("" if found.is_present else f"  ({gone}; its results are kept)"))
    click.echo(f"SHA-256 {found.digest or 'not read yet'}\n")
    items = table("stage", "state", "attempts", "deferrals", "due", "why")
    for item in found.items:
        counts = (str(item.attempts), str(item.deferrals))
        state = styled(_state(item), state_style(item.state))
        wait = waiting.get(item.stage)  # only stages of the pipeline
        nothing = "" if item.stage in stages else "no longer in the pipeline"
        items.add_row(item.stage, state, *counts, wait.short if wait else nothing, _why(found, item))
    to_terminal(items)
    for line in (*_waiting_lines(waiting), *_next_steps(found, stages)):
        say(line)
    click.echo()
    history = table("when", "stage", "from", "to", "by", "why")
    for step in found.transitions:
        by = f"{step.worker_kind} {step.worker_id} on {step.host}" if step.worker_id else ""
        history.add_row(
            f"{step.at.astimezone():%Y-%m-%d %H:%M:%S}",
            step.stage,
            step.from_state or "",
            step.to_state,
            by,
            step.reason or "",
        )
    to_terminal(history)
    if found.calls:
        click.echo()
        to_terminal(calls_table(found.calls))


def _print_answers(refused: "list[RefusedAnswer]") -> None:
    from dagster_offload.cli.formatting import say

    if not refused:
        click.echo("\nNo answer about this document was refused.")
    for answer in refused:
        click.echo(f"\n{answer.at.astimezone():%Y-%m-%d %H:%M:%S}  {answer.stage}  {answer.code}")
        say(answer.answer or "(empty)")


def _state(item: "ExplainedItem") -> str:
    """The state, with the outcome unless it is ok, whether it is outdated, and the progress of a long document."""
    state = item.state if item.outcome in (None, "ok") else f"{item.state} ({item.outcome})"
    state += ", outdated" if item.is_outdated else ""
    unit = "pages" if item.stage == EXTRACT else "parts"
    return f"{state}, {item.parts_done} of {item.parts_total} {unit}" if item.parts_total else str(state)


def _waiting_lines(waiting: "Mapping[str, Wait]") -> "Iterator[str]":
    """One line for all stages that wait for the same, and one for those that are due."""
    for (is_due, reason), group in _grouped(waiting).items():
        names = listed(group)
        yield f"{names}: {reason}" if is_due else f"{names} {agreeing('wait', len(group))} for {reason}"


def _next_steps(found: "Explanation", stages: "Collection[str]") -> "Iterator[str]":
    """One line for each stage that failed, and one for all that are outdated: what a person can do."""
    from dagster_offload.ledger.core.rows import State
    from dagster_offload.ledger.reports.after_failure import step_after_failure

    name = shlex.quote(found.document)
    look, again = f"dagster-offload explain {name} --answer", f"dagster-offload retry {name}"
    for item in found.items:
        if item.stage in stages and item.state in (State.FAILED, State.QUARANTINED):
            yield f"{item.stage}: {step_after_failure(item.stage, item.state, item.reason, look=look, again=again)}"
    if outdated := [item.stage for item in found.items if item.is_outdated]:
        made = f"{agreeing('are', len(outdated))} outdated (made with another prompt, options, model or readers)"
        yield f"{listed(outdated)} {made}: dagster-offload redo {name} --outdated"


def _grouped(waiting: "Mapping[str, Wait]") -> "dict[tuple[bool, str], list[str]]":
    groups: dict[tuple[bool, str], list[str]] = {}
    for stage, wait in waiting.items():
        if wait.reason:
            groups.setdefault((wait.is_due, wait.reason), []).append(stage)
    return groups


def _why(found: "Explanation", item: "ExplainedItem") -> str:
    if item.outcome == "not_applicable":
        return "its condition (`when`) is not met"
    if item.state == "done" and item.first_document not in (None, found.document):
        saved = "its text is used" if item.stage == EXTRACT else "no call was needed"
        return f"same content as {item.first_document}: {saved}"
    if item.state == "claimed":  # its reason says why it waited before
        return ""
    why = item.reason or item.extract_reason or (f"answered by {item.served_model}" if item.served_model else "")
    return f"{why}; doubtful: {', '.join(item.doubtful)}" if item.doubtful else why
