"""`dagster-offload stage`: try a stage on files, on a sample, or against expected answers, before ten thousand calls."""

import difflib
import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dagster_offload.cli import HintingGroup
from dagster_offload.cli.completion import complete_stage
from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.options import TypedPath, deep_options, home_option, json_option
from dagster_offload.cli.stage_inputs import (
    inputs_of,
    inputs_of_files,
    read_expected,
    refuse_unknown_documents,
    sample_inputs,
    stage_named,
    texts_of,
)
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from dagster_offload.engine.trying import Tried
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.settings import Settings
    from dagster_offload.stages.llm_stage import LLMStage

NOT_GOOD_ENOUGH = 1  # `check`: below --at-least; `try` and `sample`: no usable answer about a document

prompt_option = click.option(
    "--prompt-file",
    type=TypedPath(exists=True, dir_okay=False),
    help="Ask with the prompt in this file instead of the stage's. Not for built-in stages.",
)


@click.group("stage", cls=HintingGroup)
def command() -> None:
    """Try a stage before it is asked about every document. Nothing is recorded.

    \b
    dagster-offload stage list
    dagster-offload stage try payment invoice.pdf --prompt-file new.txt
    dagster-offload stage sample payment -n 20
    dagster-offload stage check payment --expected expected.jsonl --at-least 0.9
    """


@command.command("list")
@home_option
@json_option
def list_stages(*, as_json: bool) -> None:
    """List the stages of this pipeline, in order, with what each reads and needs."""
    from dagster_offload.cli.console import table, to_terminal
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.catalog import recipes, stage_graph

    settings = load_settings()
    known = recipes(settings)
    stages: list[dict[str, Any]] = [
        {"stage": node.name, "reads": node.upstream or "the file", "when": node.condition, "recipe": known[node.name]}
        for node in stage_graph(settings)
    ]
    if as_json:
        print_json({"stages": stages})
        return
    rows = table("stage", "reads", "when", "recipe")
    for each in stages:
        rows.add_row(each["stage"], each["reads"], json.dumps(each["when"]) if each["when"] else "", each["recipe"])
    to_terminal(rows)


@command.command("try")
@click.argument("name", shell_complete=complete_stage)
@click.argument("files", nargs=-1, required=True, type=TypedPath())
@prompt_option
@home_option
@deep_options
@json_option
def try_files(name: str, files: tuple[Path, ...], *, prompt_file: Path | None, as_json: bool) -> None:
    """Ask the stage NAME about FILES, and show the answers, what they cost, and how they differ from the records.

    A file may be a path, or the name of a document as in `explain`. The question is asked even if the stage's condition
    is not met; the command then says so. Of an answer that is not usable, its beginning is shown as the model wrote it.
    A file that cannot be read does not keep the others from being asked about.

    Exit codes: 0 = answered; 1 = no usable answer about at least one document; 75 = the slot or Postgres is unavailable;
    2 = wrong usage or settings, or a file that cannot be read.

    \b
    dagster-offload stage try classify letter.pdf
    dagster-offload stage try payment invoice.pdf --prompt-file new.txt --json
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.engine.trying import try_stage
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.ledger.reports import texts
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.catalog import stage_graph

    settings = load_settings()
    stage = stage_named(settings, name, prompt_file)
    node = stage_graph(settings).node(name)
    # Files are read before the ledger is opened. Other names are those of documents.
    read, refused = texts_of(settings, node, files)
    if len(refused) == len(files):
        raise Refusal(refused[0], more=refused[1:])
    with open_ledger(settings) as ledger:
        inputs, more = inputs_of_files(settings, ledger, node, read)
        refused += more
        stored = {key: _stored(settings, ledger, key, name) for key in inputs}
        applies = ledger.run(texts.conditions_met, node.condition, list(inputs))

        def show(tried: "Tried") -> None:
            if not as_json:
                _print(tried, stored[tried.document])
                if applies.get(tried.document) is False:
                    condition = json.dumps(node.condition)
                    say(f"  a drain would not ask {name} about this document: its condition {condition} is not met")

        tried = try_stage(settings, ledger, stage, list(inputs.items()), show) if inputs else []
    shown = [
        asdict(each) | {"stored": _like(each.value, stored[each.document]), "applies": applies.get(each.document)}
        for each in tried
    ]
    if refused:
        raise Refusal(refused[0], more=refused[1:], done={"tried": shown})
    if as_json:
        print_json({"tried": shown})
    _exit_if_unanswered(tried)


@command.command("sample")
@click.argument("name", shell_complete=complete_stage)
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="How many documents.")
@click.option("--seed", type=int, help="The same seed gives the same documents. Default: a new one, which is printed.")
@click.option("--html", "html", type=TypedPath(), help="Also write the answers to this page.")
@prompt_option
@home_option
@deep_options
@json_option
def sample(
    name: str, *, count: int, seed: int | None, html: Path | None, prompt_file: Path | None, as_json: bool
) -> None:
    """Ask the stage NAME about a random sample of the documents that it is about: those that meet its condition.

    Exit codes: 0 = answered; 1 = no usable answer about at least one document; 75 = the slot or Postgres is unavailable;
    2 = wrong usage or settings.

    \b
    dagster-offload stage sample payment -n 20 --html payments.html
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.engine.trying import try_stage
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.ledger.reports import texts
    from dagster_offload.records.export import refuse_in_library
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.catalog import stage_graph

    settings = load_settings()
    stage = stage_named(settings, name, prompt_file)
    if html is not None:
        refuse_in_library(html, settings.library)
    with open_existing_ledger(settings) as ledger:
        ids = ledger.run(texts.ids_with_text)
        seed = random.randrange(100_000) if seed is None else seed  # noqa: S311 - a sample, no secret
        random.Random(seed).shuffle(ids)  # noqa: S311 - a sample, no secret
        inputs = sample_inputs(ledger, stage_graph(settings).node(name), ids, count)
        tried = try_stage(
            settings, ledger, stage, inputs, (lambda _: None) if as_json else (lambda each: _print(each, None))
        )
    if html is not None:
        _write_page(name, tried, html)
    if as_json:
        print_json({"tried": [asdict(each) for each in tried]})
    else:
        _print_totals(tried)
        click.echo(f"the same documents again: --seed {seed}")
    _exit_if_unanswered(tried)


@command.command("check")
@click.argument("name", shell_complete=complete_stage)
@click.option(
    "--expected",
    required=True,
    type=TypedPath(exists=True, dir_okay=False),
    help='One line per document: {"document": "a.pdf", "category": "invoice"}.',
)
@click.option("--at-least", type=click.FloatRange(0, 1), help="Exit with 1 if the share of right values is below this.")
@click.option("--stored", is_flag=True, help="Compare the records as they are, without a call.")
@prompt_option
@home_option
@deep_options
@json_option
def check(
    name: str, *, expected: Path, at_least: float | None, stored: bool, prompt_file: Path | None, as_json: bool
) -> None:
    """Compare the answers of the stage NAME with expected ones, field by field: two prompts or two models can be compared.

    \b
    dagster-offload stage check classify --expected expected.jsonl --at-least 0.9
    dagster-offload stage check payment --expected expected.jsonl --prompt-file new.txt
    """
    from dagster_offload.cli.console import table, to_terminal
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.answers.comparing import score, total

    settings = load_settings()
    stage, wanted = stage_named(settings, name, prompt_file), read_expected(expected, settings, name)
    with open_existing_ledger(settings) as ledger:
        refuse_unknown_documents(ledger, wanted, expected)
        if stored:
            answers = {document: _stored(settings, ledger, document, name) for document in wanted}
        else:
            answers = _asked(settings, ledger, stage, list(wanted))
    scores, wrong = score(wanted, answers)
    share = total(scores)
    faults = [(d, f, (answers.get(d) or {}).get(f), wanted[d][f]) for d, f in wrong]
    if as_json:
        fields = {each.field: {"right": each.right, "expected": each.expected} for each in scores}
        names = ("document", "field", "answer", "expected")
        print_json(
            {"share": share, "fields": fields, "wrong": [dict(zip(names, each, strict=True)) for each in faults]}
        )
    else:
        rows = table("field", "right", "expected", "share")
        for each in scores:
            rows.add_row(each.field, str(each.right), str(each.expected), f"{each.share:.0%}")
        to_terminal(rows)
        for document, field, answer, right in faults[:20]:
            say(f"wrong: {document}: {field} is {_value(answer)}, not {_value(right)}")
        click.echo(f"{share:.1%} of all expected values are right")
    if at_least is not None and share < at_least:
        raise click.exceptions.Exit(NOT_GOOD_ENOUGH)


def _value(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _stored(settings: "Settings", ledger: "Ledger", document: str, stage: str) -> dict[str, Any] | None:
    from dagster_offload.ledger.reports import records
    from dagster_offload.ledger.reports.records import Selection
    from dagster_offload.records.columns import in_order_of_stage

    ids = ledger.run(records.select, Selection(documents=(document,)))
    found = ledger.run(lambda cur: list(records.read(cur, ids)))
    value = found[0].stages[stage].value if found and stage in found[0].stages else None
    return None if value is None else in_order_of_stage(settings, stage, value)


def _asked(
    settings: "Settings", ledger: "Ledger", stage: "LLMStage", documents: list[str]
) -> dict[str, dict[str, Any] | None]:
    from dagster_offload.engine.trying import try_stage
    from dagster_offload.stages.catalog import stage_graph

    inputs = inputs_of(ledger, stage_graph(settings).node(stage.name), documents)
    return {each.document: each.value for each in try_stage(settings, ledger, stage, list(inputs.items()))}


def _print(tried: "Tried", stored: dict[str, Any] | None) -> None:
    from dagster_offload.cli.formatting import say

    cost = f"{counted(tried.calls, 'call')}, {tried.seconds:.1f} s, {tried.tokens_in:,} tokens in, {tried.tokens_out:,} out"
    say(f"{tried.document}: {cost}")
    if tried.value is None:
        say(f"  no usable answer: {tried.fault}")
        if tried.answer is not None:
            say("  the model wrote:")
            say("\n".join(f"    {line}" for line in (tried.answer or "(nothing)").splitlines()))
        return
    new = _lines(tried.value, tried.value)
    if stored is None:
        say("\n".join(f"  {line}" for line in new))
    elif (old := _lines(stored, tried.value)) == new:
        say("\n".join([*(f"  {line}" for line in new), "  the same as the record"]))
    else:
        say("\n".join(difflib.unified_diff(old, new, "record", "now", lineterm="")))


def _lines(value: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    from dagster_offload.cli.record_lines import record_lines

    return list(record_lines(_like(answer, value) or {}))


def _like(answer: dict[str, Any] | None, stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """A stored record with its fields in the order of the answer: the ledger does not keep it."""
    if answer is None or stored is None:
        return stored
    return {name: stored[name] for name in (*answer, *sorted(stored)) if name in stored}


def _exit_if_unanswered(tried: "list[Tried]") -> None:
    if any(each.value is None for each in tried):
        raise click.exceptions.Exit(NOT_GOOD_ENOUGH)


def _print_totals(tried: "list[Tried]") -> None:
    answered = [each for each in tried if each.value is not None]
    seconds = sum(each.seconds for each in tried)
    click.echo(f"{len(answered)} of {len(tried)} answered, {seconds / len(tried):.1f} s a document")


def _write_page(stage: str, tried: "list[Tried]", file: Path) -> None:
    from dagster_offload.records import as_html, export
    from dagster_offload.records.columns import Column

    names = dict.fromkeys(name for each in tried for name in (each.value or {}) if name != "quotes")
    # Below the stage's name, because a field may be called `document`, too.
    fields = (Column(f"{stage}.{name}", "json", stage, name) for name in names)
    rows = (
        {"document": each.document, "state": "failed" if each.fault else None, "reason": each.fault, stage: each.value}
        for each in tried
    )
    every = (Column("document", "string"), Column("state", "string"), Column("reason", "string"), *fields)
    with export.open_text(file) as out:
        as_html.write(rows, every, out, heading=f"Answers of the stage {stage}", note="A sample: nothing is recorded.")
    click.echo(f"written to {file}", err=True)
