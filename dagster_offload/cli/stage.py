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
from dagster_offload.cli.options import deep_options, document_key, home_option, json_option

if TYPE_CHECKING:
    from dagster_offload.engine.trying import Tried
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.settings import Settings
    from dagster_offload.stages.llm_stage import LLMStage

NOT_GOOD_ENOUGH = 1  # `check`: below --at-least

prompt_option = click.option(
    "--prompt-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Ask with the prompt in this file instead of the stage's own.",
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
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@prompt_option
@home_option
@deep_options
@json_option
def try_files(name: str, files: tuple[Path, ...], *, prompt_file: Path | None, as_json: bool) -> None:
    """Ask the stage NAME about FILES, and show the answers, what they cost, and how they differ from the records.

    Exit codes: 0 = answered; 75 = the slot is unavailable; 2 = wrong usage or settings.

    \b
    dagster-offload stage try classify letter.pdf
    dagster-offload stage try payment invoice.pdf --prompt-file new.txt --json
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.engine.trying import try_stage
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.settings import load_settings

    settings = load_settings()
    stage = _stage(settings, name, prompt_file)
    texts = [(str(file), _text_of(settings, file)) for file in files]
    with open_ledger(settings) as ledger:
        stored = {str(file): _stored(ledger, document_key(settings.library, str(file)), name) for file in files}
        show = (lambda _: None) if as_json else (lambda tried: _print(tried, stored[tried.document]))
        tried = try_stage(settings, ledger, stage, texts, show)
    if as_json:
        print_json({"tried": [asdict(each) | {"stored": stored[each.document]} for each in tried]})


@command.command("sample")
@click.argument("name", shell_complete=complete_stage)
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="How many documents.")
@click.option("--seed", type=int, help="The same seed gives the same documents. Default: a new one, which is printed.")
@click.option("--html", "html", type=click.Path(path_type=Path), help="Also write the answers to this page.")
@prompt_option
@home_option
@deep_options
@json_option
def sample(
    name: str, *, count: int, seed: int | None, html: Path | None, prompt_file: Path | None, as_json: bool
) -> None:
    """Ask the stage NAME about a random sample of the library.

    \b
    dagster-offload stage sample payment -n 20 --html payments.html
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.engine.trying import try_stage
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.ledger.reports import texts
    from dagster_offload.settings import load_settings

    settings = load_settings()
    stage = _stage(settings, name, prompt_file)
    with open_ledger(settings) as ledger:
        ids = ledger.run(texts.ids_with_text)
        seed = random.randrange(100_000) if seed is None else seed  # noqa: S311 - a sample, no secret
        chosen = random.Random(seed).sample(ids, min(count, len(ids)))  # noqa: S311 - a sample, no secret
        if not chosen:
            raise Refusal("no document has a text yet: run dagster-offload scan first")
        inputs = [ledger.run(texts.text_of, each) for each in chosen]
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


@command.command("check")
@click.argument("name", shell_complete=complete_stage)
@click.option(
    "--expected",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='A line a document: {"document": "a.pdf", "category": "invoice"}.',
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
    dagster-offload stage check classify --expected expected.jsonl --prompt-file new.txt
    """
    from dagster_offload.cli.console import table, to_terminal
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.comparing import score, total

    settings = load_settings()
    stage, wanted = _stage(settings, name, prompt_file), _expected(expected, name, _fields(settings, name))
    with open_ledger(settings) as ledger:
        if stored:
            answers = {document: _stored(ledger, document, name) for document in wanted}
        else:
            answers = _asked(settings, ledger, stage, list(wanted))
    scores, wrong = score(wanted, answers)
    share = total(scores)
    if as_json:
        fields = {each.field: {"right": each.right, "expected": each.expected} for each in scores}
        print_json({"share": share, "fields": fields, "wrong": [{"document": d, "field": f} for d, f in wrong]})
    else:
        rows = table("field", "right", "expected", "share")
        for each in scores:
            rows.add_row(each.field, str(each.right), str(each.expected), f"{each.share:.0%}")
        to_terminal(rows)
        for document, field in wrong[:20]:
            say(
                f"wrong: {document}: {field} is {(answers.get(document) or {}).get(field)!r}, not {wanted[document][field]!r}"
            )
        click.echo(f"{share:.1%} of all expected values are right")
    if at_least is not None and share < at_least:
        raise click.exceptions.Exit(NOT_GOOD_ENOUGH)


def _stage(settings: "Settings", name: str, prompt_file: Path | None) -> "LLMStage":
    """The stage, with another prompt if one is given. Raises `Refusal` for a name that is not a stage of a slot."""
    from dagster_offload.stages.catalog import llm_stages
    from dagster_offload.stages.own import own_stage

    stages = llm_stages(settings)
    if name not in stages:
        near = difflib.get_close_matches(name, stages, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise Refusal(f"there is no stage {name!r}{hint}: use one of {', '.join(stages)}")
    if prompt_file is None:
        return stages[name]
    if name not in settings.own_stages:
        raise Refusal(f"--prompt-file is for stages of your own; {name} is built in")
    prompt = _read(prompt_file).strip()
    if not prompt:
        raise Refusal(f"{prompt_file} is empty")
    return own_stage(name, settings.own_stages[name].model_copy(update={"prompt": prompt}))


def _text_of(settings: "Settings", file: Path) -> str:
    """The text of a file. Raises `Refusal` if it has none."""
    from dagster_offload.errors import ExtractionFailed
    from dagster_offload.extraction.extractor import Extractor
    from dagster_offload.extraction.ocr.tesseract import find_reader

    if not file.exists():
        raise Refusal(f"no such file: {file}")
    with Extractor(reader=find_reader(settings.ocr, settings.ocr_languages)) as extractor:
        try:
            found = extractor.extract(file)
        except ExtractionFailed as failed:
            raise Refusal(f"{file}: {failed.message}") from None
    if not found.text:
        raise Refusal(f"{file} has no text ({found.outcome})")
    return found.text


def _stored(ledger: "Ledger", document: str, stage: str) -> dict[str, Any] | None:
    from dagster_offload.ledger.reports import records
    from dagster_offload.ledger.reports.records import Selection

    ids = ledger.run(records.select, Selection(documents=(document,)))
    found = ledger.run(lambda cur: list(records.read(cur, ids)))
    return found[0].stages[stage].value if found and stage in found[0].stages else None


def _asked(
    settings: "Settings", ledger: "Ledger", stage: "LLMStage", documents: list[str]
) -> dict[str, dict[str, Any] | None]:
    from dagster_offload.engine.trying import try_stage
    from dagster_offload.ledger.reports import texts

    known = ledger.run(texts.texts_of, documents)
    if missing := [document for document in documents if document not in known]:
        raise Refusal(f"no text of {missing[0]!r} is known: is it in the library, and has it been scanned?")
    return {each.document: each.value for each in try_stage(settings, ledger, stage, list(known.items()))}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{file} cannot be read as text in UTF-8: {error}") from None


def _fields(settings: "Settings", name: str) -> list[str]:
    """The fields of a stage's answer."""
    from dagster_offload.stage_spec.relations import BUILT_IN_FIELDS

    own = settings.own_stages.get(name)
    return list(BUILT_IN_FIELDS[name]) if own is None else [field.name for field in own.answer]


def _expected(file: Path, stage: str, known: list[str]) -> dict[str, dict[str, Any]]:
    """The expected fields by document. Raises `Refusal` with the line that is wrong."""
    expected: dict[str, dict[str, Any]] = {}
    # Not `splitlines`: a text in JSON may hold other ends of lines, such as U+2028.
    for number, line in enumerate(_read(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            document = fields.pop("document")
        except (ValueError, KeyError, AttributeError, TypeError):
            raise Refusal(
                f'{file}:{number}: write an object with the document and its fields: {{"document": "a.pdf", ...}}'
            ) from None
        for field in fields.keys() - set(known):
            near = difflib.get_close_matches(field, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise Refusal(
                f"{file}:{number}: the answer of {stage} has no field {field!r}{hint}: use one of {', '.join(known)}"
            )
        expected[str(document)] = fields
    if not expected:
        raise Refusal(f"{file} names no document")
    return expected


def _print(tried: "Tried", stored: dict[str, Any] | None) -> None:
    from dagster_offload.cli.formatting import say

    calls = "1 call" if tried.calls == 1 else f"{tried.calls} calls"
    cost = f"{calls}, {tried.seconds:.1f} s, {tried.tokens_in:,} tokens in, {tried.tokens_out:,} out"
    say(f"{tried.document}: {cost}")
    if tried.value is None:
        say(f"  no usable answer: {tried.fault}")
        return
    new = _lines(tried.value)
    if stored is None:
        say("\n".join(f"  {line}" for line in new))
    elif _lines(stored) == new:
        say("\n".join([*(f"  {line}" for line in new), "  the same as the record"]))
    else:
        say("\n".join(difflib.unified_diff(_lines(stored), new, "record", "now", lineterm="")))


def _lines(value: dict[str, Any]) -> list[str]:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).splitlines()


def _print_totals(tried: "list[Tried]") -> None:
    answered = [each for each in tried if each.value is not None]
    seconds = sum(each.seconds for each in tried)
    click.echo(f"{len(answered)} of {len(tried)} answered, {seconds / len(tried):.1f} s a document")


def _write_page(stage: str, tried: "list[Tried]", file: Path) -> None:
    from dagster_offload.records import export
    from dagster_offload.records.columns import Column

    names = dict.fromkeys(name for each in tried for name in (each.value or {}) if name != "quotes")
    # Below the stage's name, because a field may be called `document`, too.
    fields = (Column(f"{stage}.{name}", "json", stage, name) for name in names)
    rows = ({"document": each.document, "state": each.fault or "done", stage: each.value} for each in tried)
    every = (Column("document", "string"), Column("state", "string"), *fields)
    export.write_file(rows, every, "html", file)
    click.echo(f"written to {file}", err=True)
