"""Writes docs/commands.md, the reference of all commands, from their own help. Run it with `make commands`."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from dagster_offload.cli import main as program

FILE = Path(__file__).parents[1] / "docs" / "commands.md"
NAME = "dagster-offload"
HEAD = f"""\
# Commands

Written by `make commands` from the help of each command: `{NAME} COMMAND --help` shows the same. Every command also has
`--quiet`, `--verbose` and `--help`. [The terminal](terminal.md) explains how to name a document, and [Output of --json](json.md)
has the keys and all exit codes.
"""
EVERYWHERE = {"quiet", "verbose", "help"}
# Options that say the same in many commands: they are explained once, and each command names those that it has.
SHARED = ("library", "deep_url", "deep_model", "home", "config", "as_json")
SHARED_HEADING = "Options of many commands"


def content() -> str:
    """The page as it should be."""
    commands = dict(_commands(program, (NAME,), click.Context(program, info_name=NAME)))
    contents = "".join(
        f"- [`{name}`](#{_anchor(name)}): {_first_sentence(command)}\n"
        for name, command in commands.items()
        if name.count(" ") == 1
    )
    sections = [_section(name, command) for name, command in commands.items()]
    return "\n".join([HEAD, contents, f"## {SHARED_HEADING}\n", _table(_shared(commands)), *sections])


def _shared(commands: Mapping[str, click.Command]) -> list[str]:
    """The rows of the shared options. Raises `ValueError` for one that commands explain in different words."""
    rows = {name: set[str]() for name in SHARED}
    for name, command in commands.items():
        for param in command.params:
            if param.name in rows:
                rows[param.name].add(_row(param, click.Context(command, info_name=name)))
    if differing := [name for name, found in rows.items() if len(found) != 1]:
        raise ValueError(f"not the same in all commands: {differing}")
    return [row for found in rows.values() for row in found]


def _commands(
    group: click.Group, names: tuple[str, ...], context: click.Context
) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise LookupError(name)
        yield " ".join((*names, name)), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*names, name), click.Context(command, info_name=name, parent=context))


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    level = "#" * (1 + name.count(" "))
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"{level} {name}\n", f"```text\n{usage}\n```\n", *_paragraphs(command)]
    rows = [_row(param, context) for param in command.params if param.name not in {*EVERYWHERE, *SHARED}]
    if any(rows):
        parts.append(_table(rows))
    if shared := [f"`{param.opts[0]}`" for param in command.params if param.name in SHARED]:
        parts.append(f"Also {', '.join(shared)} ([explained above](#{_anchor(SHARED_HEADING)})).\n")
    return "\n".join(parts)


def _table(rows: Iterable[str]) -> str:
    return "| Option | |\n|---|---|\n" + "".join(rows)


def _paragraphs(command: click.Command) -> Iterator[str]:
    """The help as Markdown. What the terminal shows unwrapped (`\\b`) becomes a block."""
    for text in (command.help or "", command.epilog or ""):
        for paragraph in re.split(r"\n\s*\n|(?=\x08\n)", inspect.cleandoc(text)):
            lines = paragraph.strip("\n")
            if lines.startswith("\b"):
                yield f"```text\n{lines.removeprefix(chr(8)).strip(chr(10))}\n```\n"
            elif lines.strip():
                yield f"{' '.join(lines.split())}\n"


def _row(param: click.Parameter, context: click.Context) -> str:
    """The row of one option; empty for an argument, which the text above explains."""
    record = None if isinstance(param, click.Argument) else param.get_help_record(context)
    if record is None:
        return ""
    option, text = (part.replace("|", "\\|") for part in record)
    return f"| `{option}` | {' '.join(text.split())} |\n"


def _first_sentence(command: click.Command) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def main() -> int:
    """Write the page."""
    FILE.write_text(content(), encoding="utf-8")
    print(f"wrote {FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
